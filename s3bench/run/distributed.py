"""Several processes that train one model, as torchrun starts them: who this one is, and what they tell each other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(minutes=10)  # that a process waits for the others


@dataclass(frozen=True)
class Processes:
    """This process, `rank` of `size`, the `local_rank`-th on its host."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def rows(self) -> slice:
        """The rows of each batch that are this process's."""
        return slice(self.rank, None, self.size)

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        return self._reduce(value, dist.ReduceOp.SUM)

    def max(self, value: Tensor) -> Tensor:
        """The largest of all processes, in place."""
        return self._reduce(value, dist.ReduceOp.MAX)

    def from_first(self, value: Any) -> Any:
        """What the first process has."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def largest(self, value: int) -> int:
        """The largest number of all processes."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return max(values)

    def any(self, value: bool) -> bool:
        """Whether it holds for any process."""
        return self.largest(int(value)) > 0

    def _reduce(self, value: Tensor, how: Any) -> Tensor:
        if self.size > 1:
            dist.all_reduce(value, how)
        return value


ALONE = Processes()


def of_torchrun() -> Processes:
    """This process among those that torchrun started, by its environment variables; ALONE where it started none."""
    rank, size, local = (
        int(os.environ.get(name, no)) for name, no in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    return Processes(rank, size, local) if size > 1 else ALONE


@contextmanager
def joined(processes: Processes, device: torch.device) -> Iterator[None]:
    """Connected with the others: by NCCL between GPUs, else by gloo."""
    if processes.size == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
        dist.barrier()  # one that left early would break the others' last messages off
    finally:
        dist.destroy_process_group()
