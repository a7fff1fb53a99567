"""A signal that asks a run to stop: at once while nothing can be lost, else at the next step, after a checkpoint."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # the last is what SLURM sends before it preempts a job


class Stopped(BaseException):
    """The run was asked to stop; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stop:
    """Takes the signals of this process from `listen` on; without it nothing ever asks to stop."""

    def __init__(self) -> None:
        self.number: int | None = None  # of the signal that came
        self._deferred = False

    def listen(self) -> None:
        """Take SIGTERM, SIGINT (Ctrl-C) and SIGUSR2; a second Ctrl-C ends the process at once."""
        for number in SIGNALS:
            signal.signal(number, self._take)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within the block a signal waits for `raise_if_asked`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def raise_if_asked(self) -> None:
        """Raise Stopped if a signal has come."""
        if self.number is not None:
            raise Stopped(self.number)

    def _take(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.number is not None:
            os._exit(128 + number)
        self.number = number
        if not self._deferred:
            raise Stopped(number)
