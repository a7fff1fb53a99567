"""Connects the processes that train one model together, as torchrun starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

COLLECTIVE_TIMEOUT = timedelta(minutes=10)  # how long a process waits for the others


@dataclass(frozen=True)
class Processes:
    """Identifies this process: number `rank` of `size`, and number `local_rank` on its host, all from 0.

    Its methods are collective: every process must call them. They return the same value in all.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def rows(self) -> slice:
        """Return the rows of each batch that this process trains on."""
        return slice(self.rank, None, self.size)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over all processes, computed in place."""
        return self._reduce(value, dist.ReduceOp.SUM)

    def max(self, value: Tensor) -> Tensor:
        """Return the largest value of all processes, computed in place."""
        return self._reduce(value, dist.ReduceOp.MAX)

    def from_first(self, value: Any) -> Any:
        """Return the first process's value."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def largest(self, value: int) -> int:
        """Return the largest number of all processes."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return max(values)

    def any(self, value: bool) -> bool:
        """Return whether the value is true in any process."""
        return self.largest(int(value)) > 0

    def _reduce(self, value: Tensor, how: Any) -> Tensor:
        if self.size > 1:
            dist.all_reduce(value, how)
        return value


ALONE = Processes()


def of_torchrun() -> Processes:
    """Return this process's place among those that torchrun started, from the environment; ALONE if there are none."""
    rank, size, local = (
        int(os.environ.get(name, no)) for name, no in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    return Processes(rank, size, local) if size > 1 else ALONE


@contextmanager
def joined(processes: Processes, device: torch.device) -> Iterator[None]:
    """Within this context, connect the processes: by NCCL between GPUs, else by gloo."""
    if processes.size == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=COLLECTIVE_TIMEOUT)
    try:
        yield
        dist.barrier()  # a process that left early would cut off the others' last messages
    finally:
        dist.destroy_process_group()
