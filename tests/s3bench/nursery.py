"""Forks commands from a process that has imported everything, and kills them with all their workers at a moment.

The process reads one JSON object a line (see `Nursery.run`) and answers with one. What it forks is the leader of a
process group that its workers belong to: they are forked too, and not started afresh as a user's are.
"""

import contextlib
import gc
import importlib
import json
import mmap
import multiprocessing
import os
import pkgutil
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link")  # Python's audit events of files
LONGEST = 300.0  # seconds that a command may take


class Killing(NamedTuple):
    """When a command is killed: after some time, or at a file operation whose path has a word in it."""

    seconds: float | None = None  # from its start; None: not by the clock
    word: str | None = None  # None: not at a file operation
    count: int = 1  # the how-manieth such operation, over all processes of the command
    pause: float = 0.0  # seconds after the operation began; 0: just before it


class Done(NamedTuple):
    """How a command ended."""

    code: int  # negative: the number of the signal that killed it
    seconds: float
    said: str  # what it printed, mistakes too

    @property
    def killed(self) -> bool:
        """Whether it was killed."""
        return self.code == -signal.SIGKILL


class Nursery:
    """The process that forks commands; use it in a with block."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.s3bench.nursery"],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def run(self, folder: Path, *arguments: str, killing: Killing | None = None) -> Done:
        """Run a command in a folder, kill it if asked to, and return when all its processes are gone."""
        asked = {"folder": str(folder), "arguments": arguments, "killing": killing or Killing()}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Done(*json.loads(self._process.stdout.readline()))


def _serve() -> None:
    """Fork a command for each line of stdin."""
    _import_everything()
    gc.collect()
    gc.freeze()  # else the first collection of each process that is forked would copy all of its memory
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    for line in iter(requests.readline, ""):
        asked = json.loads(line)
        os.chdir(asked["folder"])
        _compose(asked["arguments"])
        done = _fork(Path(asked["folder"]), asked["arguments"], Killing(*asked["killing"]))
        print(json.dumps(done), file=answers, flush=True)


def _import_everything() -> None:
    """Import what a command and its workers would."""
    import torch._dynamo

    import optimizers
    import tasks
    from s3bench.report import status, write  # noqa: F401
    from s3bench.report.figures import style
    from s3bench.run import one_run  # noqa: F401
    from s3bench.run.environment import distributions
    from s3bench.run.sweep import sweep, workers  # noqa: F401

    for package in (optimizers, tasks):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    torch.set_num_threads(1)
    distributions()
    workers._fork_server = lambda _: multiprocessing.get_context("fork")
    style.save = _empty_pictures


def _compose(arguments: list[str]) -> None:
    """Compose the configs of a sweep, which are then cached: all else that a small one does takes less time."""
    from s3bench.cli import parse
    from s3bench.run.config.grid import run_configs

    if arguments[0] == "sweep":
        chosen = parse(arguments)
        run_configs(chosen.overrides, zipped=chosen.zip)


def _empty_pictures(_: object, file: Path) -> list[Path]:
    """Write pictures without drawing, which takes most of a report's time."""
    files = [file.with_name(f"{file.name}{suffix}") for suffix in (".svg", ".png", ".pdf")]
    for each in files:
        each.write_bytes(b'<svg xmlns="http://www.w3.org/2000/svg"/>')
    return files


def _fork(folder: Path, arguments: list[str], killing: Killing) -> Done:
    """Run a command in a process group of its own, until it and all that it forked are gone."""
    alive, held = os.pipe()  # the writing end is inherited: its last holder is the last process of the command
    output = folder / "said.txt"
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        _be_the_command(folder, arguments, output, killing)
    os.close(held)
    with contextlib.suppress(ProcessLookupError):
        if not select.select([alive], [], [], LONGEST if killing.seconds is None else killing.seconds)[0]:
            os.killpg(pid, signal.SIGKILL)
    os.read(alive, 1)
    os.close(alive)
    _, status = os.waitpid(pid, 0)
    return Done(os.waitstatus_to_exitcode(status), time.monotonic() - began, output.read_text())


def _be_the_command(folder: Path, arguments: list[str], output: Path, killing: Killing) -> None:
    """Become the command; does not return."""
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if killing.word is not None:
            _kill_at(killing)
        from s3bench.cli import main

        code = main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def _kill_at(killing: Killing) -> None:
    """Have this process and those that it forks killed at a file operation."""
    word, seen = killing.word or "", mmap.mmap(-1, 8)  # shared by all of them

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or not any(word in place for place in map(str, arguments[:2])):
            return
        number = int.from_bytes(seen[:], "little") + 1
        seen[:] = number.to_bytes(8, "little")
        if number == killing.count and killing.pause:
            threading.Thread(target=lambda: (time.sleep(killing.pause), os.killpg(0, signal.SIGKILL))).start()
        elif number == killing.count:
            os.killpg(0, signal.SIGKILL)

    sys.addaudithook(look)


def killings(seed: int, longest: float, words: dict[str, int]) -> Any:
    """Yield moments without end, by the clock and by file operations in turns.

    Args:
        seed: of the random numbers.
        longest: seconds that the longest lasts.
        words: what paths have in them, with the number of operations of which one is drawn.
    """
    draw = random.Random(seed)
    while True:
        yield Killing(seconds=draw.uniform(0, longest))
        word, most = draw.choice(list(words.items()))
        pause = draw.choice((0.0, draw.uniform(0, 0.003)))
        yield Killing(word=word, count=draw.randint(1, most), pause=pause)


if __name__ == "__main__":
    _serve()
