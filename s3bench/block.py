"""Rows whose scalars are still on the device, so that the training loop does not wait for it at every step."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

BLOCK_ROWS = 200  # rows that wait on the device at most
BLOCK_SECONDS = 1.0  # and for how long


class Block:
    """Rows whose scalars are still on the device, fetched together."""

    def __init__(self) -> None:
        self.steps = 0  # fetched so far
        self._rows: list[tuple[dict[str, Any], dict[str, Tensor]]] = []
        self._finite = True
        self._since = time.monotonic()

    def add(self, known: dict[str, Any], on_device: dict[str, Tensor]) -> None:
        """One step: what the host knows, and 0-d tensors."""
        self._rows.append((known, on_device))

    def is_due(self) -> bool:
        """Whether the block is full or old."""
        return len(self._rows) >= BLOCK_ROWS or time.monotonic() - self._since > BLOCK_SECONDS

    def flush(self, on_steps: Callable[[list[dict[str, Any]]], None]) -> bool:
        """Hand the rows on, up to the first non-finite loss; whether all losses so far are finite."""
        if self._rows and self._finite:
            scalars = [scalar.double() for _, on_device in self._rows for scalar in on_device.values()]
            values = iter(torch.stack(scalars).tolist())
            rows = []
            for known, on_device in self._rows:
                rows.append({**known, **{name: next(values) for name in on_device}})
                if not math.isfinite(rows[-1]["loss"]):
                    self._finite = False
                    break
            self.steps += len(rows)
            on_steps(rows)
        self._rows, self._since = [], time.monotonic()
        return self._finite
