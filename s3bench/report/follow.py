"""Watches a log that is being written, and prints its spikes as they come: `s3bench spikes --follow`."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from s3bench.console import finite_or_none, has_reader, say
from s3bench.curve_files.reader import LoggedCurve, read_whole_lines
from s3bench.curve_files.runs import SeveralRuns
from s3bench.errors import UserError
from s3bench.report.one_curve import show_spikes
from s3bench.spikes import Spike, SpikeMonitor

if TYPE_CHECKING:
    from s3bench.spikes.detector import DetectorParameters

PAUSE = 0.5  # seconds between two looks, at least
SHARE = 9  # times as long as a look takes: a long log is read less often
LINES = "a table, JSON lines, a console's lines"
HEAD = 64  # bytes that show what cannot be followed
NO_LINES = (b"\x1f\x8b", b"PAR1", b":W&B", b"\xff\xfe", b"\xfe\xff")  # gz, Parquet, wandb, UTF-16
NO_ROWS = ("JSON", "JSON objects", "JSON history", "trainer_state.json", "TensorBoard download")  # written as a whole


def follow(
    file: str,
    parameters: "DetectorParameters",
    *,
    plot: Path | None = None,
    as_json: bool = False,
    fail_on: str | None = None,
    **reading: str | None,
) -> int:
    """Print the spikes of a log as it grows, until Ctrl-C; then show it as `s3bench spikes` does without --follow.

    Args:
        file: the log, of a kind that can be read line by line.
        parameters: those of the detector.
        plot: a picture to draw at the end; None for none.
        as_json: print an object per line.
        fail_on: what makes the command fail at the end; see fail_on.py.
        reading: how to read the file; see read_curve.

    Returns:
        The exit code: 1 if the spikes are beyond `fail_on`.

    Raises:
        UserError: the file cannot be followed, or cannot be read at the end.
    """
    from s3bench.report.fail_on import check

    check(fail_on)
    _check_has_lines(file)
    handlers = {n: signal.signal(n, signal.default_int_handler) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        followed = _Followed(file, parameters, as_json=as_json, reading=reading)
        while has_reader():
            followed.look()
            time.sleep(followed.pause)
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return show_spikes(file, parameters, plot=plot, as_json=as_json, fail_on=fail_on, **reading)


def _check_has_lines(file: str) -> None:
    """Raise UserError unless this is a file of lines."""
    path = Path(file)
    if not path.exists():
        raise UserError(f"there is no file {file}")
    if not path.is_file():
        raise UserError(f"--follow cannot watch {file}: it must be a file with one of these: {LINES}")
    with path.open("rb") as opened:
        head = opened.read(HEAD)
    if head.startswith(NO_LINES) or b"brain.Event:" in head or b"\0" in head:
        raise _refusal(file, "a binary file")
    if head.lstrip().splitlines()[:1] in ([b"{"], [b"["]) or head.startswith(b"[{"):
        raise _refusal(file, "a JSON document")


def _refusal(file: str, kind: str) -> UserError:
    return UserError(f"--follow cannot watch {file}, {kind}: it must be one of these: {LINES}")


class _Followed:
    """A log, and the spikes that were found and said so far.

    At each look at a log that has grown, it is read from its beginning, as rows may be told apart only by those after
    them; the detector takes only what is new, unless earlier rows have changed.

    Attributes:
        pause: seconds until the next look.
    """

    def __init__(
        self, file: str, parameters: "DetectorParameters", *, as_json: bool, reading: dict[str, str | None]
    ) -> None:
        self._file, self._parameters, self._as_json, self._reading = file, parameters, as_json, reading
        self._seen: os.stat_result | None = None
        self._is_gone = False
        self._told = ""  # the last message
        self.pause = PAUSE
        self._begin()

    def _begin(self) -> None:
        self._curve: LoggedCurve | None = None
        try:
            self._monitor = SpikeMonitor(**self._parameters)
        except ValueError as error:
            raise UserError(str(error)) from error
        self._said: set[tuple[str, int]] = set()

    def look(self) -> None:
        """Read the log if it has changed, and print what is new.

        Raises:
            UserError: it is of a kind that cannot be followed, or has several runs from the beginning.
        """
        try:
            now = Path(self._file).stat()
        except OSError:
            self._tell(f"{self._file} is gone; waiting for a new one")
            self._is_gone = True
            return
        before, self._seen = self._seen, now
        if before is not None:
            is_other = now.st_ino != before.st_ino or self._is_gone  # a new file may get an old one's number
            self._is_gone = False
            if not is_other and (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns):
                return
            if is_other or now.st_size < before.st_size:
                what = "replaced" if is_other else "truncated"
                self._tell(f"{self._file} was {what}; it is read from its beginning")
                self._begin()
        began = time.monotonic()
        try:
            curve = read_whole_lines(self._file, **self._reading)
        except UserError as error:
            if isinstance(error, SeveralRuns) and self._curve is None:
                raise
            self._tell(f"{error}; waiting for more")
            return
        if curve.kind in NO_ROWS:
            raise _refusal(self._file, curve.kind)
        self._take(curve)
        self.pause = max(PAUSE, SHARE * (time.monotonic() - began))

    def _take(self, curve: LoggedCurve) -> None:
        known = 0 if self._curve is None else len(self._curve.loss)
        if self._curve is None:
            self._tell(f"following {self._file}: {curve.how_read()}")
        elif not _goes_on(self._curve, curve):
            self._tell(f"earlier rows of {self._file} have changed, all are read anew: {curve.how_read()}")
            said, known = self._said, 0
            self._begin()
            self._said = said
        self._curve = curve
        for spike in self._monitor.extend(curve.loss[known:]):
            self._say_end(curve.in_steps(spike))
        if (under_way := self._monitor.unfinished()) is not None:
            self._say_onset(curve.in_steps(under_way))

    def _say_onset(self, spike: Spike) -> None:
        if self._is_new("begin", spike.onset):
            line = f"spike under way: onset {spike.onset}, height so far {spike.height:.4g}"
            say(json.dumps({"event": "begin", "onset": spike.onset}) if self._as_json else line)

    def _say_end(self, spike: Spike) -> None:
        if self._is_new("end", spike.onset):
            line = f"spike: onset {spike.onset}, peak {spike.peak}, end {spike.end}, height {spike.height:.4g}"
            event = {"event": "end", **{key: finite_or_none(value) for key, value in vars(spike).items()}}
            say(json.dumps(event) if self._as_json else f"{line}, {spike.kind}")

    def _is_new(self, event: str, onset: int) -> bool:
        is_new = (event, onset) not in self._said
        self._said.add((event, onset))
        return is_new

    def _tell(self, message: str) -> None:
        """Say something about the log, but not twice in a row."""
        if message != self._told:
            self._told = message
            say(f"s3bench: {message}", file=sys.stderr)


def _goes_on(before: LoggedCurve, now: LoggedCurve) -> bool:
    """Return whether a curve begins with all of an earlier one."""
    known = len(before.loss)
    return (
        (now.column, now.step_column) == (before.column, before.step_column)
        and np.array_equal(now.steps[:known], before.steps)
        and np.array_equal(now.loss[:known], before.loss, equal_nan=True)
    )
