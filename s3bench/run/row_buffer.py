"""Buffers rows whose scalars are still on the device, so that the training loop need not wait for it at every step."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from s3bench.run.distributed import ALONE, Processes
from s3bench.run.divergence import EarlyStop

Row = dict[str, float]  # a row of steps.parquet or evals.parquet, by column; `step` is an integer

MAX_ROWS = 200  # rows in the buffer
MAX_SECONDS = 1.0  # between two flushes, in a run of one process
MAX_ROWS_OF_SEVERAL = 20  # in a run of several processes, which must all flush at the same step
MAX_SCALARS = 6  # scalars of a row that are on the device


class RowBuffer:
    """Collects rows whose scalars are in one tensor on the device, and fetches them together.

    Args:
        on_steps: takes the rows that were fetched.
        early_stop: decides whether a row is the run's last.
        processes: those that train the run.
        first_step: the step at which this process begins.

    Attributes:
        steps: how many steps of the run were fetched so far, those before `first_step` included.
    """

    def __init__(
        self,
        on_steps: Callable[[list[Row]], None],
        early_stop: EarlyStop,
        processes: Processes = ALONE,
        first_step: int = 0,
    ) -> None:
        self.steps = first_step
        self._on_steps, self._early_stop = on_steps, early_stop
        self._alone = processes.size == 1
        self._rows: list[tuple[Row, list[str]]] = []  # what the host knows, and the names of the scalars on the device
        self._scalars: Tensor | None = None  # shape (MAX_ROWS, MAX_SCALARS)
        self._flushed = time.monotonic()

    def add(self, known: Row, on_device: dict[str, Tensor]) -> None:
        """Add the row of a step: what the host knows, and 0-d tensors."""
        scalars = torch.stack(list(on_device.values()))
        if self._scalars is None:
            self._scalars = scalars.new_empty(MAX_ROWS, MAX_SCALARS, dtype=torch.float64)
        self._scalars[len(self._rows), : len(scalars)] = scalars
        self._rows.append((known, list(on_device)))

    def is_due(self) -> bool:
        """Return whether the buffer is full, or its rows have waited long enough."""
        if not self._alone:
            return len(self._rows) >= MAX_ROWS_OF_SEVERAL
        return len(self._rows) >= MAX_ROWS or time.monotonic() - self._flushed > MAX_SECONDS

    def flush(self) -> bool:
        """Fetch the rows, pass them on up to the run's last one, and return whether the run continues."""
        if self._rows and not self._early_stop.stopped and self._scalars is not None:
            rows = []
            values = self._scalars[: len(self._rows)].tolist()
            for (known, names), scalars in zip(self._rows, values, strict=True):
                rows.append({**known, **dict(zip(names, scalars, strict=False))})
                if self._early_stop.add(rows[-1]["loss"]):
                    break
            self.steps += len(rows)
            self._on_steps(rows)
        self._rows, self._flushed = [], time.monotonic()
        return not self._early_stop.stopped
