"""A sweep's runs on a cluster: handed over in packs, several runs to a job, and watched through their records."""

import os
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from s3bench import record
from s3bench.errors import UserError, unknown
from s3bench.run.config.schema import RunConfig
from s3bench.run.sweep import cluster_job, cluster_submit
from s3bench.run.sweep.ray_tasks import Ray
from s3bench.run.sweep.slurm import Slurm

CLUSTERS: dict[str, type[Slurm] | type[Ray]] = {"submitit_slurm": Slurm, "ray": Ray}  # by the name of Hydra's launcher
OURS = ("hydra_launcher", "runs_per_job", "jobs", "runs_per_gpu")  # keys of a launcher that are none of the cluster's
PACKS = ".packs"  # in the results folder: what the jobs need and what they print
LOOK_EVERY = 1.0  # seconds between two looks at the records
ENDING = 90.0  # seconds that jobs get to end, after their last run or once cancelled

Pack = list[tuple[RunConfig, Path]]


def check(launcher: dict[str, Any]) -> None:
    """Raise UserError if the launcher's cluster is not there."""
    _kind(launcher).check(_settings(launcher))


def train_all(runs: Pack, console: Console) -> None:
    """Train all runs on the cluster of their launcher: the records say what became of them.

    Raises UserError if the cluster does not take the jobs.
    """
    launcher = runs[0][0].launcher
    kind, settings = _kind(launcher), _settings(launcher)
    packs = _packs(runs, kind, settings)
    folder = Path.cwd() / runs[0][0].results_dir / PACKS / f"s3bench-{uuid.uuid4().hex[:8]}"
    cluster = kind(settings, folder)
    _write(folder, packs, cluster.hydra())
    watch = Watch(console, cluster, folder, packs, launcher["hydra_launcher"])
    try:
        watch.watch()
    finally:
        if not watch.alive and not watch.lost:
            shutil.rmtree(folder, ignore_errors=True)
            if not any(folder.parent.iterdir()):
                folder.parent.rmdir()


def _kind(launcher: dict[str, Any]) -> type[Slurm] | type[Ray]:
    name = launcher["hydra_launcher"]
    if name not in CLUSTERS:
        raise unknown("launcher.hydra_launcher", str(name), CLUSTERS)
    return CLUSTERS[name]


def _settings(launcher: dict[str, Any]) -> dict[str, Any]:
    """The keys that are the cluster's."""
    return {key: value for key, value in launcher.items() if key not in OURS}


