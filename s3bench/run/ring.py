"""Keeps the last few states of a run in memory, and writes the one from before a spike once the spike is seen."""

import logging
from collections import deque
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3bench import record
from s3bench.errors import one_line

log = logging.getLogger(__name__)

EVERY = 100  # steps between two states
LENGTH = 5  # states: a spike is seen up to 200 steps late, see row_buffer.py, and a replay needs 120 steps before it
MARGIN = 120  # steps before the onset: 100 whose gradients an arm's optimizer may watch, and 20 that arms differ in


class Ring:
    """Holds the states of the last few hundred steps on the CPU, for checkpoints from before spikes.

    Args:
        folder: the record; None in the processes that do not write it.
        spikes: how many spikes a checkpoint is kept for, the first ones of the run.
        first_step: the step at which this process begins to train.
    """

    def __init__(self, folder: Path | None, spikes: int, first_step: int = 0) -> None:
        self._folder, self._spikes, self._first_step = folder, spikes, first_step
        self._states: deque[dict[str, Any]] = deque(maxlen=LENGTH)

    def is_due(self, step: int) -> bool:
        """Return whether the state before a step belongs into the ring: every 100 steps, and where training begins."""
        return step == self._first_step or step % EVERY == 0

    def add(self, step: int, state: dict[str, Any]) -> None:
        """Copy the state before a step into memory, in place of the oldest one."""
        if self._folder is not None:
            self._states.append({"step": step, **copied(state)})

    def keep(self, onset: int) -> None:
        """Write the newest state from well before a spike, unless enough spikes have one."""
        usable = [state for state in self._states if state["step"] <= max(0, onset - MARGIN)]
        if self._folder is None or not usable or len(record.kept(self._folder).keys() - {onset}) >= self._spikes:
            return
        try:
            record.write_kept(self._folder, onset, usable[-1]["step"], lambda file: torch.save(usable[-1], file))
        except (OSError, RuntimeError) as error:  # torch wraps the OSError of a full disk
            if not isinstance(error, OSError) and not isinstance(error.__context__, OSError):
                raise
            log.warning("cannot keep a checkpoint from before step %d (%s); training continues", onset, one_line(error))


def copied(state: Any) -> Any:
    """Return a state with copies of all its tensors on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(copied, state))
    return state
