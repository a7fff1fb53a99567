"""Checkpoints: a run that was interrupted goes on from its last one, on a CPU bit for bit as if it had not been."""

import logging
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from s3bench import record
from s3bench.errors import one_line
from s3bench.run.learner import Learner
from s3bench.run.signals import Stop

log = logging.getLogger(__name__)

TOGETHER = 20  # steps between the moments at which several processes agree on a checkpoint


class Checkpoints:
    """Writes the checkpoints of a run under way, and stops it if it was asked to stop.

    Args:
        folder: the record's, which the first process has.
        every: seconds between two of them.
        stop: what may ask the run to stop.
        extra: what else a checkpoint holds: numbers and texts by name.
    """

    def __init__(
        self,
        folder: Path | None,
        learner: Learner,
        optimizer: torch.optim.Optimizer,
        *,
        every: float,
        stop: Stop,
        extra: Callable[[], dict[str, Any]],
    ) -> None:
        self._folder, self._learner, self._optimizer = folder, learner, optimizer
        self._every, self._stop, self._extra = every, stop, extra
        self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is to be made before this step: it is time, or the run was asked to stop."""
        processes = self._learner.processes
        if processes.size > 1 and step % TOGETHER:
            return False
        due = self._stop.number is not None or time.monotonic() - self._last > self._every
        return due if processes.size == 1 else processes.any(due)

    def save(self, step: int) -> None:
        """Write the state before step `step`, whose rows are all written. Raises Stopped if that was asked for."""
        model, optimizer = _state(self._learner, self._optimizer)
        if self._folder is not None:
            try:
                state = {"step": step, "model": model, "optimizer": optimizer, **_random_state(), **self._extra()}
                record.write_checkpoint(self._folder, step, lambda file: torch.save(state, file))
            except (OSError, RuntimeError) as error:  # the one before it is still there
                if not isinstance(error, OSError) and not isinstance(error.__context__, OSError):
                    raise  # torch wraps the OSError of a full disk
                log.warning("no checkpoint at step %d (%s); training goes on", step, one_line(error))
        asked = self._learner.processes.largest(self._stop.number or 0)
        self._last = time.monotonic()
        if asked:
            self._stop.number = asked
            self._stop.raise_if_asked()


def newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint of a run that is whole and whose rows are there; None if there is none."""
    for file in record.checkpoints(folder):
        state = _load(file)
        if state is not None and record.has_rows(folder, state["step"], state["evals"]):
            return state
    return None


def restore(
    folder: Path | None, state: dict[str, Any] | None, learner: Learner, optimizer: torch.optim.Optimizer
) -> None:
    """Put a checkpoint into the model, the optimizer and torch's random numbers. Only the first process has it.

    Raises what torch raises for one that does not fit; the run's checkpoints are then set aside, so that another try
    begins anew. After any other failure, such as a GPU that others have filled, another try takes them again.
    """
    try:
        if learner.processes.size == 1:
            assert state is not None
            learner.model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
        else:
            _restore_spread(state, learner, optimizer)
        _set_random_state(learner.processes.from_first(_randoms(state)))
    except (KeyError, ValueError, RuntimeError) as error:
        fits = isinstance(error, RuntimeError) and "Error(s) in loading state_dict" not in str(error)
        if folder is not None and not fits:
            record.set_checkpoints_aside(folder)
        raise


def _load(file: Path) -> dict[str, Any] | None:
    """A checkpoint; None if it was cut off or damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:  # compares each part with its sum
                return None
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return state
    except (
        OSError,
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        ValueError,
        NotImplementedError,
        pickle.UnpicklingError,
    ):
        return None


def _state(learner: Learner, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """The states of model and optimizer; of several processes' parts the whole, which the first one gets."""
    if learner.processes.size == 1:
        return learner.model.state_dict(), optimizer.state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_state_dict(learner.model, optimizer, options=whole)


def _restore_spread(state: dict[str, Any] | None, learner: Learner, optimizer: torch.optim.Optimizer) -> None:
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        set_model_state_dict,
        set_optimizer_state_dict,
    )

    # one by one: set_state_dict takes a process without the model's state for one that wants the optimizer's alone
    spread = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    if learner.processes.from_first(any(state["optimizer"]["state"].values()) if state else None):  # SignSGD has none
        set_optimizer_state_dict(learner.model, optimizer, state["optimizer"] if state else {}, options=spread)
    set_model_state_dict(learner.model, state["model"] if state else {}, options=spread)


def _random_state() -> dict[str, Any]:
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return {"random": torch.get_rng_state(), "random_gpus": gpus}


def _randoms(state: dict[str, Any] | None) -> dict[str, Any]:
    return {key: state[key] for key in ("random", "random_gpus")} if state else {}


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["random"])
    if state["random_gpus"] and torch.cuda.device_count() == len(state["random_gpus"]):
        torch.cuda.set_rng_state_all(state["random_gpus"])
