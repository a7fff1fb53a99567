"""Builds what a config names (_target_), and tells a user's wrong argument from a program's error."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import Any, NamedTuple

import torch
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate

from s3bench.errors import UserError, one_line, unknown
from s3bench.run.config.schema import RunConfig
from s3bench.run.shock import check_shock
from s3bench.spikes import SpikeMonitor

EXTRAS = {"pytorch_optimizer": "zoo"}  # packages that only an extra of pyproject.toml installs

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs what it raises


class Parts(NamedTuple):
    """What a run is made of."""

    task: Any  # see tasks/__init__.py
    optimizer: Any  # (params, lr=...) -> torch.optim.Optimizer
    schedule: Any  # (step, horizon=...) -> factor
    tracker: Any  # see tracking.py


def build_parts(config: RunConfig) -> Parts:
    """The parts of a run. Raises UserError for an argument that is wrong."""
    names = config.names
    task = _build(config.task.build, f"task {names.task}", given=set())
    check_shock(config.shock, task, names.task)
    optimizer = _build(config.optimizer, f"optimizer {names.optimizer}", given={"params", "lr"})
    schedule = _build(config.schedule, f"schedule {names.schedule}", given={"step", "horizon"})
    tracker = _build(config.tracker, f"tracker {names.tracker}", given=set())
    allowed = _argument_names(SpikeMonitor) or set()
    for name, value in config.task.spikes.items():
        if name not in allowed:
            raise unknown("key of task.spikes", name, allowed)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"task.spikes.{name} is {value!r}; it must be a number")
    with _mistakes("task.spikes"):
        SpikeMonitor(**config.task.spikes)
    with _mistakes(f"optimizer {names.optimizer}"):
        trial = optimizer([torch.nn.Parameter(torch.zeros(2, 2))], lr=config.task.lr * config.lr_multiplier)
        if not isinstance(trial, torch.optim.Optimizer):
            raise TypeError(f"its _target_ gives a {type(trial).__name__}, not a torch.optim.Optimizer")
    with _mistakes(f"schedule {names.schedule}"):
        schedule(0, horizon=config.horizon)
    return Parts(task, optimizer, schedule, tracker)


def _build(node: dict[str, Any], what: str, *, given: set[str]) -> Any:
    """What a config node names (_target_) with its arguments; `given` are those that come later."""
    target = node["_target_"]
    package = target.split(".")[0]
    if package in EXTRAS and find_spec(package) is None:
        raise UserError(f"{what} needs {package}, which is not installed: pip install 's3bench[{EXTRAS[package]}]'")
    try:
        names = _argument_names(get_object(target))
    except (ImportError, HydraException, ValueError, TypeError) as error:
        raise UserError(f"{what}: its _target_ {target} cannot be imported ({one_line(error)})") from error
    for name in given & set(node):
        raise UserError(f"{what}: {name} is not for the YAML; the run sets it")
    for name in node:
        if names is not None and not name.startswith("_") and name not in names:
            raise unknown(f"argument of {what}", name, names - given)
    with _mistakes(what):
        return instantiate(node, _convert_="all")


def _argument_names(target: Any) -> set[str] | None:
    """The arguments that a callable names; None if it takes any.

    What a class takes as **kwargs is for its base class: libraries drop there, silently, what they do not know.
    """
    bases = target.__mro__[1:-1] if isinstance(target, type) else ()
    names: set[str] = set()
    for layer in (target, *(vars(base)["__init__"] for base in bases if "__init__" in vars(base))):
        kinds = {parameter.name: parameter.kind for parameter in signature(layer).parameters.values()}
        names |= {name for name, kind in kinds.items() if kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)}
        if Parameter.VAR_KEYWORD not in kinds.values():
            return names - {"self"}
    return None


@contextmanager
def _mistakes(what: str) -> Iterator[None]:
    """Turns what a constructor raises for its arguments into a UserError."""
    try:
        yield
    except Exception as error:  # a constructor may raise anything for a wrong argument
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        text = " ".join(str(cause).split()) if isinstance(cause, ValueError | TypeError) else one_line(cause)
        raise UserError(f"{what}: {text if len(text) < 300 else text[:300] + '...'}") from error


def find_device(name: str, local_rank: int = 0) -> torch.device:
    """The torch device of a name; "auto" is a GPU where there is one. Raises UserError if there is no such device.

    Of several processes on a host, the `local_rank`-th takes the GPU of that number for "auto" and "cuda".
    """
    own = f"cuda:{local_rank}"
    if name == "auto":
        return torch.device(own if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(own if name == "cuda" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        there = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise UserError(f"device {name!r} is not there; there is: {', '.join(there)}") from error
    return device
