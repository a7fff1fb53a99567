"""Writes, reads and trains a pack: those runs of a sweep that one job of a cluster trains."""

import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import hydra
from omegaconf import DictConfig

from s3bench import record
from s3bench.console import outlast_readers, patient_console, say
from s3bench.errors import UserError, one_line
from s3bench.run.config import code_digest
from s3bench.run.config.compose import identified
from s3bench.run.config.schema import Names, ReplayConfig, RunConfig, ShockConfig, TaskConfig
from s3bench.run.sweep.local import Launcher
from s3bench.run.sweep.workers import Workers


def write(folder: Path, number: int, configs: list[RunConfig]) -> None:
    """Write a pack: what another machine needs to train these runs."""
    pack = {"cwd": str(Path.cwd()), "runs": [asdict(config) for config in configs]}
    (folder / f"pack-{number}.json").write_text(json.dumps(pack), encoding="utf-8")


def read(folder: Path, number: int) -> tuple[Path, list[RunConfig]]:
    """Return the folder in which the sweep was started, and the runs of one of its packs."""
    pack = json.loads((folder / f"pack-{number}.json").read_text(encoding="utf-8"))
    return Path(pack["cwd"]), [_config(run) for run in pack["runs"]]


def failure(folder: Path, number: int) -> str | None:
    """Return why a pack ended before its runs were over; None if it wrote no error."""
    file = folder / f"pack-{number}.error"
    return file.read_text(encoding="utf-8") if file.exists() else None


def _config(run: dict[str, Any]) -> RunConfig:
    parts = {"task": TaskConfig, "shock": ShockConfig, "replay": ReplayConfig, "names": Names}
    return RunConfig(**{**run, **{key: part(**run[key]) for key, part in parts.items()}})


def find_own_modules(cwd: Path) -> None:
    """Let this process find the user's optimizers and tasks as the command line does: last, so they shadow nothing."""
    sys.path[:] = [*(place for place in sys.path if place not in ("", str(cwd))), str(cwd)]


def train(folder: Path, number: int) -> None:
    """Train those runs of a pack that are not over, as a sweep on this machine would. An interrupt ends its workers."""
    cwd, configs = read(folder, number)
    os.chdir(cwd)
    find_own_modules(cwd)
    # Otherwise each worker would import the main module of this process: submitit's or Ray's.
    sys.modules["__main__"] = ModuleType("__main__")
    planned = [(config, record.plan(asdict(config))) for config in configs]
    waiting = [(config, run_folder) for config, run_folder in planned if not record.has_result(run_folder)]
    runs = [(config, run_folder) for config, run_folder in waiting if not _fail_if_code_changed(config, run_folder)]
    if not runs:
        return
    _stop_at_a_signal()
    try:
        workers = Workers([config for config, _ in runs])
        for run_folder, cause in Launcher(workers, patient_console(), runs).launch().items():
            say(f"{run_folder}: {cause}")
    except UserError as error:  # something is wrong on this machine: data are missing, or it has no GPU
        for _, run_folder in runs:
            if record.state(run_folder) == record.MISSING:
                record.write_error(run_folder, one_line(error))


def _fail_if_code_changed(config: RunConfig, folder: Path) -> bool:
    """Fail a run whose code was changed while its job waited: it would be other code under the old code's run_id."""
    code_digest.forget()  # this process may have trained another pack before the change
    today = identified(config).code
    changed = [
        f"{part}'s code {config.code[part]} is now {new}" for part, new in today.items() if config.code[part] != new
    ]
    if changed:
        record.write_error(folder, f"its {' and its '.join(changed)}: changed since the sweep began; sweep again")
    return bool(changed)


def _stop_at_a_signal() -> None:
    """Exit at SIGTERM, which submitit would ignore, and at SIGUSR2, at which submitit queues the job again.

    Only the first signal raises SystemExit: SLURM sends several, and a second one would interrupt the workers' last
    checkpoints.
    """
    requeue, stopping = signal.getsignal(signal.SIGUSR2), False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        first, stopping = not stopping, True
        if number == signal.SIGUSR2 and callable(requeue):
            with suppress(SystemExit):
                requeue(number, frame)
        if first:
            sys.exit(128 + number)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray cancels with it; a shell may have disabled it
    signal.signal(signal.SIGTERM, stop)
    if callable(requeue):
        signal.signal(signal.SIGUSR2, stop)


@hydra.main(version_base="1.3", config_path=None)
def main(config: DictConfig) -> None:
    """Train a pack: Hydra's launcher calls this on a machine of the cluster."""
    folder, number = Path(config.folder), int(config.pack)
    outlast_readers()  # such as a disk that is too full for the job's output
    try:
        train(folder, number)
    except Exception as error:  # not raised: Hydra would end the other packs as well
        traceback.print_exc()
        (folder / f"pack-{number}.error").write_text(one_line(error), encoding="utf-8")
