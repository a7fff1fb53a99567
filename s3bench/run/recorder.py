"""The rows of a run on their way: into the record, to the tracker, and through the detector."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from s3bench import record
from s3bench.errors import unknown
from s3bench.record.lease import Lease
from s3bench.run.config.schema import RunConfig
from s3bench.run.divergence import has_diverged
from s3bench.spikes import Spike, SpikeMonitor


class Recorder:
    """Takes the rows of a run as they come.

    Args:
        writer: of the record, which already has the rows before first_step if the run goes on.
        lease: on the record; rows that come after it was lost raise Busy.
        say: takes a line at each evaluation, and where a spike begins or ends.
    """

    def __init__(
        self,
        config: RunConfig,
        tracker: Any,
        writer: record.Writer,
        lease: Lease,
        say: Callable[[str], None],
        first_step: int,
    ) -> None:
        self._config, self._tracker, self._writer, self._lease, self._say = config, tracker, writer, lease, say
        self.folder = writer.folder
        steps, evals = record.rows_before(writer.folder, first_step)
        self.losses: list[float] = [row["loss"] for row in steps]
        self._held_out: list[float] = [row["loss"] for row in evals]
        self._monitor = SpikeMonitor(**config.task.spikes)
        self.spikes = len(self._monitor.extend(np.array(self.losses)))
        self._onset = self._monitor.onset  # of the last spike said to have begun

    def state(self) -> dict[str, Any]:
        """What a checkpoint says of the rows, all of which outlast the machine from now on."""
        self._writer.sync()
        return {"evals": len(self._held_out)}

    def add_steps(self, rows: list[dict[str, Any]]) -> None:
        """Append rows of steps.parquet."""
        self._lease.check()
        self._writer.add_steps(rows)
        self._tracker.log_steps(rows)
        losses = [row["loss"] for row in rows]
        self.losses += losses
        for spike in self._monitor.extend(np.array(losses)):
            self._add_spike(spike)
        onset = self._monitor.onset
        if onset is not None and onset != self._onset:
            self._say(f"step {onset}: the training loss spikes")
            self._onset = onset

    def _add_spike(self, spike: Spike) -> None:
        self.spikes += 1
        self._tracker.log_spike(spike)
        height = f"+{spike.height:.3g}" if math.isfinite(spike.height) else "not finite"
        self._say(f"step {spike.onset} to {spike.end}: a spike, {height}, {spike.kind}")

    def add_eval(self, row: dict[str, Any]) -> None:
        """A row of evals.parquet. Raises UserError for a target of a metric that it lacks."""
        for target in self._config.task.targets:
            if target["metric"] not in row:
                raise unknown("metric in task.targets", target["metric"], set(row) - {"step"})
        self._held_out.append(row["loss"])
        self._writer.add_eval(row)
        self._tracker.log_eval(row)
        values = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "step")
        self._say(f"step {row['step']}/{self._config.horizon}  {values}")

    def has_diverged(self) -> bool:
        """Whether the losses or the last evaluation say that the run diverged."""
        return not math.isfinite(self._held_out[-1]) or has_diverged(self.losses)

    def fail(self, cause: str, traceback: str) -> None:
        """The run failed."""
        self._writer.fail(cause, traceback)

    def finish(self, summary: dict[str, Any]) -> None:
        """The run is over."""
        if last := self._monitor.unfinished():
            self._add_spike(last)
        summary["spikes"] = self.spikes
        self._lease.check()
        self._writer.finish(summary)
        self._tracker.finish(summary)
