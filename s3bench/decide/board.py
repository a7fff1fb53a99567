"""Shows how claims stand while they are decided: a table that is renewed on a terminal, lines elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from s3bench.console import duration, say
from s3bench.errors import printable
from s3bench.report.claims.decided import COLUMNS, Standing, cells, line


class Board:
    """A table of claims with their intervals, the time that is spent, and what is being trained.

    Args:
        console: where it is shown.
        budget: seconds.
        standings: of all claims, at the beginning.
    """

    def __init__(self, console: Console, budget: float, standings: Sequence[Standing]) -> None:
        self._console, self._budget, self._began = console, budget, time.monotonic()
        self._standings = {one.claim.id: one for one in standings}
        self._at_work = ""
        self._live = (
            Live(self, console=console, auto_refresh=True, refresh_per_second=1) if console.is_terminal else None
        )

    def __enter__(self) -> Self:
        """Show the table."""
        if self._live:
            self._live.__enter__()
        else:
            for standing in self._standings.values():
                self.say(line(standing))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the table as it is."""
        if self._live:
            self._live.__exit__(kind, error, trace)

    def __rich__(self) -> Table:
        """Return the table."""
        spent = f"{duration(time.monotonic() - self._began)} of {duration(self._budget)}"
        caption = f"{spent}{'; ' if self._at_work else ''}{self._at_work}"
        table = Table(box=box.SIMPLE, caption=Text(printable(caption)), caption_justify="left")
        for name in COLUMNS:
            table.add_column(name)
        for standing in self._standings.values():
            table.add_row(*map(Text, map(printable, cells(standing))))
        return table

    def say(self, text: str) -> None:
        """Print a line."""
        say(text, console=self._console)

    def working(self, text: str) -> None:
        """Say what is being trained."""
        self._at_work = text

    def show(self, standing: Standing) -> None:
        """Show where a claim stands now."""
        self._standings[standing.claim.id] = standing
        if not self._live:
            self.say(line(standing))

    def close(self, text: str) -> None:
        """Say what was spent, and what to do next."""
        self._at_work = ""
        self.say(f"{duration(time.monotonic() - self._began)} of {duration(self._budget)}; {text}")
