"""What both wings use to print: a console whose reader may leave, the time left, durations, numbers in JSON."""

import math
import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

PIPE_WIDTH = 250  # characters of a line where no terminal has a width: enough for every table


class _PatientConsole(Console):
    """A console whose reader may leave, as `head` does, without ending the program."""

    def on_broken_pipe(self) -> None:
        silence_stdout()


def patient_console() -> Console:
    """Return a console for lines and tables of any width whose reader may leave."""
    return _PatientConsole(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def silence_stdout() -> None:
    """Discard everything that this process prints from now on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
