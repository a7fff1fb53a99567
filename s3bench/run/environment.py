"""What a run ran on: for its record."""

import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import torch

from s3bench import __version__


def environment(device: torch.device, targets: list[str]) -> dict[str, Any]:
    """The device, the versions of what the run used (the import paths `targets` among it), and the code's commit."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"
    return {"device": name, "versions": versions(targets), "commit": git_commit()}


def numerics(device: torch.device) -> str | None:
    """What must be the same for the same numbers on a CPU; None on a GPU, which adds in an order of its own."""
    if device.type != "cpu":
        return None
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), "no compiler")
    made = f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return f"{made}, {compiler}"  # which optimizers fuse their steps with


def versions(targets: list[str]) -> dict[str, str]:
    """Of Python, this package, and the libraries that the run used: torch, numpy, and those of the import paths."""
    packages = {"torch", "numpy", *(target.split(".")[0] for target in targets)}
    packages |= {"torchvision", "transformers", "tokenizers", "datasets", "sklearn"} & set(sys.modules)
    found = {"python": platform.python_version(), "s3bench": __version__}
    distributions = packages_distributions()
    for package in sorted(packages - {"s3bench", "optimizers", "tasks"}):
        for name in distributions.get(package, [])[:1]:
            found[name] = version(name)
    return found


@cache
def git_commit() -> str | None:
    """The commit of the code that runs, with "+" if files were changed or added; None outside a checkout."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    code = ["s3bench", "optimizers", "tasks", "configs"]
    asked = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--", *code])
    try:
        commit, changes = (
            subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout.strip()
            for command in asked
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "")
