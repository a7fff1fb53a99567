"""Leases: one process at a time trains a run, on this machine or on another that shares the folder.

A lease is a file PLACE.N that is created only if it does not exist yet; the highest N is valid. Its owner rewrites it
every few seconds, which is its heartbeat. Another process takes the lease over, as N + 1, once the owner is dead: its
process no longer exists on this machine, which is seen at once, or its heartbeat has not changed for a minute by the
observer's own clock. No file's time is compared with a clock to decide this, so a clock that is wrong or jumps changes
nothing. An owner that was only asleep finds out that its lease was taken over.
"""

import json
import os
import re
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

from s3bench.record.opening import NUMBER, opened, parsed, read_text

BEAT = 5.0  # seconds between heartbeats
DEAD_AFTER = 60.0  # seconds without a heartbeat, after which an owner counts as dead
ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)  # its parent has not asked for its exit code yet
LARGEST = 4096  # bytes of a lease
CONTENT = {"host": str, "where": str, "pid": int}  # types of what a lease must hold, beside "started" and "beats"


_held: dict[Path, "Lease"] = {}  # the leases that this process holds, or held until another took them over


class Busy(Exception):
    """Another process trains this run."""


class Lease:
    """Holds a lease from its creation until `release`.

    Args:
        place: where the leases lie: PLACE.N.
        least: the lowest number that the lease may have.
        dead: the number of a lease whose owner `Watch` found dead.

    Raises:
        Busy: another process holds the lease.
    """

    def __init__(self, place: Path, least: int = 0, dead: int | None = None) -> None:
        others = numbers(place)
        if others and others[-1] != dead and _lives(_read(place, others[-1])) is not False:
            raise Busy(place)
        self.number = max(least, *(number + 1 for number in others), 0)
        self._place, self._file = place, file_of(place, self.number)
        self._owner, self._beats = _this_process(), 0
        draft = self._file.with_name(f".{self._file.name}.{uuid.uuid4().hex}.draft")
        try:
            draft.write_bytes(self._content())
            self._link(draft)
        finally:
            draft.unlink(missing_ok=True)
        for left in place.parent.glob(f".{place.name}.*.draft"):  # of processes that were killed, or come too late
            left.unlink(missing_ok=True)
        for number in others:
            file_of(place, number).unlink(missing_ok=True)
        _held[place] = self
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise Busy if another process has taken the run over, as it does when this one shows no sign of life."""
        if numbers(self._place) != [self.number]:
            raise Busy(self._place)

    def release(self) -> None:
        """Give the lease up."""
        self._released.set()
        self._thread.join()
        if _held.get(self._place) is self:
            del _held[self._place]
        self._file.unlink(missing_ok=True)

    def _link(self, draft: Path) -> None:
        """Give a draft the name of the lease, which thus never is there without its content. Raises Busy."""
        try:
            self._file.hardlink_to(draft)
        except (FileExistsError, FileNotFoundError) as error:  # the latter: the owner of a lease removes drafts
            raise Busy(self._place) from error
        except OSError:  # a file system without links
            self._create()

    def _create(self) -> None:
        """Create the lease's file and then write its content; a process killed in between keeps others waiting."""
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError as error:
            raise Busy(self._place) from error
        os.close(descriptor)
        try:
            self._beat()
        except OSError:  # such as a full disk: an empty lease would keep everybody else waiting
            self._file.unlink(missing_ok=True)
            raise

    def _content(self) -> bytes:
        return json.dumps({**self._owner, "beats": f"{self._beats:09d}"}).encode()  # always of the same length

    def _keep_beating(self) -> None:
        while not self._released.wait(BEAT):
            try:
                self._beat()
            except FileNotFoundError:  # taken over; `check` raises Busy
                return
            except OSError:
                continue  # the file system is away for a while

    def _beat(self) -> None:
        self._beats += 1
        descriptor = os.open(self._file, os.O_WRONLY)  # reopened each time: a shared file system then shows the change
        try:
            os.pwrite(descriptor, self._content(), 0)
        finally:
            os.close(descriptor)


def check_held(place: Path) -> None:
    """Raise Busy if this process held the lease at a place and another has taken it over."""
    if place in _held:
        _held[place].check()