def _packs(runs: Pack, kind: type[Slurm] | type[Ray], settings: dict[str, Any]) -> list[Pack]:
    """The runs in packs of `launcher.runs_per_job`, or larger ones where there would be too many."""
    launcher = runs[0][0].launcher
    size = launcher["runs_per_job"]
    if not isinstance(size, int) or size < 1:
        raise UserError(f"launcher.runs_per_job is {size}; it must be a whole number above 0")
    cores, jobs = kind.cores(settings), launcher["jobs"]
    if jobs is None and cores is not None:
        jobs = max(1, cores // max(config.threads for config, _ in runs))
    runs = [(replace(config, launcher={**launcher, "jobs": jobs}), place) for config, place in runs]
    size = max(size, -(-len(runs) // kind.most_jobs))
    return [runs[start : start + size] for start in range(0, len(runs), size)]


def _write(folder: Path, packs: list[Pack], settings: dict[str, Any]) -> None:
    """Write the packs, and the config that Hydra starts them with."""
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
    """Hands the packs over, and says what becomes of the runs, while there are jobs that may train them."""

    def __init__(self, console: Console, cluster: Slurm | Ray, folder: Path, packs: list[Pack], launcher: str) -> None:
        self.console, self.cluster, self.folder, self.packs, self.launcher = console, cluster, folder, packs, launcher
        self.alive = set(range(len(packs)))  # packs whose job may run yet
        self.lost = False  # whether one ended before its runs were over
        self.waiting = {place: config for runs in packs for config, place in runs}  # without an outcome
        self.runs = len(self.waiting)
        self.over: set[Path] = set()
        self.errors = {place: record.failed_at(place) for place in self.waiting}  # failures that are known
        self.failures = dict.fromkeys(self.waiting, 0)  # how many of each run there were since

    def watch(self) -> None:
        """Return when all runs have an outcome, or when no job is left. Cancels the jobs if interrupted."""
        fail_fast = any(config.fail_fast for config in self.waiting.values())
        command = [sys.executable, "-P", "-m", "s3bench.run.sweep.cluster_submit", str(self.folder), self.launcher]
        with (self.folder / "launcher.log").open("wb") as log:
            self.submission = subprocess.Popen(
                command,
                env={"RAY_USAGE_STATS_ENABLED": "0", **os.environ, "PYTHONSAFEPATH": "1"},
                stdin=subprocess.PIPE,  # it ends when this end of it does
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the sweep, which then cancels the jobs
            )
        self._say(f"{self.folder.name}: {len(self.packs)} jobs, at most {len(self.packs[0])} runs in each")
        try:
            failed = self._look_until_over(fail_fast)
        except BaseException:
            self._cancel()
            raise
        if failed and fail_fast:
            self._cancel()
        self._let_end()

    def _look_until_over(self, fail_fast: bool) -> bool:
        """Look at the records again and again; returns whether a run failed at all its tries."""
        failed = False
        columns = (BarColumn(bar_width=20), TextColumn("{task.description}"))
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            bar = progress.add_task("", total=self.runs)
            while self.waiting and self.alive and not (failed and fail_fast):
                began = time.monotonic()
                if self.submission.poll() == 2:
                    self.alive = set()
                    raise UserError(f"the jobs were not taken: {cluster_submit.mistake(self.folder)}")
                gone = self.cluster.gone(self.alive, self.submission, self._say)
                failed |= self._say_outcomes()
                self._say_gone(gone)
                text = f"{len(self.over)}/{self.runs} runs, {len(self.alive)} jobs"
                progress.update(bar, completed=len(self.over), description=text)
                if self.waiting and self.alive:
                    time.sleep(max(LOOK_EVERY, 5 * (time.monotonic() - began)))
        return failed

    def _say_outcomes(self) -> bool:
        """Print the outcomes that are new; returns whether one is a failure after which no other try follows."""
        failed = False
        for place, config in list(self.waiting.items()):
            failure, seconds = record.failed_at(place), ""
            if record.has_result(place):
                seconds = f"  {record.load_record(place)['seconds']:.1f} s"
            elif failure != self.errors[place] and failure is not None:
                self.errors[place] = failure
                self.failures[place] += 1
                if self.failures[place] <= config.retries:
                    self._say(f"{place.name}  {record.outcome(place)}; try {self.failures[place] + 1} follows")
                    continue
                failed = True
            else:
                continue
            self.over.add(place)
            del self.waiting[place]
            self._say(f"[{len(self.over)}/{self.runs}] {place.name}  {record.outcome(place)}{seconds}")
        return failed

    def _say_gone(self, gone: dict[int, str]) -> None:
        """Print which of the jobs that are gone leave runs behind."""
        self.alive -= set(gone)
        for number, state in sorted(gone.items()):
            left = [place for _, place in self.packs[number] if record.state(place) == record.MISSING]
            if left:
                self.lost = True
                why = cluster_job.failure(self.folder, number) or f"its output is in {self.cluster.log(number)}"
                of = len(self.packs[number])
                self._say(f"job {number} is gone ({state}) and leaves {len(left)} of its {of} runs missing; {why}")

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False)

    def _cancel(self) -> None:
        if self.alive:
            self._say("cancelling the jobs")
            self.cluster.cancel(self.submission)
            self._let_end()

    def _let_end(self) -> None:
        """Give the jobs time to end."""
        until = time.monotonic() + ENDING
        while self.alive and time.monotonic() < until:
            self.alive -= set(self.cluster.gone(self.alive, self.submission, self._say, 1.0))
            if self.alive:
                time.sleep(0.2)
