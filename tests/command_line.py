"""Runs the command line for a test: in a process of its own, as a user does, or in this one, which is much cheaper."""

import contextlib
import importlib
import io
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest import mock

from s3bench.cli import main
from s3bench.run.signals import SIGNALS

ROOT = Path(__file__).parents[1]
SCRIPT = str(Path(sys.executable).with_name("s3bench"))
CONFIGS, DIGESTS = "s3bench.run.config.compose", "s3bench.run.config.code_digest"
Done = subprocess.CompletedProcess[str]


def in_a_process(folder: Path, *arguments: str, **environment: str) -> Done:
    """Run the console script in a folder."""
    own = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # the tests' wandb process
    env = {**own, **environment}
    return subprocess.run(
        [SCRIPT, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300
    )


def in_this_process(folder: Path, *arguments: str, **environment: str) -> Done:
    """Call the console script's function in a folder, and restore what it changes for good."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    with contextlib.ExitStack() as stack:
        for change in (
            mock.patch.dict(os.environ, environment),
            mock.patch.object(sys, "argv", [SCRIPT, *arguments]),
            mock.patch.object(sys, "path", [*sys.path]),
            _main_module(),
            contextlib.chdir(folder),
            _own_modules(folder),
            _signals(),
            _warnings(),
            _logging(),
            _torch_and_hydra(),
            _one_fork_server(),
            contextlib.redirect_stdout(streams[0]),
            contextlib.redirect_stderr(streams[1]),
        ):
            stack.enter_context(change)
        code = _exit_code(list(arguments))
    out, err = (stream.buffer.getvalue().decode() for stream in streams)
    return subprocess.CompletedProcess([SCRIPT, *arguments], code, out, err)


def _exit_code(arguments: list[str]) -> int:
    """Return what Python makes of the ways in which the function can end."""
    try:
        return main(arguments)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1


@contextlib.contextmanager
def _main_module() -> Iterator[None]:
    """Have an empty __main__, since workers import it."""
    main_module, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main_module


@contextlib.contextmanager
def _own_modules(folder: Path) -> Iterator[None]:
    """Import the modules of this folder afresh, and forget what is known of its files."""
    before = set(sys.modules)
    importlib.invalidate_caches()
    own = [DIGESTS] if any(folder.rglob("*.py")) else []
    _forget(*own, *([CONFIGS] if (folder / "configs").exists() else []))  # the latter by folder
    try:
        yield
    finally:
        for name in sys.modules.keys() - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(f"{folder}/"):
                del sys.modules[name]
        _forget(*own)


def _forget(*modules: str) -> None:
    """Clear the caches of modules that see the files of a process once."""
    for name in modules:
        for value in vars(importlib.import_module(name)).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Begin as a process does, which blocks none and has Python's handlers."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextlib.contextmanager
def _warnings() -> Iterator[None]:
    """Print warnings as a process does, which pytest turns into errors."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        warnings.showwarning = lambda *found: print(warnings.formatwarning(*found[:4]), end="", file=sys.stderr)
        yield


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Take pytest's handlers away, so that what is logged is printed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def _torch_and_hydra() -> Iterator[None]:
    """Restore torch's threads, denormal numbers and random numbers, and Hydra's config."""
    import torch
    from hydra.core.hydra_config import HydraConfig

    threads, state, config = torch.get_num_threads(), torch.get_rng_state(), HydraConfig.instance().cfg
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        torch.set_rng_state(state)
        HydraConfig.instance().cfg = config


@contextlib.contextmanager
def _one_fork_server() -> Iterator[None]:
    """Have all commands of this process share a fork server, which has imported nothing of theirs."""
    from s3bench.run.sweep import workers

    start = workers._fork_server

    def start_once(_: object) -> multiprocessing.context.ForkServerContext:
        with contextlib.chdir(ROOT):  # its folder; a worker gets that of the command
            return start([])

    with mock.patch.object(workers, "_fork_server", start_once):
        yield
