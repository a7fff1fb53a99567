"""Passes the rows of a run on: to the record, to the tracker, and through the spike detector."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from s3bench import record
from s3bench.errors import unknown
from s3bench.record.lease import Lease
from s3bench.run.config.schema import RunConfig
from s3bench.run.row_buffer import Row
from s3bench.run.tracking import Tracker
from s3bench.spikes import Spike, SpikeMonitor
from s3bench.spikes.divergence import has_diverged


class Recorder:
    """Records the rows of a run as they come.

    Args:
        config: the run's settings.
        tracker: takes the same rows, and the spikes.
        writer: writes the record, which already holds the rows before `first_step` if the run is resumed.
        lease: the lease on the record; adding rows of steps after it was lost raises Busy.
        log: takes a line at each evaluation, and when a spike begins or ends.
        first_step: the step at which this process begins to train.
    """

    def __init__(
        self,
        config: RunConfig,
        tracker: Tracker,
        writer: record.Writer,
        *,
        lease: Lease,
        log: Callable[[str], None],
        first_step: int,
    ) -> None:
        self._config, self._tracker, self._writer, self._lease, self._log = config, tracker, writer, lease, log
        self.folder = writer.folder
        steps, evals = record.rows_before(writer.folder, first_step)
        self.losses: list[float] = [row["loss"] for row in steps]
        self._held_out: list[float] = [row["loss"] for row in evals]
        self._monitor = SpikeMonitor(**config.task.spikes)
        self.spikes = len(self._monitor.extend(np.array(self.losses)))
        self._onset = self._monitor.onset  # of the last spike whose beginning was announced
        self.on_onset: Callable[[int], None] = lambda _: None  # takes the step at which a spike begins

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the rows, after making sure that all of them are on the disk."""
        self._writer.sync()
        return {"evals": len(self._held_out)}

    def add_steps(self, rows: list[Row]) -> None:
        """Append rows of steps.parquet. Raises Busy if the lease was lost."""
        self._lease.check()
        self._writer.add_steps(rows)
        self._tracker.log_steps(rows)
        losses = [row["loss"] for row in rows]
        self.losses += losses
        for spike in self._monitor.extend(np.array(losses)):
            self._announce(spike.onset)
            self._add_spike(spike)
        self._announce(self._monitor.onset)

    def _announce(self, onset: int | None) -> None:
        """Tell that a spike has begun, once."""
        if onset is not None and onset != self._onset:
            self._log(f"step {onset}: a spike of the training loss begins")
            self._onset = onset
            self.on_onset(onset)

    def _add_spike(self, spike: Spike) -> None:
        self.spikes += 1
        self._tracker.log_spike(spike)
        height = f"+{spike.height:.3g}" if math.isfinite(spike.height) else "not finite"
        self._log(f"step {spike.onset}: spike until step {spike.end}, height {height}, {spike.kind}")

    def add_eval(self, row: Row) -> None:
        """Append a row of evals.parquet. Raises UserError if it lacks the metric of a target."""
        for target in self._config.task.targets:
            if target["metric"] not in row:
                raise unknown("metric in task.targets", target["metric"], set(row) - {"step"})
        self._held_out.append(row["loss"])
        self._writer.add_eval(row)
        self._tracker.log_eval(row)
        values = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "step")
        self._log(f"step {row['step']}/{self._config.horizon}  {values}")

    def has_diverged(self) -> bool:
        """Return whether the run diverged, by its losses or its last evaluation."""
        return not math.isfinite(self._held_out[-1]) or has_diverged(self.losses)

    def fail(self, cause: str, traceback: str) -> None:
        """Close the record of a failed run."""
        self._writer.fail(cause, traceback)

    def finish(self, summary: dict[str, Any]) -> None:
        """Add the number of spikes to the summary, and close the record of a finished or diverged run."""
        if last := self._monitor.unfinished():
            self._add_spike(last)
        summary["spikes"] = self.spikes
        self._lease.check()
        self._writer.finish(summary)
        self._tracker.finish(summary)
