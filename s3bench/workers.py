"""Runs in processes of their own on this machine, as many at a time as there are cores or the GPUs take."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from s3bench import record, warm
from s3bench.config import RunConfig
from s3bench.errors import UserError, one_line
from s3bench.status import duration, seconds_left

LEFT_TO_THE_SWEEP = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}  # sent to all of its processes at once
BUSY = 75  # exit code of a worker whose run another process is at (EX_TEMPFAIL)


def train_all(runs: list[tuple[RunConfig, Path]], console: Console) -> dict[Path, str]:
    """Train all runs; returns the causes of failures that the disk did not take. Raises UserError as `prepare` does."""
    configs = [config for config, _ in runs]
    return Launcher(prepare(configs), console, runs, at_once(configs)).launch()


def prepare(configs: list[RunConfig]) -> ForkServerContext:
    """What the workers of these runs are forked from: a process that has imported their tasks and optimizers once.

    Every task and optimizer is built once, which prepares its data. Raises UserError for a mistake that shows there.
    """
    context = _fork_server(configs)
    _check(context, configs)
    return context


def at_once(configs: list[RunConfig]) -> int:
    """How many of these runs this machine takes at a time: as many as asked for, or one per core."""
    return configs[0].launcher["jobs"] or max(1, _cores() // max(config.threads for config in configs))


@dataclass
class Job:
    """A run under way."""

    config: RunConfig
    folder: Path
    process: BaseProcess
    began: float


class Launcher:
    """Keeps `at_once` workers busy until all runs are over, and shows how far they are."""

    def __init__(
        self, context: ForkServerContext, console: Console, todo: list[tuple[RunConfig, Path]], at_once: int
    ) -> None:
        self.context = context
        self.waiting = todo[::-1]
        self.jobs: list[Job] = []
        self.at_once = at_once
        self.runs = len(todo)
        self.steps = sum(config.horizon for config, _ in todo)
        self.over: list[tuple[RunConfig, float]] = []  # with their seconds
        self.unwritten: dict[Path, str] = {}
        columns = (BarColumn(bar_width=20), TextColumn("{task.description}"))
        self.progress = Progress(
            *columns, console=console, transient=True, refresh_per_second=2, disable=not console.is_terminal
        )
        self.bar = self.progress.add_task("starting", total=self.steps)

    def launch(self) -> dict[Path, str]:
        """Run all; returns the causes of failures that the disk did not take. Stops the workers if interrupted."""
        try:
            with self.progress:
                while self.waiting or self.jobs:
                    while self.waiting and len(self.jobs) < self.at_once:
                        self._start(*self.waiting.pop())
                    wait([job.process.sentinel for job in self.jobs], timeout=0.5)
                    for job in [job for job in self.jobs if not job.process.is_alive()]:
                        self._end(job)
                    self._show()
        finally:
            for job in self.jobs:
                job.process.terminate()
            for job in self.jobs:
                job.process.join()
        return self.unwritten

    def _start(self, config: RunConfig, folder: Path) -> None:
        process = self.context.Process(target=_work, args=(config, folder))
        with _undisturbed():
            process.start()
            self.jobs.append(Job(config, folder, process, time.monotonic()))

    def _end(self, job: Job) -> None:
        self.jobs.remove(job)
        code = job.process.exitcode or 0
        outcome = "another process is at it" if code == BUSY else record.outcome(job.folder)
        if outcome == record.MISSING:  # the worker ended without a word
            outcome = f"{record.FAILED}: {_death(code)}"
            try:
                record.write_error(job.folder, _death(code))
            except OSError:
                self.unwritten[job.folder] = outcome
        seconds = time.monotonic() - job.began
        self.over.append((job.config, seconds))
        self.progress.console.print(
            f"[{len(self.over)}/{self.runs}] {job.folder.name}  {outcome}  {seconds:.1f} s", markup=False
        )

    def _show(self) -> None:
        done = sum(config.horizon for config, _ in self.over) + sum(
            record.steps_so_far(job.folder) for job in self.jobs
        )
        left = duration(self._seconds_left())
        text = f"{len(self.over)}/{self.runs} runs, {left} left, {done:,}/{self.steps:,} steps"
        self.progress.update(self.bar, completed=done, description=text)

    def _seconds_left(self) -> float | None:
        now = time.monotonic()
        under_way = [(job.config, now - job.began, record.steps_so_far(job.folder)) for job in self.jobs]
        known = [*under_way, *((config, seconds, config.horizon) for config, seconds in self.over)]
        left = [(config.names.task, config.horizon - done) for config, _, done in under_way]
        left += [(config.names.task, config.horizon) for config, _ in self.waiting]
        return seconds_left([(c.names.task, spent, steps) for c, spent, steps in known], left, self.at_once)


def _work(config: RunConfig, folder: Path) -> None:
    """A worker: one run, its output in the record's log. Ends the process with an exit code."""
    _heed_sigterm()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _log_to(folder / record.LOG)
    from s3bench.run import run

    try:
        run(config)
    except record.Busy:
        sys.exit(BUSY)
    except UserError as error:
        record.write_error(folder, one_line(error))
    if not (folder / record.LOG).stat().st_size:
        (folder / record.LOG).unlink()


