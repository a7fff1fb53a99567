"""Makes batches by step: batch t depends on t alone, so any number of workers gives the same batches from any step."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

PREFETCH = 4  # batches that each worker makes in advance

Batch = tuple[torch.Tensor, ...]


class _StepDataset(Dataset[Batch | ValueError]):
    """Makes whole batches, indexed by step; an item is a ValueError if the data are bad."""

    def __init__(self, batch: Callable[[int], Batch]) -> None:
        self._batch = batch

    def __getitem__(self, step: int) -> Batch | ValueError:
        try:
            return self._batch(step)
        except ValueError as error:  # returned, because DataLoader would wrap its message in a traceback
            return ValueError(str(error))


def batches_by_step(
    batch: Callable[[int], Batch], start_step: int, workers: int, end: int | None = None, *, large: bool = False
) -> Iterator[Batch]:
    """Yield batch(start_step), batch(start_step + 1), and so on.

    Nothing is drawn from torch's global random state. A ValueError raised by `batch` is raised at its step.

    Args:
        batch: returns the batch of a step.
        start_step: the first step.
        workers: processes that make batches in advance; 0 makes each batch when it is needed.
        end: the step to stop before; None never stops.
        large: whether batches are so large, tens of megabytes, that a GPU should fetch them itself from pinned memory.
            A thread copies them there, for which training waits up to milliseconds now and then; it needs a tenth of
            one to copy a batch of a megabyte by itself.
    """
    steps = itertools.count(start_step) if end is None else range(start_step, end)
    if workers == 0:
        return map(batch, steps)
    settings: dict[str, Any] = {"num_workers": workers, "prefetch_factor": PREFETCH, "generator": torch.Generator()}
    settings |= {"batch_size": None, "sampler": steps, "pin_memory": large and torch.cuda.is_available()}
    return map(_raise_error, iter(DataLoader(_StepDataset(batch), **settings)))


def _raise_error(item: Batch | ValueError) -> Batch:
    """Return a batch; raise an item that is an error."""
    if isinstance(item, ValueError):
        raise item
    return item
