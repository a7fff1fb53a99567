"""Hands a sweep's packs to Hydra's launcher, in a process of its own.

    python -P -m s3bench.run.sweep.cluster_submit FOLDER submitit_slurm|ray

FOLDER holds the packs and sweep.yaml, Hydra's config. On SLURM the process ends once the jobs are submitted; on Ray it
lives as long as they do. Exit code 2, with a line in FOLDER/submit.error: the cluster did not accept the jobs.
"""

import os
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from s3bench.errors import one_line
from s3bench.run.sweep import cluster_job

STOPPING = 60.0  # seconds that Ray's packs have to end their workers


def submit(folder: Path, launcher: str) -> int:
    """Hand all packs over; return the exit code."""
    sys.argv[1:] = ["--multirun", "--config-dir", str(folder), "--config-name", "sweep", f"hydra/launcher={launcher}"]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors instead of printing them
    jobs: list[Any] = []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have disabled it
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    try:
        if launcher == "ray":
            _remember_jobs(jobs)
        else:
            _do_not_wait_for_jobs()
        cluster_job.main()
    except KeyboardInterrupt:
        _cancel(jobs)
        return 130
    except Exception as error:
        (folder / "submit.error").write_text(_message(error), encoding="utf-8")
        return 1 if jobs else 2
    return 0


def _end_with_the_sweep() -> None:
    """Interrupt this process once the sweep is gone, however it ended: only the sweep holds the other end of stdin."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGINT)


def mistake(folder: Path) -> str:
    """Return why the process ended with an error."""
    file = folder / "submit.error"
    return file.read_text(encoding="utf-8") if file.exists() else f"the launcher ended; see {folder / 'launcher.log'}"


def _do_not_wait_for_jobs() -> None:
    """Have submitit's jobs return at once: to wait for them it would ask sacct, which many sites lack.

    The sweep watches their records instead.
    """
    slurm: Any = import_module("submitit.slurm.slurm")
    slurm.SlurmJob.results = lambda _: [JobReturn(status=JobStatus.COMPLETED)]


def _remember_jobs(jobs: list[Any]) -> None:
    """Collect Ray's references to its tasks, which are needed to cancel them: Hydra's launcher hides them."""
    core: Any = import_module("hydra_plugins.hydra_ray_launcher._core")
    start = core.launch_job_on_ray

    def remembered(*arguments: Any) -> Any:
        jobs.append(start(*arguments))
        return jobs[-1]

    core.launch_job_on_ray = remembered


def _cancel(jobs: list[Any]) -> None:
    if jobs:
        import ray

        for job in jobs:
            ray.cancel(job)
        ray.wait(jobs, num_returns=len(jobs), timeout=STOPPING)


def _message(error: Exception) -> str:
    """Return what the cluster's programs printed, without Python's part of the message."""
    text = one_line(error)
    if isinstance(error, ConnectionError):  # Ray's; it is also raised if only a token is missing
        text += "; if the cluster requires a token, set RAY_AUTH_MODE=token in the environment"
    _, sbatch, rest = text.partition("sbatch: error: ")
    return f"{sbatch}{rest}" if rest else text


if __name__ == "__main__":
    sys.exit(submit(Path(sys.argv[1]), sys.argv[2]))
