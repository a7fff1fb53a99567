"""Writes and restores checkpoints: a run resumes from its last one, on a CPU bit for bit as if never interrupted."""

import logging
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from s3bench import record
from s3bench.errors import one_line
from s3bench.run.build import Clip
from s3bench.run.environment import numerics
from s3bench.run.learner import Learner
from s3bench.run.ring import Ring
from s3bench.run.signals import Stop

log = logging.getLogger(__name__)

AGREE_EVERY = 20  # steps between those at which several processes agree on whether to write a checkpoint


class Saving(Protocol):
    """What the training loop asks between two steps."""

    def is_due(self, step: int) -> bool:
        """Return whether to call `save` before this step."""

    def save(self, step: int) -> None:
        """Keep the state before a step. All rows before it were passed on. May raise to end the training."""


class Checkpoints:
    """Writes the checkpoints of a run while it trains, and stops the run if it was asked to stop.

    Args:
        folder: the folder of the record; only the first process has it.
        every: seconds between two checkpoints.
        stop: may ask the run to stop.
        extra: returns what else a checkpoint holds: numbers and texts by name.
        ring: keeps the last few states in memory; None keeps none.
    """

    def __init__(
        self,
        folder: Path | None,
        learner: Learner,
        optimizer: torch.optim.Optimizer,
        clip: Clip,
        *,
        every: float,
        stop: Stop,
        extra: Callable[[], dict[str, Any]],
        ring: Ring | None = None,
    ) -> None:
        self._folder, self._learner, self._optimizer, self._clip = folder, learner, optimizer, clip
        self._ring = ring
        self._every, self._stop, self._extra = every, stop, extra
        self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Return whether to keep the state before this step: it is time, or the run was asked to stop."""
        return self._is_for_ring(step) or self._is_for_disk(step)

    def _is_for_ring(self, step: int) -> bool:
        return self._ring is not None and self._ring.is_due(step)

    def _is_for_disk(self, step: int) -> bool:
        processes = self._learner.processes
        if processes.size > 1 and step % AGREE_EVERY:
            return False
        due = self._stop.number is not None or time.monotonic() - self._last > self._every
        return due if processes.size == 1 else processes.any(due)

    def save(self, step: int) -> None:
        """Keep the state before a step, in the ring or as a checkpoint. All rows before it must be written.

        Raises Stopped if a stop was asked for.
        """
        state = checkpoint(self._learner, self._optimizer, self._clip)
        if self._ring is not None and self._is_for_ring(step):
            self._ring.add(step, state)
        if self._is_for_disk(step):
            self._write(step, state)

    def _write(self, step: int, state: dict[str, Any]) -> None:
        if self._folder is not None:
            try:
                state |= {"step": step, **self._extra()}
                record.write_checkpoint(self._folder, step, lambda file: torch.save(state, file))
            except (OSError, RuntimeError) as error:  # the previous checkpoint is still there
                if not isinstance(error, OSError) and not isinstance(error.__context__, OSError):
                    raise  # torch wraps the OSError of a full disk
                log.warning("cannot write the checkpoint at step %d (%s); training continues", step, one_line(error))
        asked = self._learner.processes.largest(self._stop.number or 0)
        self._last = time.monotonic()
        if asked:
            self._stop.number = asked
            self._stop.raise_if_asked()


class History:
    """Adds up the seconds of a run, and lists the steps at which it resumed, over all attempts that trained it.

    Create it just before training begins.

    Args:
        device: where this process trains.
        began: time.monotonic() at the beginning of this attempt.
        first_step: the step at which this attempt begins to train.
        saved: the checkpoint that it resumes from; None if there is none.
    """

    def __init__(self, device: torch.device, began: float, first_step: int, saved: dict[str, Any] | None) -> None:
        earlier: dict[str, Any] = {"resumed": [], "seconds": 0.0, "train_seconds": 0.0, **(saved or {})}
        self._device, self._resumed = device, earlier["resumed"]
        if first_step:
            exact = numerics(device) is not None and earlier.get("numerics") == numerics(device)
            self._resumed = [*self._resumed, {"step": first_step, "exact": exact}]
        self._start = began - earlier["seconds"]
        self._train_start = time.monotonic() - earlier["train_seconds"]

    def summary(self) -> dict[str, Any]:
        """Return the summary's fields so far: seconds in all, seconds in the training loop, and resumed steps."""
        now = time.monotonic()
        return {"seconds": now - self._start, "train_seconds": now - self._train_start, "resumed": self._resumed}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it, for the next attempt's History."""
        return {**self.summary(), "numerics": numerics(self._device)}


def checkpoint(learner: Learner, optimizer: torch.optim.Optimizer, clip: Clip) -> dict[str, Any]:
    """Return the state of model, optimizer, clip and random numbers, not copied; of several processes to the first."""
    model, state = _state(learner, optimizer)
    return {"model": model, "optimizer": state, "clip": clip.state_dict(), **_random_state()}


def newest(folder: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint of a run that is intact and whose rows are there; None if there is none."""
    for file in record.checkpoints(folder):
        state = load(file)
        if state is not None and record.has_rows(folder, state["step"], state.get("evals")):
            return state
    return None


def restore(
    folder: Path | None,
    state: dict[str, Any] | None,
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    clip: Clip,
) -> None:
    """Restore model, optimizer, clip and torch's random numbers from a checkpoint. Only the first process has it.

    Raises what torch raises for a checkpoint that does not fit. The run's checkpoints are then set aside, so that
    another attempt starts from the first step. After any other failure, such as a GPU that is out of memory, another
    attempt uses them again.
    """
    try:
        if learner.processes.size == 1:
            assert state is not None
            learner.model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
        else:
            _restore_spread(state, learner, optimizer)
        clip.load_state_dict(learner.processes.from_first(state.get("clip", {}) if state else {}))
        _set_random_state(learner.processes.from_first(_randoms(state)))
    except (LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        fits = isinstance(error, RuntimeError) and "Error(s) in loading state_dict" not in str(error)
        if folder is not None and not fits:
            record.set_checkpoints_aside(folder)
        raise


def load(file: Path) -> dict[str, Any] | None:
    """Return a checkpoint; None if it is truncated or damaged."""
    try:
        with record.opened(file) as content, zipfile.ZipFile(content) as archive:
            parts = archive.infolist()
            if sum(part.file_size for part in parts) > file.stat().st_size or archive.testzip() is not None:
                return None  # torch compresses nothing; testzip compares each part with its checksum
            content.seek(0)
            state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception:  # zipfile, pickle and torch raise whatever the damage leads to
        return None
    return state if isinstance(state, dict) and type(state.get("step")) is int and state["step"] >= 0 else None


def _state(learner: Learner, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the states of model and optimizer; with several processes, the first one gets the whole state."""
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

    # one by one: set_state_dict takes a process without the model's state to want only the optimizer's
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
