"""One of two processes of test_distributed.py: trains under DDP or FSDP2 and saves parameters and state."""

import faulthandler
import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from optimizers import S3, SignSGD


def main(kind: str, name: str, rank: int, world: int, store: str) -> None:
    """Train five steps on this process's share of each batch; rank 0 saves the parameters and the state."""
    dist.init_process_group("gloo", store=dist.FileStore(store, world), rank=rank, world_size=world)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))
    trained = model
    if kind == "ddp":
        trained = DistributedDataParallel(model)
    elif kind == "fsdp2":
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
    optimizer = {"s3": S3, "signum": lambda p, lr: SignSGD(p, lr=lr, momentum=0.9)}[name](trained.parameters(), lr=0.1)
    for step in range(5):
        batch = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        trained(batch.chunk(world)[rank]).square().mean().backward()
        optimizer.step()
    full = [p.full_tensor() if isinstance(p, DTensor) else p for p in model.parameters()]
    state = [v.full_tensor() if isinstance(v, DTensor) else v for s in optimizer.state.values() for v in s.values()]
    if rank == 0:
        torch.save([t.detach().clone() for t in (*full, *state)], store + ".pt")
    dist.barrier()  # a process that left early would cut off the other's last messages
    dist.destroy_process_group()


if __name__ == "__main__":
    faulthandler.dump_traceback_later(100, exit=True)  # shows where, if they wait for each other for ever
    _, kind, name, rank, world, store = sys.argv
    main(kind, name, int(rank), int(world), store)
    os._exit(0)  # at Python's usual exit, gloo's threads sometimes abort the process
