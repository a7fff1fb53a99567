"""Builds the parts of a run that its config names, and checks their arguments; defines what each part must offer."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import Any, Protocol, runtime_checkable

import torch
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from torch import Tensor, nn

from s3bench.errors import UserError, one_line, unknown
from s3bench.record.shock_kinds import KINDS
from s3bench.run.config.schema import RunConfig
from s3bench.run.shock import Shock, check_state
from s3bench.run.shock_effects import Batch
from s3bench.run.tracking import Tracker
from s3bench.spikes import SpikeMonitor

EXTRAS = {"pytorch_optimizer": "zoo"}  # packages that only an extra of pyproject.toml installs

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs what it raises


class Task(Protocol):
    """The data, model, loss and metrics that a task YAML names. Any class with these methods is a task.

    The arguments of its constructor come from `build` in the YAML, usually with `seed: ${seed}` among them. For a wrong
    argument it should raise ValueError with a message that says what is allowed; the user sees the message on one line.

    Two things are optional: `batches` may take `rows`, see DivisibleTask; and the class may have a method `shocked`,
    see `s3bench.run.shock.Shockable`.
    """

    def model(self) -> nn.Module:
        """Return a freshly initialised model. The run seeds torch before, and moves the model to its device."""

    def batches(self, start_step: int) -> Iterator[Batch]:
        """Yield the batches of `start_step` and all later steps, without end.

        The batch of step t must depend on nothing but the task's seed and t: then every optimizer sees the same data,
        and a resumed run sees the data of an uninterrupted one.

        Args:
            start_step: the step of the first batch.

        Returns:
            An iterator over tuples of tensors. Shocks take the first tensor of a batch as its inputs, and the last of
            several as its labels.
        """

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of a batch, a 0-d tensor from which gradients can be computed.

        Args:
            model: the task's own model, which torch may have wrapped for several processes.
            batch: a batch, or a part of its rows, on the model's device.
        """

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the loss and the metrics of a model on fixed held-out data.

        Args:
            model: the task's own model, in evaluation mode.

        Returns:
            `loss`, and any metrics by name. `targets` in the task's YAML refer to these names.
        """

    def fingerprint(self) -> str:
        """Return a text for the record that identifies the data: other data have another fingerprint."""


class DivisibleTask(Task, Protocol):
    """A task whose batches can be split, as `accumulate` and several processes need it."""

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Yield the batches as Task.batches does, but only these rows (first dimension) of every tensor in a batch."""


class OptimizerFactory(Protocol):
    """The update rule that an optimizer YAML names, with all its arguments but the two that the run sets."""

    def __call__(self, params: Iterable[Any], *, lr: float) -> torch.optim.Optimizer:
        """Return the optimizer for these parameters or parameter groups; it must step without a closure."""


@runtime_checkable
class Clip(Protocol):
    """What clips gradients or updates: what a clip YAML names; optimizers.clipping.Clip is a base class for it."""

    needs_whole_tensors: bool  # whether it cannot work with the part of each parameter that a process has under FSDP2

    def before_step(self, params: Sequence[nn.Parameter], norm: Tensor) -> None:
        """Change the gradients in place; `norm` is the 2-norm over all of them, 0-d. Must not wait for the device."""

    def after_step(self, params: Sequence[nn.Parameter], lr: float) -> None:
        """Change in place what the optimizer has made of the parameters, at the learning rate of this step."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold for the steps to come: tensors, numbers and texts."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there."""


class Schedule(Protocol):
    """The learning-rate schedule that a schedule YAML names: a pure function of the step."""

    def __call__(self, step: int, *, horizon: int) -> float:
        """Return the factor on the learning rate at a step, in a run planned for `horizon` steps."""


@dataclass(frozen=True)
class Parts:
    """Holds what a config names."""

    task: Task
    optimizer: OptimizerFactory
    clip: Clip  # fresh: a run takes a copy, because it has a memory
    schedule: Schedule
    tracker: Tracker