def _heed_sigterm() -> None:
    """Let the sweep end this process, which begins with the signals of the fork server blocked."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _log_to(file: Path) -> None:
    """Send all that this process and its libraries print to a file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _end_with_parent() -> None:
    """End this worker when the sweep's process is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM to the end of the block: a worker half started could not be ended."""
    came = []
    handlers = {n: signal.signal(n, lambda number, _: came.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _fork_server(configs: list[RunConfig]) -> ForkServerContext:
    """The context whose workers are forked with everything imported, and leave signals to this process.

    The fork server must outlive a SIGTERM that a scheduler sends to all processes: the workers' last words go by it.
    """
    context = multiprocessing.get_context("forkserver")
    # torch imports its compiler, a second's work, when the first optimizer is made.
    os.environ[warm.MODULES] = ",".join(["s3bench.run", "torch._dynamo", *_modules(configs)])
    context.set_forkserver_preload(["s3bench.warm"])
    resource_tracker.ensure_running()  # it would unblock the signals too early
    signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_SWEEP)  # not ignored: one that comes now must not be lost
    try:
        forkserver.ensure_running()  # it and its workers stay with the signals blocked
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_SWEEP)
    return context


def _check(context: ForkServerContext, configs: list[RunConfig]) -> None:
    """Build every distinct task and optimizer of the configs once, in a worker. Raises UserError."""
    distinct: dict[str, RunConfig] = {}
    for config in configs:
        build = {key: value for key, value in config.task.build.items() if key != "seed"}
        parts = (build, config.optimizer, config.schedule, config.tracker, config.device, config.accumulate)
        distinct.setdefault(repr(parts), config)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_check_work, args=(list(distinct.values()), sender), daemon=True)
    with _undisturbed():
        process.start()
    sender.close()
    try:
        mistake = receiver.recv()
    except EOFError:
        process.join()
        mistake = f"the tasks and optimizers could not be built: {_death(process.exitcode or 0)}"
    process.join()
    if mistake:
        raise UserError(mistake)


def _check_work(configs: list[RunConfig], sender: "Connection[str | None, None]") -> None:
    _heed_sigterm()
    from s3bench.build import build_parts, find_device
    from s3bench.learner import check_rows
    from s3bench.processes import ALONE

    mistake = None
    try:
        for config in configs:
            find_device(config.device)
            check_rows(build_parts(config).task, config.names.task, ALONE, config.accumulate)
    except UserError as error:
        mistake = one_line(error)
    with suppress(BrokenPipeError):  # the sweep was stopped meanwhile
        sender.send(mistake)


def _modules(configs: list[RunConfig]) -> list[str]:
    """The modules of the tasks and optimizers, to be imported once for all workers."""
    targets = {node["_target_"] for config in configs for node in (config.task.build, config.optimizer)}
    return sorted(target.rpartition(".")[0] for target in targets)


def _death(code: int) -> str:
    """What an exit code says of a process that ended without a word."""
    if code >= 0:
        return f"the process ended with exit code {code}; its log.txt may say more"
    name = signal.Signals(-code).name
    memory = "; the system may have run out of memory" if name == "SIGKILL" else ""
    return f"the process was ended by {name}{memory}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
