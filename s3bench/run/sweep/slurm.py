"""Runs a sweep's packs as array jobs of SLURM, through submitit. Asks about them with squeue, never with sacct."""

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from s3bench.errors import UserError

ASK_EVERY = 10.0  # seconds between two looks at the queue
ALIVE = {
    *("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "COMPLETING", "STAGE_OUT", "RESIZING"),
    *("REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"),
}  # states of a job that may still run; a job with any other state, or without one, is gone
ORDINARY = {"None", "Resources", "Priority", "JobArrayTaskLimit", "BeginTime", "Cleaning", "Prolog"}  # reasons to wait


class Slurm:
    """Holds the jobs of one sweep, which SLURM knows by their common name. See cluster.Cluster."""

    max_jobs: ClassVar[int] = 1000  # of an array, unless the site allows more

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self._settings, self._folder, self._name = settings, folder, folder.name
        self._missed: Counter[int] = Counter()
        self._asked = time.monotonic()
        self._said: set[str] = set()

    @staticmethod
    def check(_: dict[str, Any]) -> None:
        """Raise UserError if SLURM, or what is needed to use it, is not available."""
        if find_spec("submitit") is None or find_spec("hydra_plugins.hydra_submitit_launcher") is None:
            raise UserError("a launcher on SLURM needs Hydra's submitit launcher: pip install 's3bench[slurm]'")
        for program in ("sbatch", "squeue", "scancel"):
            if shutil.which(program) is None:
                raise UserError(
                    f"{program} is not on the PATH; start a sweep on SLURM from a machine where sbatch works"
                )
        try:
            _run("squeue", "--me", "-h")
        except OSError as error:
            raise UserError(f"SLURM does not answer: {error}") from error

    @staticmethod
    def cores(settings: dict[str, Any]) -> int | None:
        """Return how many cores a job has; None if it has GPUs."""
        gpus = any(settings.get(key) for key in ("gpus_per_node", "gpus_per_task", "gres"))
        return None if gpus else settings["cpus_per_task"] or 1

    def hydra(self) -> dict[str, Any]:
        """Return the settings of Hydra's launcher."""
        return {
            **self._settings,
            "name": self._name,
            "submitit_folder": str(self._folder / "jobs" / "%j"),
            "stderr_to_stdout": True,
            # a module in the user's folder must not shadow one of the package's
            "setup": ["export PYTHONSAFEPATH=1", *(self._settings["setup"] or [])],
        }

    def gone(
        self,
        packs: set[int],
        submission: subprocess.Popen[bytes],
        say: Callable[[str], None],
        every: float = ASK_EVERY,
    ) -> dict[int, str]:
        """Return the state of each job that will not run any more; none of them until it is time to ask again.

        A job counts as gone once it was missing twice, because SLURM may leave a job out for a moment, as while it is
        requeued. `say` gets each unusual reason for which jobs wait, once.
        """
        if submission.poll() is None or time.monotonic() - self._asked < every:
            return {}
        try:
            answer = _run("squeue", "--me", "-h", "-r", "-t", "all", f"--name={self._name}", "-o", "%i|%T|%r")
        except OSError as error:  # the jobs may continue; their records will tell
            self._say_once(f"SLURM does not answer, so only the records are watched: {error}", say)
            return {}
        finally:
            self._asked = time.monotonic()
        jobs = [line.split("|", 2) for line in answer.splitlines()]
        states = {int(job.partition("_")[2] or 0): state for job, state, _ in jobs}
        for reason in sorted({reason for _, state, reason in jobs if state == "PENDING"} - ORDINARY):
            self._say_once(f"jobs wait: {reason}", say)
        for pack in packs:
            self._missed[pack] = 0 if states.get(pack) in ALIVE else self._missed[pack] + 1
        lost = {pack for pack in packs if self._missed[pack] > 1 or states.get(pack) == "COMPLETED"}
        return {pack: states.get(pack, "UNKNOWN") for pack in lost}

    def _say_once(self, news: str, say: Callable[[str], None]) -> None:
        if news not in self._said:
            say(news)
            self._said.add(news)

    def cancel(self, submission: subprocess.Popen[bytes]) -> None:
        """Cancel all jobs; they have as long as the site's KillWait to end their workers."""
        submission.wait()
        _run("scancel", f"--name={self._name}")

    def output(self, pack: int) -> Path:
        """Return the output of a pack's job, or the folder where it may be."""
        jobs = self._folder / "jobs"
        number = str(pack)  # of an array's task; a single job has none
        files = [file for file in jobs.glob("*/*_log.out") if file.parent.name.partition("_")[2] in (number, "")]
        return files[0] if files else jobs


def _run(*command: str) -> str:
    """Return what a program of SLURM prints. Raises OSError with its error message."""
    try:
        # In a session of its own, so that a second Ctrl-C does not stop the scancel of the first.
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=60, start_new_session=True, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} does not answer") from error
    if answer.returncode:
        raise OSError(" ".join(answer.stderr.strip().splitlines()[-1:]) or f"{command[0]} failed")
    return answer.stdout
