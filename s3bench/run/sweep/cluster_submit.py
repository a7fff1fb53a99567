"""The process that hands a sweep's packs to Hydra's launcher.

    python -P -m s3bench.run.sweep.cluster_submit FOLDER submitit_slurm|ray

FOLDER holds the packs and sweep.yaml, Hydra's config. On SLURM the process ends when the jobs are submitted; on Ray it
lives as long as they do. Exit code 2, with a line in FOLDER/submit.error: the cluster did not take them.
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

STOPPING = 60.0  # seconds that Ray's packs get to end their workers


def submit(folder: Path, launcher: str) -> int:
    """Hand all packs over; returns the exit code."""
    sys.argv[1:] = ["--multirun", "--config-dir", str(folder), "--config-name", "sweep", f"hydra/launcher={launcher}"]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise, do not print
    jobs: list[Any] = []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have turned off
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    try:
        if launcher == "ray":
            _remember(jobs)
        else:
            _leave_watching_to_the_sweep()
        cluster_job.main()
    except KeyboardInterrupt:
        _cancel(jobs)
        return 130
    except Exception as error:
        (folder / "submit.error").write_text(_said_by(error), encoding="utf-8")
        return 1 if jobs else 2
    return 0


def _end_with_the_sweep() -> None:
    """Interrupt this process when the sweep is gone, however it went: only the sweep holds the other end of stdin."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGINT)


def mistake(folder: Path) -> str:
    """What the process said before it ended with an error."""
    file = folder / "submit.error"
    return file.read_text(encoding="utf-8") if file.exists() else f"the launcher ended; see {folder / 'launcher.log'}"


def _leave_watching_to_the_sweep() -> None:
    """Have submitit's jobs give their results at once: to wait for them it would ask sacct, which many sites lack."""
    slurm: Any = import_module("submitit.slurm.slurm")
    slurm.SlurmJob.results = lambda _: [JobReturn(status=JobStatus.COMPLETED)]


def _remember(jobs: list[Any]) -> None:
    """Keep what Ray knows its tasks by, for cancelling them: Hydra's launcher keeps it to itself."""
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


def _said_by(error: Exception) -> str:
    """What the cluster's programs said, without Python's part in it."""
    text = one_line(error)
    if isinstance(error, ConnectionError):  # Ray's, also where only a token is missing
        text += "; a cluster that asks for a token takes it with RAY_AUTH_MODE=token in the environment"
    _, sbatch, said = text.partition("sbatch: error: ")
    return f"{sbatch}{said}" if said else text


if __name__ == "__main__":
    sys.exit(submit(Path(sys.argv[1]), sys.argv[2]))
