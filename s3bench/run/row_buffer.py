"""Rows whose scalars are still on the device, so that the training loop does not wait for it at every step."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from s3bench.run.distributed import ALONE, Processes
from s3bench.run.divergence import End

BLOCK_ROWS = 200  # rows that wait on the device at most
BLOCK_SECONDS = 1.0  # and for how long, where one process trains; several must end at the same step
BLOCK_ROWS_OF_SEVERAL = 20
ROW_SCALARS = 6  # of a step, at most


class RowBuffer:
    """Rows whose scalars are still on the device, in one buffer there, fetched together."""

    def __init__(self, processes: Processes = ALONE, first_step: int = 0, end: End | None = None) -> None:
        self.steps = first_step  # fetched so far
        self._end = end or End()
        self._alone = processes.size == 1
        self._rows: list[tuple[dict[str, Any], list[str]]] = []  # what the host knows, and the names of the scalars
        self._buffer: Tensor | None = None  # (BLOCK_ROWS, scalars of a row at most)
        self._is_over = False
        self._since = time.monotonic()

    def add(self, known: dict[str, Any], on_device: dict[str, Tensor]) -> None:
        """One step: what the host knows, and 0-d tensors."""
        scalars = torch.stack(list(on_device.values()))
        if self._buffer is None:
            self._buffer = scalars.new_empty(BLOCK_ROWS, ROW_SCALARS, dtype=torch.float64)
        self._buffer[len(self._rows), : len(scalars)] = scalars
        self._rows.append((known, list(on_device)))

    def is_due(self) -> bool:
        """Whether the block is full or old."""
        if not self._alone:
            return len(self._rows) >= BLOCK_ROWS_OF_SEVERAL
        return len(self._rows) >= BLOCK_ROWS or time.monotonic() - self._since > BLOCK_SECONDS

    def flush(self, on_steps: Callable[[list[dict[str, Any]]], None]) -> bool:
        """Hand the rows on, up to the run's last one; whether it goes on."""
        if self._rows and not self._is_over and self._buffer is not None:
            rows = []
            values = self._buffer[: len(self._rows)].tolist()
            for (known, names), scalars in zip(self._rows, values, strict=True):
                rows.append({**known, **dict(zip(names, scalars, strict=False))})
                self._is_over = self._end.is_at(rows[-1]["loss"])
                if self._is_over:
                    break
            self.steps += len(rows)
            on_steps(rows)
        self._rows, self._since = [], time.monotonic()
        return not self._is_over
