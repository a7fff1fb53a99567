"""What a run ran on: for its record."""

import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from s3bench import __version__


def device_name(device: torch.device) -> str:
    """The GPU's name, or the kind of processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"


def versions() -> dict[str, str]:
    """Of Python, this package and the loaded libraries that a result can depend on."""
    libraries = [
        name for name in ("torch", "numpy", "torchvision", "transformers", "tokenizers") if name in sys.modules
    ]
    return {"python": platform.python_version(), "s3bench": __version__} | {name: version(name) for name in libraries}


@cache
def git_commit() -> str | None:
    """The commit of the code that runs, with "+" if files were changed; None outside a checkout."""
    here = Path(__file__).parent
    if not (here.parent / ".git").exists():
        return None
    asked = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        commit, changes = (
            subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for command in asked
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "")
