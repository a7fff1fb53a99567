"""Two gloo processes under DDP or FSDP2 reach the same parameters as one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT

WORKER = Path(__file__).with_name("distributed_worker.py")


def trained(kind, name, world, folder):
    """Return parameters and state after training in `world` processes."""
    store = str(folder / f"{kind}-{world}")
    command = [sys.executable, "-W", "ignore", str(WORKER), kind, name]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen([*command, str(rank), str(world), store], env=environment) for rank in range(world)]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0] * world
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return torch.load(store + ".pt", weights_only=True)


@pytest.mark.parametrize("name", ["s3", pytest.param("signum", marks=pytest.mark.slow)])
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_end_where_one_ends(kind, name, tmp_path):
    one, two = trained("alone", name, 1, tmp_path), trained(kind, name, 2, tmp_path)
    assert len(one) == len(two)
    for tensor, other in zip(one, two, strict=True):
        largest = max(1.0, tensor.abs().max().item())  # S3's state is scaled by 2^24, and so is its rounding
        assert torch.allclose(tensor, other, atol=1e-6 * largest)
