"""Trains a sweep's runs on a cluster: hands them over in packs, several runs to a job, and watches their records."""

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from s3bench import record
from s3bench.console import say
from s3bench.errors import UserError, unknown
from s3bench.run.config.schema import RunConfig
from s3bench.run.sweep import cluster_job, cluster_submit
from s3bench.run.sweep.ray_tasks import Ray
from s3bench.run.sweep.slurm import Slurm

OURS = ("hydra_launcher", "runs_per_job", "jobs", "runs_per_gpu")  # keys of a launcher that are not the cluster's own
PACKS = ".packs"  # in the results folder: what the jobs need, and what they print
LOOK_EVERY = 1.0  # seconds between two looks at the records
ENDING = 90.0  # seconds that jobs have to end after their last run, or after they were cancelled

Pack = list[tuple[RunConfig, Path]]  # the runs of one job, with the folders of their records


class Cluster(Protocol):
    """What a kind of cluster offers to a sweep. An instance holds the jobs of one sweep, one job for each pack.

    Args:
        settings: the keys of the launcher's YAML that are the cluster's own.
        folder: where the packs lie; its name is unique to the sweep.

    Attributes:
        max_jobs: how many jobs a sweep may have.
    """

    max_jobs: ClassVar[int]

    def __init__(self, settings: dict[str, Any], folder: Path) -> None: ...

    @staticmethod
    def check(settings: dict[str, Any], /) -> None:
        """Check that jobs can be submitted, before anything is written.

        Raises:
            UserError: the cluster or a package is missing, does not answer, or could never start such a job.
        """

    @staticmethod
    def cores(settings: dict[str, Any], /) -> int | None:
        """Return how many cores a job has; None if it has GPUs, which then decide how many runs train at a time."""

    def hydra(self) -> dict[str, Any]:
        """Return the settings of Hydra's launcher."""

    def gone(
        self, packs: set[int], submission: subprocess.Popen[bytes], say: Callable[[str], None], every: float = ..., /
    ) -> dict[int, str]:
        """Return the state of each job that will not run any more.

        Args:
            packs: the numbers of the packs that are asked about.
            submission: the process that hands the packs over, see cluster_submit.py.
            say: takes a line of news, such as why jobs wait.
            every: seconds between two questions to the cluster; in between, no job is reported.

        Returns:
            States by the number of the pack.
        """

    def cancel(self, submission: subprocess.Popen[bytes], /) -> None:
        """Cancel all jobs. They may take up to ENDING seconds to end their workers."""

    def output(self, pack: int, /) -> Path:
        """Return the file, or the folder, that has the output of a pack's job."""


CLUSTERS: dict[str, type[Cluster]] = {"submitit_slurm": Slurm, "ray": Ray}  # by the name of Hydra's launcher


def check(launcher: dict[str, Any]) -> None:
    """Raise UserError if the launcher's cluster is not available."""
    _kind(launcher).check(own_settings(launcher))


def train_all(runs: Pack, console: Console) -> None:
    """Train all runs on the cluster of their launcher. Their records tell how they ended.

    Raises UserError if the cluster does not accept the jobs.
    """
    launcher = runs[0][0].launcher
    packs = pack_runs(runs)
    folder = Path.cwd() / runs[0][0].results_dir / PACKS / f"s3bench-{uuid.uuid4().hex[:8]}"
    cluster = _kind(launcher)(own_settings(launcher), folder)
    write_packs(folder, packs, cluster.hydra())
    watch = Watch(console, cluster, folder, packs, launcher["hydra_launcher"])
    try:
        watch.watch()
    finally:
        if not watch.alive and not watch.lost:
            shutil.rmtree(folder, ignore_errors=True)
            if not any(folder.parent.iterdir()):
                folder.parent.rmdir()


def _kind(launcher: dict[str, Any]) -> type[Cluster]:
    name = launcher["hydra_launcher"]
    if name not in CLUSTERS:
        raise unknown("launcher.hydra_launcher", str(name), CLUSTERS)
    return CLUSTERS[name]


