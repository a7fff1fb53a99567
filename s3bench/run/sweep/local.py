"""The local launcher: trains runs on this machine, as many at a time as it can, and shows their progress."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from s3bench import record
from s3bench.console import duration, say, seconds_left
from s3bench.record import lease
from s3bench.run.config.schema import RunConfig
from s3bench.run.sweep.workers import BUSY, Workers, cause_of_death, devices

LOOK_EVERY = 2.0  # seconds between two looks at the runs that other processes train


@dataclass
class Run:
    """A run that waits, that is in progress, or that another process trains."""

    config: RunConfig
    folder: Path
    tries: int = 0
    dead: int | None = None  # the number of its lease, if the lease's owner has died


@dataclass
class Job:
    """A run that trains here."""

    run: Run
    device: str
    process: BaseProcess
    began: float = field(default_factory=time.monotonic)
    steps_before: int = 0


def _length(config: RunConfig) -> int:
    """Return how many steps a run is trained for; an arm of a replay begins where it departs from its run."""
    return (config.replay.until or config.horizon) - config.replay.step


def _steps_so_far(run: Run) -> int:
    """Return how many of those steps are written."""
    return max(0, record.steps_so_far(run.folder) - run.config.replay.step)


class Launcher:
    """Trains planned runs on this machine until each of them is over.

    A run that another process trains is waited for, and taken over if that process dies. With fail_fast, the launcher
    stops after the first failure. When it is interrupted, the workers write their checkpoints.
    """

    def __init__(self, workers: Workers, console: Console, runs: list[tuple[RunConfig, Path]]) -> None:
        self._workers = workers
        self._free = devices([config for config, _ in runs], workers.gpus)[::-1]
        self._at_once = len(self._free)
        self._waiting = deque(Run(config, folder) for config, folder in runs)
        self._jobs: list[Job] = []
        self._elsewhere: list[Run] = []
        self._watch = lease.Watch()
        self._fail_fast = runs[0][0].fail_fast
        self._runs, self._over = len(runs), 0
        self._failed = False
        self._unwritten: dict[Path, str] = {}
        self._steps = sum(_length(config) for config, _ in runs)
        self._steps_over = 0
        self._left: Counter[str] = Counter()  # steps of the runs that wait, by task
        for config, _ in runs:
            self._left[config.names.task] += _length(config)
        self._known: dict[str, tuple[float, int]] = {}  # seconds and steps trained here, by task
        columns = (BarColumn(bar_width=20), TextColumn("{task.description}"))
        self._progress = Progress(
            *columns, console=console, transient=True, refresh_per_second=2, disable=not console.is_terminal
        )
        self._bar = self._progress.add_task("starting", total=self._steps)

    def launch(self) -> dict[Path, str]:
        """Train all runs; return the causes of failures that could not be written, by the record's folder."""
        looked = time.monotonic()
        try:
            with self._progress:
                while self._waiting or self._jobs or self._elsewhere:
                    while self._waiting and self._free:
                        self._start(self._waiting.popleft())
                    wait([job.process.sentinel for job in self._jobs], timeout=0.5)
                    for job in [job for job in self._jobs if not job.process.is_alive()]:
                        self._end(job)
                    if self._failed and self._fail_fast:
                        break
                    if time.monotonic() - looked > LOOK_EVERY:
                        self._look_elsewhere()
                        looked = time.monotonic()
                    self._show_progress()
        finally:
            self._stop()
        return self._unwritten

    def _start(self, run: Run) -> None:
        device = self._free.pop()
        process = self._workers.start(run.config, run.folder, device, run.dead)
        self._jobs.append(Job(run=run, device=device, process=process, steps_before=_steps_so_far(run)))
        self._left[run.config.names.task] -= _length(run.config)
        run.tries += 1

    def _end(self, job: Job) -> None:
        """Handle the end of a worker: its run is over, is tried again, or belongs to another process."""
        self._jobs.remove(job)
        self._free.append(job.device)
        run, code, seconds = job.run, job.process.exitcode or 0, time.monotonic() - job.began
        if code == BUSY:
            self._elsewhere.append(run)
            self._print(f"{run.folder.name}  another process trains it ({lease.owner(record.lease_place(run.folder))})")
            return
        state, outcome = record.state(run.folder), record.outcome(run.folder)
        if state == record.MISSING:  # the worker ended without writing a result or an error
            outcome = f"{record.FAILED}: {cause_of_death(code)}"
            try:
                record.write_error(run.folder, cause_of_death(code))
            except OSError:
                self._unwritten[run.folder] = outcome
        failed = state in (record.FAILED, record.MISSING)
        if failed and run.tries <= run.config.retries:
            self._print(f"{run.folder.name}  {outcome}  {seconds:.1f} s; try {run.tries + 1} follows")
            self._unwritten.pop(run.folder, None)
            self._wait_again(run)
            return
        spent, steps = self._known.get(run.config.names.task, (0.0, 0))
        self._known[run.config.names.task] = (spent + seconds, steps + _length(run.config) - job.steps_before)
        self._close(run, f"{outcome}  {seconds:.1f} s", failed)

    def _close(self, run: Run, outcome: str, failed: bool) -> None:
        self._over += 1
        self._steps_over += _length(run.config)
        self._failed = self._failed or failed
        self._print(f"[{self._over}/{self._runs}] {run.folder.name}  {outcome}")

    def _wait_again(self, run: Run) -> None:
        self._left[run.config.names.task] += _length(run.config)
        self._waiting.append(run)

    def _look_elsewhere(self) -> None:
        """Close the runs that other processes have finished, and queue those whose process has died."""
        for run in list(self._elsewhere):
            place = record.lease_place(run.folder)
            held = lease.numbers(place)
            run.dead = self._watch.dead(place)
            has_failed = not held and record.state(run.folder) == record.FAILED
            if record.has_result(run.folder) or has_failed:
                self._close(run, f"{record.outcome(run.folder)}, by another process", has_failed)
            elif held and run.dead is None:
                continue
            else:
                self._wait_again(run)
            self._elsewhere.remove(run)

    def _stop(self) -> None:
        """End the workers, each after a checkpoint. A second interrupt kills them at once."""
        try:
            for job in self._jobs:
                job.process.terminate()
            for job in self._jobs:
                job.process.join()
        except KeyboardInterrupt:
            for job in self._jobs:
                job.process.kill()
            raise

    def _print(self, line: str) -> None:
        say(line, console=self._progress.console)

    def _show_progress(self) -> None:
        done = self._steps_over + sum(_steps_so_far(job.run) for job in self._jobs)
        text = f"{self._over}/{self._runs} runs, {duration(self._seconds_left())} left, {done:,}/{self._steps:,} steps"
        if self._elsewhere and not self._jobs:
            text = f"{len(self._elsewhere)} runs are trained by other processes; {text}"
        self._progress.update(self._bar, completed=done, description=text)

    def _seconds_left(self) -> float | None:
        known = [(task, seconds, steps) for task, (seconds, steps) in self._known.items()]
        left = []
        for job in self._jobs:
            task, done = job.run.config.names.task, _steps_so_far(job.run)
            known.append((task, time.monotonic() - job.began, done - job.steps_before))
            left.append((task, _length(job.run.config) - done))
        left += [(task, steps) for task, steps in self._left.items() if steps]
        return seconds_left(known, left, min(self._at_once, len(self._jobs) + len(self._waiting)))
