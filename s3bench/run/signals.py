"""Stops a run on a signal: immediately during setup, otherwise at the next step, after writing a checkpoint."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # SLURM sends the last before it preempts a job


class Stopped(BaseException):
    """Raised where a run stops because a signal asked it to; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stop:
    """Receives the signals of this process once `listen` is called; until then nothing asks the run to stop."""

    def __init__(self) -> None:
        self.number: int | None = None  # of the signal that was received
        self._deferred = False

    def listen(self) -> None:
        """Start receiving SIGTERM, SIGINT (Ctrl-C) and SIGUSR2. A second Ctrl-C ends the process at once."""
        for number in SIGNALS:
            signal.signal(number, self._take)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this context, make signals wait for `raise_if_asked`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def raise_if_asked(self) -> None:
        """Raise Stopped if a signal was received."""
        if self.number is not None:
            raise Stopped(self.number)

    def _take(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.number is not None:
            os._exit(128 + number)
        self.number = number
        if not self._deferred:
            raise Stopped(number)
