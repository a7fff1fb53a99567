"""Describes where a run was trained and with which versions, for its record."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import torch

from s3bench import __version__

OF_TASKS = ("torch", "numpy", "torchvision", "transformers", "tokenizers", "datasets", "sklearn")  # by import name


def environment(device: torch.device, nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the summary's fields: the device, the versions of libraries, and the commit of the code.

    The libraries of what the config's `nodes` name are among them.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"
    return {"device": name, "versions": versions([node["_target_"] for node in nodes]), "commit": git_commit()}


def numerics(device: torch.device) -> str | None:
    """Return what must be equal for bit-for-bit equal numbers on a CPU; None on a GPU, whose order of sums varies."""
    if device.type != "cpu":
        return None
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), "no compiler")
    made = f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return f"{made}, {compiler}"  # fused optimizer steps are compiled with it


def versions(targets: list[str]) -> dict[str, str]:
    """Return the versions of Python, s3bench and the libraries of the import paths, and of all that tasks may use.

    Those that are not installed are left out. What the process happens to have loaded makes no difference: a worker
    trains many tasks.
    """
    packages = {*OF_TASKS, *(target.split(".")[0] for target in targets)}
    found = {"python": platform.python_version(), "s3bench": __version__}
    for package in sorted(packages - {"s3bench", "optimizers", "tasks"}):
        for name in distributions().get(package, [])[:1]:
            found[name] = version(name)
    return found


@cache
def distributions() -> Mapping[str, list[str]]:
    """Return which installed distributions each importable package comes from; it takes half a second to find out."""
    return packages_distributions()


@cache
def git_commit() -> str | None:
    """Return the commit of the running code, with "+" if files were changed or added; None outside a checkout."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    code = ["s3bench", "optimizers", "tasks", "configs"]
    git = ["git", "--no-optional-locks"]  # killed with one, it would leave a lock that stops the user's git
    commands = ([*git, "rev-parse", "HEAD"], [*git, "status", "--porcelain", "--", *code])
    try:
        commit, changes = (
            subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "")
