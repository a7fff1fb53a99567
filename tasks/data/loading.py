"""Batches by step: batch t is a function of t alone, so that any number of workers gives the same, from any step on."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

PREFETCH = 4  # batches that each worker keeps ready

Batch = tuple[torch.Tensor, ...]


class _StepDataset(Dataset[Batch | ValueError]):
    """A data set whose items are whole batches, indexed by step; or what was wrong with the data."""

    def __init__(self, batch: Callable[[int], Batch]) -> None:
        self._batch = batch

    def __getitem__(self, step: int) -> Batch | ValueError:
        try:
            return self._batch(step)
        except ValueError as error:  # handed over as it is; DataLoader would wrap its one line in a traceback
            return ValueError(str(error))


def batches_by_step(
    batch: Callable[[int], Batch], start_step: int, workers: int, end: int | None = None
) -> Iterator[Batch]:
    """batch(start_step), batch(start_step + 1), ... before `end`, None: without end; made by `workers` processes ahead
    of time, 0: when needed.

    Nothing is drawn from torch's global random state. A ValueError of `batch` is raised at its step.
    """
    steps = itertools.count(start_step) if end is None else range(start_step, end)
    if workers == 0:
        return map(batch, steps)
    settings: dict[str, Any] = {"num_workers": workers, "prefetch_factor": PREFETCH, "generator": torch.Generator()}
    settings |= {"batch_size": None, "sampler": steps, "pin_memory": torch.cuda.is_available()}
    return map(_raise_error, iter(DataLoader(_StepDataset(batch), **settings)))


def _raise_error(item: Batch | ValueError) -> Batch:
    if isinstance(item, ValueError):
        raise item
    return item
