"""What both wings print with: a console whose reader may leave, durations and sizes in words."""

import math
import os
import sys
from collections.abc import Sequence

from rich.console import Console


def readable_size(size: float) -> str:
    """Bytes as people say them."""
    power = min(3, int(math.log(max(size, 1024), 1024)))
    return f"{size / 1024**power:,.3g} {('KiB', 'MiB', 'GiB')[power - 1]}"


def discard_output() -> None:
    """Discard whatever this process prints from now on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _PatientConsole(Console):
    """A console whose reader may leave, as head does, without ending the program."""

    def on_broken_pipe(self) -> None:
        discard_output()


def patient_console() -> Console:
    """For lines and tables of any width, also into a pipe."""
    return _PatientConsole(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 250)


def seconds_left(
    known: Sequence[tuple[str, float, int]], left: Sequence[tuple[str, int]], at_once: int
) -> float | None:
    """The seconds that the steps left will take; None while nothing is known.

    `known` has (task, seconds, steps) of what was done, `left` (task, steps) of each run that is not over. A task's
    seconds per step are its own, or those of all tasks together while it has none.
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
    """Seconds as people say them."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
