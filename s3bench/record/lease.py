"""Who trains a run: one process at a time, of this machine or of another that shares the folder.

A lease is a file PLACE.N, created only if it is not there yet; the highest N holds. Its owner rewrites it every few
seconds. It is taken over, as N + 1, when its owner is dead: its process is gone from this machine, or, of a process
elsewhere, the heartbeat has stood still for a minute of the looker's own clock. No file's time is compared with any
clock, so a clock that is wrong or jumps changes nothing. An owner that was only asleep finds that it was taken over.
"""

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

BEAT = 5.0  # seconds between heartbeats
PATIENCE = 60.0  # seconds without one, after which an owner elsewhere is dead


class Busy(Exception):
    """Another process is at this run."""


class Lease:
    """A lease that this process holds, from its creation until `release`. Raises Busy if another process has it.

    Args:
        place: where leases lie: PLACE.N.
        least: the lowest number it may have.
        dead: the number of a lease that `Watch` found dead.
    """

    def __init__(self, place: Path, least: int = 0, dead: int | None = None) -> None:
        others = numbers(place)
        if others and others[-1] != dead and not _is_gone(_read(place, others[-1])):
            raise Busy(place)
        self.number = max(least, *(number + 1 for number in others), 0)
        self._place, self._file = place, _file(place, self.number)
        self._beats = 0
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError as error:
            raise Busy(place) from error
        os.close(descriptor)
        self._beat()
        for number in others:
            _file(place, number).unlink(missing_ok=True)
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise Busy if another process has taken the run over, as it does when this one was not seen for long."""
        if numbers(self._place) != [self.number]:
            raise Busy(self._place)

    def release(self) -> None:
        """Give the lease up."""
        self._released.set()
        self._thread.join()
        self._file.unlink(missing_ok=True)

    def _keep_beating(self) -> None:
        while not self._released.wait(BEAT):
            try:
                self._beat()
            except FileNotFoundError:  # taken over, which `check` will say
                return
            except OSError:
                continue  # a file system that is away for a while

    def _beat(self) -> None:
        self._beats += 1
        content = json.dumps({**_me(), "beats": f"{self._beats:09d}"}).encode()
        descriptor = os.open(self._file, os.O_WRONLY)  # opened anew: a shared file system then shows it to others
        try:
            os.pwrite(descriptor, content, 0)
        finally:
            os.close(descriptor)


class Watch:
    """Tells which leases are dead, of those that it is asked about again and again."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, dict[str, Any], float]] = {}  # number, content, since when

    def dead(self, place: Path) -> int | None:
        """The number of the lease at a place if it is dead; None if it lives, is not known yet to be dead, or gone."""
        others = numbers(place)
        if not others:
            return None
        number, content, now = others[-1], _read(place, others[-1]), time.monotonic()
        if _is_gone(content):
            return number
        before = self._seen.get(place)
        if before is None or before[:2] != (number, content):
            self._seen[place] = (number, content, now)
            return None
        return number if now - before[2] > PATIENCE else None


def wait_for_death(place: Path) -> int | None:
    """The number of the lease at a place if its owner turns out to be dead, None if it lives.

    Of a process of this machine that is known at once, of one elsewhere after a minute without a heartbeat.
    """
    watch, held = Watch(), numbers(place)
    content = _read(place, held[-1]) if held else {}
    while numbers(place) == held and _read(place, held[-1]) == content and not _is_here(content):
        if (dead := watch.dead(place)) is not None:
            return dead
        time.sleep(BEAT / 5)
    return None


def numbers(place: Path) -> list[int]:
    """The numbers of the leases at a place, ascending."""
    ends = (file.name.removeprefix(f"{place.name}.") for file in place.parent.glob(f"{place.name}.*"))
    return sorted(int(end) for end in ends if end.isdigit())


def is_held(place: Path) -> bool:
    """Whether a lease seems to be alive: to be shown. Of a process elsewhere, by the age of its last heartbeat."""
    held = numbers(place)
    if not held:
        return False
    content = _read(place, held[-1])
    if _is_here(content):
        return not _is_gone(content)
    try:
        return time.time() - _file(place, held[-1]).stat().st_mtime < PATIENCE
    except OSError:
        return False


def owner(place: Path) -> str:
    """Who holds the lease at a place, for people."""
    held = numbers(place)
    content = _read(place, held[-1]) if held else {}
    return f"process {content['pid']} on {content['host']}" if content else "another process"


def _file(place: Path, number: int) -> Path:
    return place.with_name(f"{place.name}.{number}")


def _read(place: Path, number: int) -> dict[str, Any]:
    """What a lease says; nothing if it cannot be read, as just after its creation."""
    try:
        content = json.loads(_file(place, number).read_bytes())
        return content if isinstance(content, dict) and {"host", "pid", "where", "started"} <= set(content) else {}
    except (OSError, ValueError):
        return {}


def _me() -> dict[str, Any]:
    return {"host": socket.gethostname(), "where": _where(), "pid": os.getpid(), "started": _started(os.getpid())}


def _where() -> str:
    """This boot of this machine, and among its containers this one: where a process number means one process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return ""


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's count; None if there is none of that number, or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _is_here(content: dict[str, Any]) -> bool:
    return bool(content) and bool(content["where"]) and content["where"] == _where()


def _is_gone(content: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine that is no more."""
    return _is_here(content) and _started(content["pid"]) != content["started"]
