"""Breaks the files of records, for tests: something else in their place, damaged bytes, values that nobody expects."""

import contextlib
import json
import os
import shutil
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

DEEP = 100_000
SPARSE = 2**40  # bytes
LONGEST = 5.0  # seconds that a command may take, less those in which it could not run
TICK = 0.1  # seconds between two looks at the clock


class Hangs(BaseException):
    """A command takes too long."""


def waited() -> float:
    """Return the seconds in which threads of this process wanted a processor and had none."""
    delays = 0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            delays += int((thread / "schedstat").read_text().split()[1])
    return delays / 1e9


@contextlib.contextmanager
def in_time(longest: float = LONGEST) -> Iterator[None]:
    """Raise Hangs in the block once it has taken too long, in seconds.

    A look at the clock counts for two ticks at most: it comes late where a disk or the whole machine stood still.
    """
    taken, last = 0.0, time.monotonic() - waited()

    def look(*_: object) -> None:
        nonlocal taken, last
        now = time.monotonic() - waited()
        taken, last = taken + max(0.0, min(now - last, 2 * TICK)), now
        if taken > longest:
            raise Hangs

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _fifo(file: Path) -> None:
    os.mkfifo(file)


def _loop(file: Path) -> None:
    file.symlink_to(file.name)


def _device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def _nothing(file: Path) -> None:
    file.symlink_to("nothing")


def _sparse(file: Path) -> None:
    file.touch()
    os.truncate(file, SPARSE)


KINDS: dict[str, Callable[[Path], None]] = {
    "fifo": _fifo,
    "loop": _loop,
    "device": _device,
    "link to nothing": _nothing,
    "folder": Path.mkdir,
}
SIZES: dict[str, Callable[[Path], None]] = {"sparse": _sparse, "empty": Path.touch}


def replace(file: Path, make: Callable[[Path], None]) -> None:
    """Put something else in the place of a file."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    file.unlink(missing_ok=True)
    make(file)


ODD: list[Any] = [
    *(None, True, 0, -1, 3, 0.5, -1.0, 1e308, float("nan"), float("inf"), 10**30, 2**63),
    *("", "x", "\x1b[2J", "é", "a/../b", "$\\frac$", [], [None], {}, {"a": {}}, {"kind": "x"}, [1, 2], "2020-01-01"),
]


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in a value, its own first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(place for key, one in inner for place in places(one, (*above, key)))]


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """Return a value with another one at a place."""
    if not place:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = changed(value[place[0]], place[1:], new)
    return copy


def change(file: Path, which: int, new: Any) -> None:
    """Change one value in a file of JSON, JSON lines or YAML; the first line of a config is kept."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".yaml":
        head, _, body = text.partition("\n")
        content = yaml.safe_load(body)
        found = places(content)
        body = yaml.safe_dump(changed(content, found[which % len(found)], new), sort_keys=False)
        file.write_text(f"{head}\n{body}", encoding="utf-8")
        return
    is_lines = file.suffix == ".jsonl"
    content = [json.loads(line) for line in text.splitlines()] if is_lines else json.loads(text)
    found = places(content)[1:] if is_lines else places(content)
    made = changed(content, found[which % len(found)], new)
    lines = [json.dumps(one) for one in made] if is_lines else [json.dumps(made)]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def mend_sums(folder: Path) -> None:
    """Write the sums of damaged tables into the summary, as one who means harm would."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary["crc32"] = {name: zlib.crc32((folder / name).read_bytes()) for name in summary["crc32"]}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