def own_settings(launcher: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a launcher that are the cluster's own."""
    return {key: value for key, value in launcher.items() if key not in OURS}


def pack_runs(runs: Pack) -> list[Pack]:
    """Return the runs in packs of `launcher.runs_per_job`, or in larger ones if there would be too many jobs.

    Raises UserError for a wrong `launcher.runs_per_job`.
    """
    launcher = runs[0][0].launcher
    kind, size = _kind(launcher), launcher["runs_per_job"]
    if not isinstance(size, int) or size < 1:
        raise UserError(f"launcher.runs_per_job is {size}; it must be a positive integer")
    cores, jobs = kind.cores(own_settings(launcher)), launcher["jobs"]
    if jobs is None and cores is not None:
        jobs = max(1, cores // max(config.threads for config, _ in runs))
    runs = [(replace(config, launcher={**launcher, "jobs": jobs}), folder) for config, folder in runs]
    size = max(size, -(-len(runs) // kind.max_jobs))  # rounded up
    return [runs[start : start + size] for start in range(0, len(runs), size)]


def write_packs(folder: Path, packs: list[Pack], settings: dict[str, Any]) -> None:
    """Write the packs, and the config with which Hydra starts them."""
    config = {
        "defaults": [
            *({f"override hydra/{logging}": "none"} for logging in ("job_logging", "hydra_logging")),
            "_self_",
        ],
        "hydra": {
            "launcher": settings,
            "sweep": {"dir": str(folder), "subdir": "."},
            "output_subdir": None,
            "sweeper": {"params": {"pack": f"range(0,{len(packs)})"}},
        },
        "folder": str(folder),
        "pack": "???",
    }
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for number, runs in enumerate(packs):
        cluster_job.write(folder, number, [run for run, _ in runs])


class Watch:
    """Hands the packs over and reports the outcomes of their runs, as long as a job may still train them."""

    def __init__(self, console: Console, cluster: Cluster, folder: Path, packs: list[Pack], launcher: str) -> None:
        self.console, self.cluster, self.folder, self.packs, self.launcher = console, cluster, folder, packs, launcher
        self.alive = set(range(len(packs)))  # packs whose job may still run
        self.lost = False  # whether a job ended before its runs were over
        self.waiting = {run_folder: config for runs in packs for config, run_folder in runs}  # runs without an outcome
        self.runs = len(self.waiting)
        self.over: set[Path] = set()
        self.errors = {run_folder: record.failed_at(run_folder) for run_folder in self.waiting}  # the known failures
        self.failures = dict.fromkeys(self.waiting, 0)  # how often each run has failed since

    def watch(self) -> None:
        """Return when all runs have an outcome, or when no job is left. Cancels the jobs if interrupted."""
        fail_fast = any(config.fail_fast for config in self.waiting.values())
        command = [sys.executable, "-P", "-m", "s3bench.run.sweep.cluster_submit", str(self.folder), self.launcher]
        with (self.folder / "launcher.log").open("wb") as log:
            self.submission = subprocess.Popen(
                command,
                env={"RAY_USAGE_STATS_ENABLED": "0", **os.environ, "PYTHONSAFEPATH": "1"},
                stdin=subprocess.PIPE,  # the process ends when the other end of it is closed
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the sweep, which then cancels the jobs
            )
        self._print(f"{self.folder.name}: {len(self.packs)} jobs, at most {len(self.packs[0])} runs in each")
        try:
            failed = self._look_until_over(fail_fast)
        except BaseException:
            self._cancel()
            raise
        if failed and fail_fast:
            self._cancel()
        self._let_end()

    def _look_until_over(self, fail_fast: bool) -> bool:
        """Look at the records repeatedly; return whether a run failed on its last try."""
        failed = False
        columns = (BarColumn(bar_width=20), TextColumn("{task.description}"))
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            bar = progress.add_task("", total=self.runs)
            while self.waiting and self.alive and not (failed and fail_fast):
                began = time.monotonic()
                if self.submission.poll() == 2:
                    self.alive = set()
                    raise UserError(f"the jobs were not accepted: {cluster_submit.mistake(self.folder)}")
                gone = self.cluster.gone(self.alive, self.submission, self._print)
                failed |= self._report_outcomes()
                self._report_gone(gone)
                text = f"{len(self.over)}/{self.runs} runs, {len(self.alive)} jobs"
                progress.update(bar, completed=len(self.over), description=text)
                if self.waiting and self.alive:
                    time.sleep(max(LOOK_EVERY, 5 * (time.monotonic() - began)))
        return failed

    def _report_outcomes(self) -> bool:
        """Print the new outcomes; return whether one of them is a failure that is not retried."""
        failed = False
        for folder, config in list(self.waiting.items()):
            failure, seconds = record.failed_at(folder), ""
            if record.has_result(folder):
                seconds = f"  {record.load_record(folder)['seconds']:.1f} s"
            elif failure != self.errors[folder] and failure is not None:
                self.errors[folder] = failure
                self.failures[folder] += 1
                if self.failures[folder] <= config.retries:
                    self._print(f"{folder.name}  {record.outcome(folder)}; try {self.failures[folder] + 1} follows")
                    continue
                failed = True
            else:
                continue
            self.over.add(folder)
            del self.waiting[folder]
            self._print(f"[{len(self.over)}/{self.runs}] {folder.name}  {record.outcome(folder)}{seconds}")
        return failed

    def _report_gone(self, gone: dict[int, str]) -> None:
        """Print which of the jobs that are gone left runs untrained."""
        self.alive -= set(gone)
        for number, state in sorted(gone.items()):
            left = [folder for _, folder in self.packs[number] if record.state(folder) == record.MISSING]
            if left:
                self.lost = True
                why = cluster_job.failure(self.folder, number) or f"its output is in {self.cluster.output(number)}"
                runs = len(self.packs[number])
                self._print(f"job {number} is gone ({state}); {len(left)} of its {runs} runs are missing; {why}")

    def _print(self, line: str) -> None:
        say(line, console=self.console)

    def _cancel(self) -> None:
        if self.alive:
            self._print("cancelling the jobs")
            self.cluster.cancel(self.submission)
            self._let_end()

    def _let_end(self) -> None:
        """Wait until the jobs have ended, for ENDING seconds at most."""
        until = time.monotonic() + ENDING
        while self.alive and time.monotonic() < until:
            self.alive -= set(self.cluster.gone(self.alive, self.submission, self._print, 1.0))
            if self.alive:
                time.sleep(0.2)
