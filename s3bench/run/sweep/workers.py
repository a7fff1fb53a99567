"""Processes that train one run each, forked from one that has imported everything once."""

import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from s3bench import record
from s3bench.errors import UserError, one_line
from s3bench.run.config.schema import RunConfig
from s3bench.run.sweep import preload

LEFT_TO_THE_SWEEP = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}  # sent to all of its processes at once
BUSY = 75  # exit code of a worker whose run another process is at (EX_TEMPFAIL)
FULL = 74  # and of one whose last words found no space on the disk (EX_IOERR)
GRACE = 60.0  # seconds for a last checkpoint when the sweep's process is gone


class Workers:
    """Where workers are forked from. Every task and optimizer is built once there, which prepares its data.

    Raises UserError for a mistake that shows there.
    """

    def __init__(self, configs: list[RunConfig]) -> None:
        self._context = _fork_server(configs)
        self.gpus = _check(self._context, configs)

    def start(self, config: RunConfig, folder: Path, device: str, dead: int | None) -> BaseProcess:
        """Train a run in a new process. `dead`: the number of its lease whose owner has died, see lease.py.

        A Ctrl-C that comes meanwhile is raised when the process is there.
        """
        process = self._context.Process(target=_work, args=(replace(config, device=device), folder, dead))
        with _undisturbed():
            process.start()
        return process


def places(configs: Sequence[RunConfig], gpus: int) -> list[str]:
    """The devices of the runs that a machine takes at a time: one run per core, or so many on each of its GPUs."""
    device, jobs, per_gpu = configs[0].device, configs[0].launcher["jobs"], configs[0].launcher["runs_per_gpu"]
    if device == "cpu" or (device == "auto" and not gpus):
        return [device] * (jobs or max(1, _cores() // max(config.threads for config in configs)))
    names = [device] if ":" in device else [f"cuda:{number}" for number in range(gpus)]
    return [names[number % len(names)] for number in range(jobs or len(names) * per_gpu)]


def _work(config: RunConfig, folder: Path, dead: int | None) -> None:
    """A worker: one run, its output in the record's log. Ends the process with an exit code."""
    _log_to(folder / record.LOG)
    from s3bench.run.one_run import run
    from s3bench.run.signals import Stop, Stopped

    stop = Stop()
    stop.listen()
    _heed_sigterm()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        run(config, stop=stop, dead_lease=dead)
    except record.Busy:
        sys.exit(BUSY)
    except Stopped as stopped:
        sys.exit(128 + stopped.number)
    except UserError as error:
        record.write_error(folder, one_line(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            sys.exit(FULL)
        raise
    finally:
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
    """End this worker, after a checkpoint, when the sweep's process is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
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
    os.environ[preload.MODULES] = ",".join(["s3bench.run.one_run", "torch._dynamo", *_modules(configs)])
    context.set_forkserver_preload(["s3bench.run.sweep.preload"])
    resource_tracker.ensure_running()  # it would unblock the signals too early
    signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_SWEEP)  # not ignored: one that comes now must not be lost
    try:
        forkserver.ensure_running()  # it and its workers stay with the signals blocked
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_SWEEP)
    return context


def _check(context: ForkServerContext, configs: list[RunConfig]) -> int:
    """Build every distinct task and optimizer once, in a worker; returns the number of GPUs. Raises UserError."""
    distinct: dict[str, RunConfig] = {}
    for config in configs:
        build = {key: value for key, value in config.task.build.items() if key != "seed"}
        parts = (
            build,
            config.optimizer,
            config.schedule,
            config.tracker,
            config.device,
            config.accumulate,
            config.shock.kind,
        )
        distinct.setdefault(repr(parts), config)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_check_work, args=(list(distinct.values()), sender), daemon=True)
    with _undisturbed():
        process.start()
    sender.close()
    try:
        found: str | int = receiver.recv()
    except EOFError:
        process.join()
        found = f"the tasks and optimizers could not be built: {death(process.exitcode or 0)}"
    process.join()
    if isinstance(found, str):
        raise UserError(found)
    return found


def _check_work(configs: list[RunConfig], sender: "Connection[str | int, None]") -> None:
    import torch

    from s3bench.run.build import build_parts, find_device
    from s3bench.run.distributed import ALONE
    from s3bench.run.learner import check_rows

    _heed_sigterm()
    found: str | int = torch.cuda.device_count()
    try:
        for config in configs:
            find_device(config.device)
            check_rows(build_parts(config).task, config.names.task, ALONE, config.accumulate)
    except UserError as error:
        found = one_line(error)
    with suppress(BrokenPipeError):  # the sweep was stopped meanwhile
        sender.send(found)


def _modules(configs: list[RunConfig]) -> list[str]:
    """The modules of the tasks and optimizers, to be imported once for all workers."""
    targets = {node["_target_"] for config in configs for node in (config.task.build, config.optimizer)}
    return sorted(target.rpartition(".")[0] for target in targets)


def death(code: int) -> str:
    """What an exit code says of a process that ended without a word."""
    if code == FULL:
        return "no space is left on the disk of the results"
    if code >= 0:
        return f"the process ended with exit code {code}; its log.txt may say more"
    name = signal.Signals(-code).name
    memory = "; the system may have run out of memory" if name == "SIGKILL" else ""
    return f"the process was ended by {name}{memory}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
