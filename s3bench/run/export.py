"""Sends finished records to a tracker, as if their runs had been tracked while they trained."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from s3bench import record
from s3bench.console import say
from s3bench.record.judge import read_judge, spikes_of
from s3bench.run.build import build_tracker
from s3bench.run.config.compose import run_config
from s3bench.run.row_buffer import Row
from s3bench.run.tracking import Tracker


def export_runs(results_dir: str | Path, tracker: str) -> int:
    """Send each run that is over to a tracker of its own; return the exit code: 1 if one could not be sent.

    Args:
        results_dir: the results folder; offline files of a tracker are written there, too.
        tracker: a name in configs/tracker.

    Raises:
        UserError: no record in the folder, or a damaged one; a package is missing.
    """
    rows = [record.load_record(folder) for folder in record.folders(results_dir)]
    over = [row for row in rows if row["state"] in record.OVER]
    judge = read_judge(results_dir)
    config, warnings = run_config([f"tracker={tracker}"]), _Warnings(logging.WARNING)
    logging.getLogger("s3bench.run").addHandler(warnings)
    try:
        for row in over:
            _send(row, build_tracker(config), judge)
            if warnings.count:
                break  # it would be as with this one
    finally:
        logging.getLogger("s3bench.run").removeHandler(warnings)
    if not warnings.count:
        say(f"sent {len(over)} runs; {len(rows) - len(over)} are not over")
    return int(warnings.count > 0)


class _Warnings(logging.Handler):
    """Counts warnings: a tracker that fails gives one, and raises nothing."""

    count = 0

    def emit(self, _: logging.LogRecord) -> None:
        self.count += 1


def _send(row: dict[str, Any], tracker: Tracker, judge: Mapping[str, Any]) -> None:
    """Call a tracker as a run of this record would have done."""
    steps, evals = (_rows(load(row["folder"])) for load in (record.load_steps, record.load_evals))
    tracker.start(row["config"], Path(row["folder"]), 0)
    done = 0
    for evaluation in evals:
        until = int(evaluation["step"])
        if until > done:
            tracker.log_steps(steps[done:until])
            done = until
        tracker.log_eval(evaluation)
    if steps[done:]:
        tracker.log_steps(steps[done:])
    spikes = spikes_of(row, [one["loss"] for one in steps], judge)
    for spike in spikes:
        tracker.log_spike(spike)
    tracker.finish({**row["summary"], "spikes": len(spikes)})


def _rows(table: pd.DataFrame) -> list[Row]:
    """Return the rows of a table without what was not measured; a loss that is not finite stays."""
    measured = table.columns[table.columns.str.startswith(("update_", "param_"))]
    rows = table.to_dict("records")
    for row in rows:
        for key in measured:
            if row[key] != row[key]:
                del row[key]
        row["step"] = int(row["step"])
    return rows  # type: ignore[return-value]
