"""Makes the reports of `s3bench serve`, each in a process of its own, and keeps the last whole page."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

RETRY = 60.0  # seconds until a report that could not be made is tried again
NICENESS = 10  # a report gives way to the runs


class ReportMaker:
    """Makes reports, one at a time.

    Args:
        results_dir: the results folder.
        folder: where they are made.

    Attributes:
        page: the last page; None before the first.
        number: how many were made.
        is_current: whether the page shows what the records were like at the last look.
        error: why the last one could not be made; empty if it was.
    """

    def __init__(self, results_dir: str, folder: Path) -> None:
        report = folder / "report"
        self._command = [sys.executable, "-m", "s3bench.cli", "report", results_dir, "--output", str(report)]
        self._index, self._errors = report / "index.html", folder / "errors"
        self._process: subprocess.Popen[bytes] | None = None
        self._shown: object = None  # what the records were like that the page shows
        self._asked: object = None
        self._began = self._next = 0.0
        self.page: bytes | None = None
        self.number, self.is_current, self.error = 0, False, ""

    @property
    def is_at_work(self) -> bool:
        """Whether a report is being made."""
        return self._process is not None

    def look(self, state: object) -> None:
        """Take a report that is ready; begin one if the page shows another state, but rest as long as the last took.

        Args:
            state: what the records are like; equal values mean the same report.
        """
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            self._take(code)
        self.is_current = state == self._shown
        if self._process is None and not self.is_current and time.monotonic() >= self._next:
            self._asked, self._began = state, time.monotonic()
            with self._errors.open("wb") as errors:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,  # Ctrl-C is for the server; the processes that draw are in this session too
                )
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)

    def _take(self, code: int) -> None:
        now = time.monotonic()
        self._next = now + (now - self._began)
        if code == 0:
            self.page, self._shown = self._index.read_bytes(), self._asked
            self.number, self.error = self.number + 1, ""
        else:
            lines = self._errors.read_text(encoding="utf-8", errors="replace").split("\n")
            said = [line for line in lines if line.startswith("s3bench: ")]
            self.error = said[-1].removeprefix("s3bench: ") if said else f"its process ended with exit code {code}"
            self._next = max(self._next, now + RETRY)

    def stop(self) -> None:
        """End the report that is being made, with the processes that it has started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