def build_parts(config: RunConfig) -> Parts:
    """Return the parts of a run. Raises UserError for a wrong argument."""
    names = config.names
    task: Task = _build(config.task.build, f"task {names.task}", given=set())
    _check_shock(config, task)
    optimizer: OptimizerFactory = _build(config.optimizer, f"optimizer {names.optimizer}", given={"params", "lr"})
    clip: Clip = _build(config.clip, f"clip {names.clip}", given=set())
    schedule: Schedule = _build(config.schedule, f"schedule {names.schedule}", given={"step", "horizon"})
    tracker = build_tracker(config)
    _check_detector(config.task.spikes)
    with _mistakes(f"optimizer {names.optimizer}"):
        trial = optimizer([nn.Parameter(torch.zeros(2, 2))], lr=config.task.lr * config.lr_multiplier)
        if not isinstance(trial, torch.optim.Optimizer):
            raise TypeError(f"its _target_ returns a {type(trial).__name__}, not a torch.optim.Optimizer")
        check_state(config.shock.kind, trial)
    with _mistakes(f"clip {names.clip}"):
        if not isinstance(clip, Clip):
            raise TypeError(
                f"its _target_ returns a {type(clip).__name__}, which lacks methods of optimizers.clipping.Clip"
            )
    with _mistakes(f"schedule {names.schedule}"):
        schedule(0, horizon=config.horizon)
    return Parts(task=task, optimizer=optimizer, clip=clip, schedule=schedule, tracker=tracker)


def build_tracker(config: RunConfig) -> Tracker:
    """Return the tracker of a run. Raises UserError for a wrong argument, or if a package is missing."""
    tracker: Tracker = _build(config.tracker, f"tracker {config.names.tracker}", given=set())
    return tracker


def _check_shock(config: RunConfig, task: Task) -> None:
    """Raise UserError if the shock does not suit the task's batches."""
    kind = KINDS.get(config.shock.kind)
    if kind and kind.in_batch:
        try:
            Shock(config.shock, task).batch(config.shock.step, next(iter(task.batches(0))))
        except ValueError as error:
            raise UserError(f"task {config.names.task}: {error}") from error


def _check_detector(parameters: dict[str, Any]) -> None:
    """Raise UserError for a wrong parameter of the detector in task.spikes."""
    allowed = _argument_names(SpikeMonitor) or set()
    for name, value in parameters.items():
        if name not in allowed:
            raise unknown("key of task.spikes", name, allowed)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"task.spikes.{name} is {value!r}; it must be a number")
    with _mistakes("task.spikes"):
        SpikeMonitor(**parameters)


def _build(node: dict[str, Any], what: str, *, given: set[str]) -> Any:
    """Return what the `_target_` of a config node makes of the node's arguments.

    `what` names the node in error messages; `given` are the arguments that the run sets later.
    """
    target = node["_target_"]
    package = target.split(".")[0]
    if package in EXTRAS and find_spec(package) is None:
        raise UserError(f"{what} needs {package}, which is not installed: pip install 's3bench[{EXTRAS[package]}]'")
    try:
        names = _argument_names(get_object(target))
    except (ImportError, HydraException, ValueError, TypeError) as error:
        raise UserError(f"{what}: cannot import its _target_ {target} ({one_line(error)})") from error
    if given and not node.get("_partial_"):
        raise UserError(f"{what}: its YAML lacks _partial_: true; the run sets {' and '.join(sorted(given))} itself")
    for name in given & set(node):
        raise UserError(f"{what}: {name} is set by the run and cannot be given")
    for name in node:
        if names is not None and not name.startswith("_") and name not in names:
            raise unknown(f"argument of {what}", name, names - given)
    with _mistakes(what):
        return instantiate(node, _convert_="all")


def _argument_names(target: Any) -> set[str] | None:
    """Return the names of a callable's arguments; None if it takes any.

    A class that takes **kwargs passes them to its base class, so the names of the base class count. Libraries often
    drop silently the arguments that they do not know.
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
    """Turn whatever a constructor raises for its arguments into a UserError."""
    try:
        yield
    except Exception as error:  # a constructor may raise anything for a wrong argument
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        text = " ".join(str(cause).split()) if isinstance(cause, ValueError | TypeError) else one_line(cause)
        raise UserError(f"{what}: {text if len(text) < 300 else text[:300] + '...'}") from error


def find_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the torch device of a name; "auto" is a GPU if there is one. Raises UserError if the device is missing.

    For "auto" and "cuda", the process with number `local_rank` on its host takes the GPU of that number.
    """
    own = f"cuda:{local_rank}"
    if name == "auto":
        return torch.device(own if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(own if name == "cuda" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        available = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise UserError(f"device {name!r} is not available; choose from: {', '.join(available)}") from error
    return device
