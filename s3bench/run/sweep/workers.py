"""Worker processes that train one run each, forked from a process that has imported everything once."""

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
from s3bench.record import lease
from s3bench.run.config.schema import RunConfig
from s3bench.run.sweep import preload

FOR_THE_SWEEP = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}  # signals that reach all of its processes at once
BUSY = 75  # exit code of a worker whose run another process trains (EX_TEMPFAIL)
DISK_FULL = 74  # exit code of a worker that could not write its error for lack of space (EX_IOERR)
GRACE = 60.0  # seconds that a worker has for its last checkpoint once the sweep's process is gone


class Workers:
    """Starts workers. Every task and optimizer is built once at the beginning, which also prepares its data.

    Attributes:
        gpus: how many GPUs this machine has.

    Raises:
        UserError: a task or an optimizer cannot be built, or a device is not available.
    """

    def __init__(self, configs: list[RunConfig]) -> None:
        self._context = _fork_server(configs)
        self.gpus = _build_once(self._context, configs)

    def start(self, config: RunConfig, folder: Path, device: str, dead: int | None) -> BaseProcess:
        """Train a run in a new process, and return the process.

        A Ctrl-C that arrives meanwhile is raised once the process has started.

        Args:
            dead: the number of the run's lease if its owner has died, see record/lease.py.
        """
        process = self._context.Process(target=_work, args=(replace(config, device=device), folder, dead))
        with _interrupts_deferred():
            process.start()
        return process


def devices(configs: Sequence[RunConfig], gpus: int) -> list[str]:
    """Return the devices of the runs that train at a time: one run per core, or launcher.runs_per_gpu on each GPU."""
    device, jobs, per_gpu = configs[0].device, configs[0].launcher["jobs"], configs[0].launcher["runs_per_gpu"]
    if device == "cpu" or (device == "auto" and not gpus):
        return [device] * (jobs or max(1, _cores() // max(config.threads for config in configs)))
    names = [device] if ":" in device else [f"cuda:{number}" for number in range(gpus)]
    return [names[number % len(names)] for number in range(jobs or len(names) * per_gpu)]


def _work(config: RunConfig, folder: Path, dead: int | None) -> None:
    """Train one run in a worker, its output in the record's log. Ends the process with an exit code."""
    _log_to(folder / record.LOG)
    from s3bench.run.one_run import run
    from s3bench.run.signals import Stop, Stopped

    stop = Stop()
    stop.listen()
    try:
        _unblock_sigterm()  # one that came meanwhile stops the run here
        threading.Thread(target=_end_with_parent, daemon=True).start()
        run(config, stop=stop, dead_lease=dead)
    except record.Busy:
        sys.exit(BUSY)
    except Stopped as stopped:
        sys.exit(128 + stopped.number)
    except UserError as error:
        record.write_error(folder, one_line(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            sys.exit(DISK_FULL)
        raise
    finally:
        _remove_empty_log(folder)


def _remove_empty_log(folder: Path) -> None:
    """Remove the log of a record if nothing is in it, and no other process trains the run and may yet print."""
    with suppress(FileNotFoundError):  # another process had nothing to say either
        if not (folder / record.LOG).stat().st_size and not lease.is_held(record.lease_place(folder)):
            (folder / record.LOG).unlink()


def _unblock_sigterm() -> None:
    """Let the sweep terminate this process, which inherits the blocked signals of the fork server."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _log_to(file: Path) -> None:
    """Send everything that this process and its libraries print to a file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _end_with_parent() -> None:
    """End this worker after a checkpoint once the sweep's process is gone, however it ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM to the end of the block: a half-started worker could not be terminated."""
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
    """Return the context whose workers are forked with everything imported, and leave signals to this process.

    The fork server must survive a SIGTERM that a scheduler sends to all processes, because it passes on the exit codes
    of the workers.
    """
    context = multiprocessing.get_context("forkserver")
    # torch imports its compiler, which takes a second, when the first optimizer is created.
    os.environ[preload.MODULES] = ",".join(["s3bench.run.one_run", "torch._dynamo", *_modules(configs)])
    context.set_forkserver_preload(["s3bench.run.sweep.preload"])
    resource_tracker.ensure_running()  # started later, it would unblock the signals too early
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_SWEEP)  # not ignored: a signal that arrives now must not be lost
    try:
        forkserver.ensure_running()  # it and its workers inherit the blocked signals
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_THE_SWEEP)
    return context


def _build_once(context: ForkServerContext, configs: list[RunConfig]) -> int:
    """Build every distinct task and optimizer once, in a worker, and return the number of GPUs. Raises UserError."""
    distinct: dict[str, RunConfig] = {}
    for config in configs:
        task = {key: value for key, value in config.task.build.items() if key != "seed"}
        parts = (task, config.optimizer, config.clip, config.schedule, config.tracker)
        settings = (config.device, config.accumulate, config.shock.kind)
        distinct.setdefault(repr((parts, settings)), config)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_build_in_worker, args=(list(distinct.values()), sender), daemon=True)
    with _interrupts_deferred():
        process.start()
    sender.close()
    try:
        found: str | int = receiver.recv()
    except EOFError:
        process.join()
        found = f"the tasks and optimizers could not be built: {cause_of_death(process.exitcode or 0)}"
    process.join()
    if isinstance(found, str):
        raise UserError(found)
    return found


def _build_in_worker(configs: list[RunConfig], sender: "Connection[str | int, None]") -> None:
    """Send the number of GPUs, or what is wrong with the first config that cannot be built."""
    import torch

    from s3bench.run.build import build_parts, find_device
    from s3bench.run.distributed import ALONE
    from s3bench.run.learner import check_rows

    _unblock_sigterm()
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
    """Return the modules of the tasks and optimizers, which are imported once for all workers."""
    targets = {node["_target_"] for config in configs for node in (config.task.build, config.optimizer)}
    return sorted(target.rpartition(".")[0] for target in targets)


def cause_of_death(code: int) -> str:
    """Tell from an exit code why a process ended without writing an error."""
    if code == DISK_FULL:
        return "no space is left on the disk that holds the results"
    if code >= 0:
        return f"the process ended with exit code {code}; its log.txt may say why"
    name = signal.Signals(-code).name
    memory = "; the system may have run out of memory" if name == "SIGKILL" else ""
    return f"the process was killed by {name}{memory}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
