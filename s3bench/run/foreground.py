"""Trains one run as `s3bench run` does: prints its progress and turns its end into an exit code."""

import os
import signal
from pathlib import Path

from s3bench import record
from s3bench.console import lost_output, say
from s3bench.errors import UserError
from s3bench.record import lease
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import RunConfig
from s3bench.run.distributed import of_torchrun
from s3bench.run.one_run import run
from s3bench.run.signals import SIGNALS, Stop, Stopped
from s3bench.run.sweep.sweep import sweep


def run_in_foreground(overrides: list[str]) -> int:
    """Train the run that the overrides ask for, here or on its launcher's cluster. Raises UserError.

    Returns:
        The exit code: 0 done, 1 the run failed, 128 + the number of the signal that stopped it. If torchrun started
        several processes, this one exits here instead.
    """
    stop = Stop()
    stop.listen()
    config, processes = run_config(overrides), of_torchrun()
    if "hydra_launcher" in config.launcher:
        return _on_cluster(overrides, config, processes.size)
    folder = record.folder_of(vars(config))
    record.state(folder)  # a damaged record is refused before anything is built
    try:
        state = _train(config, folder, stop)
        code = 1 if state == record.FAILED else 0
        line = f"{record.outcome(folder)}; the record is {folder}"
        line += "; its error.txt has the traceback" * code
    except Stopped as stopped:
        code = 128 + stopped.number
        line = f"stopped by {stopped} at step {record.steps_so_far(folder)}; run the same command again to resume"
    if processes.rank == 0:
        say(line)
    if processes.size > 1:
        # gloo's threads at times abort a process that Python takes down in its own order
        os._exit(code or int(lost_output() is not None))
    return code


def _on_cluster(overrides: list[str], config: RunConfig, processes: int) -> int:
    """Submit the run as a sweep of one, wait for it, and return the exit code. Raises UserError, KeyboardInterrupt."""
    if processes > 1:
        raise UserError(f"torchrun starts a run here; launcher={config.names.launcher} would train it elsewhere")
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)  # as for a sweep: the job is cancelled
    return sweep(overrides)


def _train(config: RunConfig, folder: Path, stop: Stop) -> str:
    """Train a run and return its state; take it over from a process that has died.

    Raises UserError if another process is training the run, and Stopped.
    """
    try:
        return run(config, say, stop)
    except record.Busy:
        place = record.lease_place(folder)
        say(f"{folder} is locked by {lease.owner(place)}; checking whether it is still alive")
    try:
        return run(config, say, stop, lease.wait_for_death(place))
    except record.Busy as error:
        raise UserError(f"another process is training the run {folder}") from error
