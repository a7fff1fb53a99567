"""One run: a config becomes a record."""

import logging
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate

from s3bench import __version__, record
from s3bench.config import RunConfig, as_dict
from s3bench.errors import UserError, one_line, unknown
from s3bench.spikes import find_spikes, has_diverged
from s3bench.train import train

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs what it raises


def run(config: RunConfig, watch: Callable[[dict[str, Any]], None] | None = None) -> str:
    """Train and write the record; returns the state: finished, diverged or failed.

    A run that is over already is left as it is. `watch` sees each evaluation. Raises UserError for a mistake that shows
    before training, and record.Busy if another process is at the run.
    """
    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)  # saturated softmaxes at large learning rates make denormals; a step took half longer
    device = find_device(config.device)
    task, optimizer, schedule, tracker = build_parts(config)
    folder = record.plan(as_dict(config))
    if record.state(folder) in (record.FINISHED, record.DIVERGED):
        return record.state(folder)
    with record.Writer(folder) as writer:
        try:
            tracker.start(as_dict(config), folder)
            return _train(config, device, task, optimizer, schedule, tracker, writer, watch)
        except Exception as error:  # whatever went wrong with this run, it is reported and the sweep goes on
            writer.fail(one_line(error), traceback.format_exc())
            tracker.fail()
            return record.FAILED


def _train(
    config: RunConfig,
    device: torch.device,
    task: Any,
    optimizer: Any,
    schedule: Any,
    tracker: Any,
    writer: record.Writer,
    watch: Callable[[dict[str, Any]], None] | None,
) -> str:
    began = time.monotonic()
    torch.manual_seed(config.seed)
    model = task.model().to(device)
    losses: list[float] = []

    def lr(step: int) -> float:
        return float(config.task.lr * config.lr_multiplier * schedule(step, horizon=config.horizon))

    def on_steps(rows: list[dict[str, Any]]) -> None:
        writer.add_steps(rows)
        tracker.log_steps(rows)
        losses.extend(row["loss"] for row in rows)

    def on_eval(row: dict[str, Any]) -> None:
        writer.add_eval(row)
        tracker.log_eval(row)
        if watch:
            watch(row)

    training_began = time.monotonic()
    steps = train(
        task,
        model,
        optimizer(model.parameters(), lr=lr(0)),
        lr,
        horizon=config.horizon,
        eval_every=config.eval_every,
        measure_every=config.measure_every,
        clip_norm=config.clip_norm,
        on_steps=on_steps,
        on_eval=on_eval,
    )
    now = time.monotonic()
    summary = {
        "state": record.DIVERGED if has_diverged(losses) else record.FINISHED,
        "steps": steps,
        "seconds": now - began,
        "train_seconds": now - training_began,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "fingerprint": task.fingerprint(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
        "versions": versions(),
        "commit": git_commit(),
    }
    writer.finish(summary)
    tracker.finish(summary, find_spikes(losses, **config.task.spikes))
    return str(summary["state"])


def build_parts(config: RunConfig) -> tuple[Any, Any, Any, Any]:
    """The task, the optimizer's constructor, the schedule and the tracker. Raises UserError for a wrong argument."""
    names = config.names
    task = _build(config.task.build, f"task {names.task}", given=set())
    optimizer = _build(config.optimizer, f"optimizer {names.optimizer}", given={"params", "lr"})
    schedule = _build(config.schedule, f"schedule {names.schedule}", given={"step", "horizon"})
    tracker = _build(config.tracker, f"tracker {names.tracker}", given=set())
    with _mistakes(f"optimizer {names.optimizer}"):
        optimizer([torch.nn.Parameter(torch.zeros(2, 2))], lr=config.task.lr * config.lr_multiplier)
    with _mistakes(f"schedule {names.schedule}"):
        schedule(0, horizon=config.horizon)
    return task, optimizer, schedule, tracker


def _build(node: dict[str, Any], what: str, *, given: set[str]) -> Any:
    """What a config node names (_target_) with its arguments; `given` are those that come later."""
    target = node["_target_"]
    try:
        parameters = signature(get_object(target)).parameters
    except (ImportError, HydraException, ValueError, TypeError) as error:
        raise UserError(f"{what}: its _target_ {target} cannot be imported ({one_line(error)})") from error
    if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        for name in node:
            if not name.startswith("_") and name not in parameters:
                raise unknown(f"argument of {what}", name, set(parameters) - given)
    with _mistakes(what):
        return instantiate(node, _convert_="all")


@contextmanager
def _mistakes(what: str) -> Iterator[None]:
    """Turns what a constructor raises for its arguments into a UserError."""
    try:
        yield
    except (ValueError, TypeError, AssertionError, HydraException) as error:
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        raise UserError(f"{what}: {' '.join(str(cause).split())}") from error


def find_device(name: str) -> torch.device:
    """The torch device of a name; "auto" is a GPU where there is one. Raises UserError if there is no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        there = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise UserError(f"device {name!r} is not there; there is: {', '.join(there)}") from error
    return device


def versions() -> dict[str, str]:
    """Of Python, this package and the loaded libraries that a result can depend on."""
    libraries = [name for name in ("torch", "numpy", "torchvision", "transformers", "tokenizers") if name in sys.modules]
    return {"python": platform.python_version(), "s3bench": __version__} | {name: version(name) for name in libraries}


@cache
def git_commit() -> str | None:
    """The commit of the code that runs, with "+" if files were changed; None outside a checkout."""
    here = Path(__file__).parent
    if not (here.parent / ".git").exists():
        return None
    asked = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        commit, changes = (
            subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for command in asked
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "")