class Watch:
    """Tells which leases are dead when it is asked about the same places again and again."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, dict[str, Any], float]] = {}  # number, content, since when

    def dead(self, place: Path) -> int | None:
        """Return the number of the lease at a place if its owner is dead; None if there is no lease, or it may live."""
        others = numbers(place)
        if not others:
            return None
        number, content, now = others[-1], _read(place, others[-1]), time.monotonic()
        if _lives(content) is False:
            return number
        before = self._seen.get(place)
        if before is None or before[:2] != (number, content):
            self._seen[place] = (number, content, now)
            return None
        return number if now - before[2] > DEAD_AFTER else None


def wait_for_death(place: Path) -> int | None:
    """Wait until it is known whether the owner of a lease lives.

    That is known at once for a process of this machine, and after a minute without a heartbeat for one elsewhere.

    Returns:
        The number of the lease if its owner is dead, None if it lives.
    """
    watch, held = Watch(), numbers(place)
    content = _read(place, held[-1]) if held else {}
    while numbers(place) == held and _read(place, held[-1]) == content and not _lives(content):
        if (dead := watch.dead(place)) is not None:
            return dead
        time.sleep(BEAT / 5)
    return None


def numbers(place: Path) -> list[int]:
    """Return the numbers of the leases at a place, ascending."""
    ends = (file.name.removeprefix(f"{place.name}.") for file in place.parent.glob(f"{place.name}.*"))
    return sorted(int(end) for end in ends if re.fullmatch(NUMBER, end))


def is_held(place: Path) -> bool:
    """Tell, for display only, whether a lease seems to be alive; for an owner elsewhere by the age of its heartbeat."""
    held = numbers(place)
    if not held:
        return False
    lives = _lives(_read(place, held[-1]))
    if lives is not None:
        return lives
    try:
        return time.time() - file_of(place, held[-1]).stat().st_mtime < DEAD_AFTER
    except OSError:
        return False


def owner(place: Path) -> str:
    """Name the process that holds the lease at a place, for people."""
    held = numbers(place)
    content = _read(place, held[-1]) if held else {}
    return f"process {content['pid']} on {content['host']}" if content else "another process"


def file_of(place: Path, number: int) -> Path:
    """Return the file of a lease."""
    return place.with_name(f"{place.name}.{number}")


def _read(place: Path, number: int) -> dict[str, Any]:
    """Return the content of a lease; empty if it cannot be read, as just after its creation."""
    try:
        with opened(file_of(place, number), LARGEST) as file:
            content = parsed(file.read())
    except (OSError, ValueError):
        return {}
    valid = isinstance(content, dict) and all(isinstance(content.get(key), kind) for key, kind in CONTENT.items())
    return content if valid and 0 < content["pid"] < 2**31 else {}


def _this_process() -> dict[str, Any]:
    """Return what a lease says about this process; `where` is "" if this system cannot tell processes apart."""
    try:
        where, started = _where(), _started(os.getpid())
    except (psutil.Error, OSError, RuntimeError):
        where, started = "", 0.0
    return {"host": socket.gethostname(), "where": where, "pid": os.getpid(), "started": started}


def _where() -> str:
    """Name the place where a process number means one process: this boot of this machine and, on Linux, its container.

    The first word is the format: leases of s3bench 0.1.0 have none, and so count as elsewhere, as these do for 0.1.0.
    """
    if not psutil.LINUX:  # where the clock has been set since, it names another place, and the heartbeat decides
        return f"host {socket.gethostname()} {psutil.boot_time()}"
    boot = read_text(Path("/proc/sys/kernel/random/boot_id"), 64).strip()
    return f"boot {boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> float:
    """Return when a process started, in seconds after the boot; on Linux exact, whatever happens to the clock.

    psutil adds the boot time to the kernel's count. The clock moves that boot time, so it is taken off again.

    Raises:
        psutil.Error: there is no such process, or it is hidden from us.
    """
    while True:
        boot = psutil.boot_time()
        started = psutil.Process(pid).create_time() - boot
        if psutil.boot_time() == boot:
            return round(started, 2)  # the kernel counts in hundredths of a second


def _lives(content: dict[str, Any]) -> bool | None:
    """Tell whether the owner of a lease lives; None if only its heartbeat can tell."""
    try:
        if not content or content["where"] != _where():
            return None
        started = _started(content["pid"])
        if psutil.Process(content["pid"]).status() in ENDED:
            return False
    except psutil.ZombieProcess:
        return False
    except psutil.NoSuchProcess:
        return None if _is_hidden(content["pid"]) else False
    except (psutil.AccessDenied, OSError, RuntimeError):
        return None
    if started == content.get("started"):
        return True
    return False if psutil.LINUX else None  # other systems count from a boot time that the clock moves


def _is_hidden(pid: int) -> bool:
    """Tell whether a process that psutil does not see exists: another user's, where /proc is mounted with hidepid."""
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists
        pass
    return True
