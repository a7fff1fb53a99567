"""What both wings use to print: streams that nothing ends, safe lines, the time left, durations, numbers in JSON."""

import errno
import io
import math
import os
import select
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from s3bench.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 250  # characters of a line where no terminal has a width: enough for every table


class _Lasting(io.FileIO):
    """An output that never raises: once its reader has left, or its disk is full, what is written is lost.

    Attributes:
        lost: why something could not be written; None as long as everything was.
    """

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write a part of the data or, once that has failed, discard all of it; return how many bytes are done with."""
        while self.lost is None:
            try:
                if (written := super().write(data)) is not None:
                    return written
                select.select([], [self], [])  # a pipe that is full, and whose other end made it not wait by itself
            except OSError as error:
                self.lost = error
        return len(data)


def outlast_readers() -> None:
    """Let stdout and stderr go on when they cannot be written; see `lost_output`.

    Those that were closed get a file that cannot be written, so that no file of ours gets their number, nor one of the
    processes that we start.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            own = io.BufferedWriter(_Lasting(descriptor, "w", closefd=False))
            encoding, by_line = (stream.encoding, stream.line_buffering) if stream else (None, False)
            made = io.TextIOWrapper(own, encoding, errors="replace", line_buffering=by_line)
            setattr(sys, name, made)  # it replaces what a terminal lacks, such as σ and ▼
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _lost(stream: Any) -> OSError | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.lost if isinstance(raw, _Lasting) else None


def has_reader() -> bool:
    """Return whether what is printed still arrives somewhere."""
    return _lost(sys.stdout) is None


def lost_output() -> OSError | None:
    """Return why output could not be written; None if all was, or if its reader has left, as `head` does."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    causes = [cause for stream in (sys.stdout, sys.stderr) if (cause := _lost(stream)) is not None]
    return next((cause for cause in causes if cause.errno != errno.EPIPE), None)


def say(*lines: object, console: "Console | None" = None, file: TextIO | None = None) -> None:
    """Print lines on a console, in a file or on stdout, all their control characters escaped.

    Everything that is printed goes through here, since names, causes and labels come from records and files of others.
    """
    text = "\n".join(printable(str(line)) for line in lines)
    if console is None:
        print(text, file=file, flush=True)
    else:
        console.print(text, markup=False)


def patient_console() -> "Console":
    """Return a console for lines and tables of any width."""
    from rich.console import Console  # takes a while, and `s3bench --help` does without

    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=True, width=None if is_terminal else PIPE_WIDTH)


def seconds_left(
    known: Sequence[tuple[str, float, int]], left: Sequence[tuple[str, int]], at_once: int
) -> float | None:
    """Estimate how long the remaining steps take.

    The seconds per step of a task are measured on its own runs, or on the runs of all tasks if it has none yet.

    Args:
        known: (task, seconds, steps) of what was done so far.
        left: (task, steps) of each run that is not over.
        at_once: how many runs are trained at a time.

    Returns:
        Seconds, or None while no step has been measured.
    """
    seconds = 0.0
    for task in {task for task, _ in left}:
        own = [entry for entry in known if entry[0] == task]
        measured = own if any(steps for _, _, steps in own) else known
        done = sum(steps for _, _, steps in measured)
        if not done:
            return None
        rate = sum(spent for _, spent, _ in measured) / done
        seconds += rate * sum(steps for name, steps in left if name == task)
    return seconds / max(1, at_once)


def duration(seconds: float | None) -> str:
    """Write a number of seconds the way people say it, such as "2 h 1 min"; "?" for None."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def finite_or_none(value: Any) -> Any:
    """Return the value, or None for a number that JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
