"""Prints what the arms of replays came to, as `s3bench replay` ends."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from s3bench.console import patient_console, say
from s3bench.errors import printable
from s3bench.report.analysis.replays import FOLDER, arm_table, read_replays
from s3bench.report.formatting import format_table


def show(results: str | Path) -> None:
    """Print one line per arm: on how many spikes it was tried, and what became of them."""
    replays = [one for one in read_replays(Path(results)) if one.is_of_spike]
    if not replays:
        return
    texts = format_table("replay", arm_table(replays))
    table = Table(*texts.columns, box=None, pad_edge=False)
    for row in texts.itertuples(index=False):
        table.add_row(*map(Text, map(printable, row)))
    console = patient_console()
    console.print(table)
    say(f"s3bench report {results} draws them; their records are in {Path(results, FOLDER)}", console=console)
