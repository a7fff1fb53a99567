"""A sweep's packs as array jobs of SLURM, through submitit; asked about with squeue alone, never with sacct."""

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from s3bench.errors import UserError

ASK_EVERY = 10.0  # seconds between two looks at the queue
ALIVE = {
    *("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "COMPLETING", "STAGE_OUT", "RESIZING"),
    *("REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"),
}  # states of a job that may run yet; any other one, or none, is that of a job that is gone
ORDINARY = {"None", "Resources", "Priority", "JobArrayTaskLimit", "BeginTime", "Cleaning", "Prolog"}  # reasons to wait


class Slurm:
    """The jobs of one sweep, which SLURM knows by their common name."""

    most_jobs = 1000  # of an array, unless the site allows more

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self._settings, self._folder, self._name = settings, folder, folder.name
        self._missed: Counter[int] = Counter()
        self._asked = time.monotonic()
        self._told: set[str] = set()

    @staticmethod
    def check(_: dict[str, Any]) -> None:
        """Raise UserError where there is no SLURM, or not what is needed to use it."""
        if find_spec("submitit") is None or find_spec("hydra_plugins.hydra_submitit_launcher") is None:
            raise UserError("a launcher on SLURM needs Hydra's submitit launcher: pip install 's3bench[slurm]'")
        for program in ("sbatch", "squeue", "scancel"):
            if shutil.which(program) is None:
                raise UserError(f"there is no {program} on the PATH; start a sweep on SLURM where sbatch works")
        try:
            _run("squeue", "--me", "-h")
        except OSError as error:
            raise UserError(f"SLURM does not answer: {error}") from error

    @staticmethod
    def cores(settings: dict[str, Any]) -> int | None:
        """The cores of a job; None if it has GPUs, which then say how many runs it takes at a time."""
        gpus = any(settings.get(key) for key in ("gpus_per_node", "gpus_per_task", "gres"))
        return None if gpus else settings["cpus_per_task"] or 1

    def hydra(self) -> dict[str, Any]:
        """The settings of Hydra's launcher."""
        return {
            **self._settings,
            "name": self._name,
            "submitit_folder": str(self._folder / "jobs" / "%j"),
            "stderr_to_stdout": True,
            # no module in the user's folder may stand in for one of the package's
            "setup": ["export PYTHONSAFEPATH=1", *(self._settings["setup"] or [])],
        }

    def gone(
        self,
        packs: set[int],
        submission: subprocess.Popen[bytes],
        say: Callable[[str], None],
        every: float = ASK_EVERY,
    ) -> dict[int, str]:
        """Those of the packs whose job will not run any more, with its state; none until it is time to ask.

        A job is gone only when it was missed twice: SLURM may leave one out for a moment, as while it is requeued.
        `say` takes, once each, the reasons for which jobs wait unless they are ordinary ones.
        """
        if submission.poll() is None or time.monotonic() - self._asked < every:
            return {}
        try:
            answer = _run("squeue", "--me", "-h", "-r", "-t", "all", f"--name={self._name}", "-o", "%i|%T|%r")
        except OSError as error:  # the jobs may run on: the records will say
            self._tell(f"SLURM does not answer, the records are watched on: {error}", say)
            return {}
        finally:
            self._asked = time.monotonic()
        jobs = [line.split("|", 2) for line in answer.splitlines()]
        states = {int(job.partition("_")[2] or 0): state for job, state, _ in jobs}
        for reason in sorted({reason for _, state, reason in jobs if state == "PENDING"} - ORDINARY):
            self._tell(f"jobs wait: {reason}", say)
        for pack in packs:
            self._missed[pack] = 0 if states.get(pack) in ALIVE else self._missed[pack] + 1
        lost = {pack for pack in packs if self._missed[pack] > 1 or states.get(pack) == "COMPLETED"}
        return {pack: states.get(pack, "UNKNOWN") for pack in lost}

    def _tell(self, news: str, say: Callable[[str], None]) -> None:
        if news not in self._told:
            say(news)
            self._told.add(news)

    def cancel(self, submission: subprocess.Popen[bytes]) -> None:
        """Cancel all jobs; they get as long as the site's KillWait to end their workers."""
        submission.wait()
        _run("scancel", f"--name={self._name}")

    def log(self, pack: int) -> Path:
        """The output of a pack's job, or the folder where it may be."""
        jobs = self._folder / "jobs"
        number = str(pack)  # of an array's task; the only job has none
        files = [file for file in jobs.glob("*/*_log.out") if file.parent.name.partition("_")[2] in (number, "")]
        return files[0] if files else jobs


def _run(*command: str) -> str:
    """What a program of SLURM answers. Raises OSError with what it complained of."""
    try:
        # In a session of its own: a second Ctrl-C must not stop the scancel of the first.
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=60, start_new_session=True, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} does not end") from error
    if answer.returncode:
        raise OSError(" ".join(answer.stderr.strip().splitlines()[-1:]) or f"{command[0]} failed")
    return answer.stdout
