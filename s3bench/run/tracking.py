"""Trackers: what shows a run elsewhere while it trains, such as in Weights & Biases. The record does not depend on it.

A mirror that fails is given up with a warning, and training continues.
"""

import contextlib
import logging
import os
import shutil
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from s3bench import record
from s3bench.curve_files.wandb_file import end_whole, read_history
from s3bench.errors import UserError, one_line
from s3bench.run.row_buffer import Row
from s3bench.spikes import Spike, SpikeMonitor

BATCH = 10  # steps per row of wandb's history: a call takes about 3% as long as a small step
PICTURES = 10  # how many spikes of a run are shown, from the first: each is a panel of the dashboard
AROUND = 50  # steps shown before a spike's onset and after its end
LONGEST = 200  # steps of a spike that are shown, at most

log = logging.getLogger(__name__)

MACHINE_KEYS = ("launcher", "results_dir", "data_dir")  # keys of a config that describe this machine and its cluster


class Tracker(Protocol):
    """Shows a run elsewhere: what a tracker YAML names. Any class with these methods is a tracker.

    The arguments of its constructor come from the YAML. A class that needs only some of the methods can inherit the
    others from NoTracker. If several processes train a run, only the first calls its tracker: first `start`, then the
    `log_` methods, and at the end one of `finish`, `pause` and `fail`. None of them may raise: an exception counts as a
    failure of the run.
    """

    def start(self, config: dict[str, Any], folder: Path, first_step: int) -> None:
        """Begin to track a run.

        Args:
            config: the whole config, as in config.yaml.
            folder: the folder of the record; its name is the run_id.
            first_step: 0, or the step at which an interrupted run resumes. Steps from there on may have been logged
                before, by a process that was killed after its last checkpoint.
        """

    def log_steps(self, rows: list[Row]) -> None:
        """Take one or more rows of steps.parquet, in the order of their steps."""

    def log_eval(self, row: Row) -> None:
        """Take a row of evals.parquet."""

    def log_spike(self, spike: Spike) -> None:
        """Take a spike that has ended, or that the run ended within. Spikes come in their order."""

    def finish(self, summary: dict[str, Any]) -> None:
        """End tracking: the run is finished or diverged. `summary` is the content of summary.json."""

    def pause(self) -> None:
        """End tracking in this process: the run stops here, and another process may resume it."""

    def fail(self) -> None:
        """End tracking: the run failed."""


class NoTracker:
    """Tracks nothing: the run has only its record."""

    def start(self, config: dict[str, Any], folder: Path, first_step: int) -> None:
        """Do nothing."""

    def log_steps(self, rows: list[Row]) -> None:
        """Do nothing."""

    def log_eval(self, row: Row) -> None:
        """Do nothing."""

    def log_spike(self, spike: Spike) -> None:
        """Do nothing."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Do nothing."""

    def pause(self) -> None:
        """Do nothing."""

    def fail(self) -> None:
        """Do nothing."""


class WandbTracker(Tracker):
    """Mirrors a run in Weights & Biases, with one group per experiment; docs/tracking.md lists what is logged.

    Args:
        mode: "offline" (writes files to <results_dir>/wandb, for `wandb sync`) or "online".
        project: wandb project.
        entity: wandb account or team; None for the default one.
        timeout: how long, in seconds, starting and finishing may wait for the network. If an online start fails, this
            run and later runs of the same process are mirrored offline.

    Raises:
        ValueError: the mode is another one.
    """

    _is_cut_off = False  # whether an online start has failed in this process

    def __init__(self, mode: str, project: str, entity: str | None, timeout: float) -> None:
        if mode not in ("offline", "online"):
            raise ValueError(f"tracker.mode is {mode!r}; it must be offline or online")
        self.mode = mode
        self.project = project
        self.entity = entity
        self.timeout = timeout
        self._run: Any = None
        self._batch: list[Row] = []  # rows of steps that are not yet logged
        self._losses = array("d")  # of all steps
        self._spikes: list[Spike] = []  # all so far
        self._shown = 0  # how many of the spikes are logged
        self._logged_step = self._logged_onset = -1  # the last step and spike that an earlier process has logged

    def start(self, config: dict[str, Any], folder: Path, first_step: int) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # at exit it would wait minutes for a dead network
        os.environ.setdefault("WANDB_SHOW_INFO", "false")
        self._attempt(lambda: _make_way(folder, first_step))
        if self.mode == "online" and not WandbTracker._is_cut_off:
            instead = "runs of this process are mirrored offline (upload them with `wandb sync`); "
            online = self._attempt(lambda: self._init(config, folder, first_step, "online"), instead)
            WandbTracker._is_cut_off = not online
        if self._run is None:
            self._attempt(lambda: self._init(config, folder, first_step, "offline"))
        if first_step:
            self._do(lambda run: self._catch_up(run, config, folder, first_step))

    def log_steps(self, rows: list[Row]) -> None:
        for row in rows:
            self._losses.append(row["loss"])
            self._batch.append(row)
            if (row["step"] + 1) % BATCH == 0:
                self._log_batch()
        while self._shown < len(self._spikes) and _last(self._spikes[self._shown]) <= len(self._losses):
            self._show_spike()

    def log_eval(self, row: Row) -> None:
        self._log_batch()  # rows of wandb's history must be in the order of their steps
        if row["step"] > self._logged_step:
            self._log({f"eval/{key}" if key != "step" else key: value for key, value in row.items()})

    def log_spike(self, spike: Spike) -> None:
        if not self._spikes or spike.onset > self._spikes[-1].onset:
            self._spikes.append(spike)

    def finish(self, summary: dict[str, Any]) -> None:
        self._log_rest()
        spikes = len(self._spikes)
        per_10k = 10_000 * spikes / max(1, summary["steps"])
        self._do(lambda run: run.summary.update({**summary, "spikes": spikes, "spikes_per_10k": per_10k}))
        self._close(exit_code=0)

    def pause(self) -> None:
        self._log_batch()  # a spike whose picture is incomplete is logged by the process that resumes
        self._do(lambda run: run.mark_preempting())  # wandb then shows it as "preempted", not "failed"
        self._close(exit_code=1)

    def fail(self) -> None:
        self._log_rest()
        self._close(exit_code=1)

    def _init(self, config: dict[str, Any], folder: Path, first_step: int, mode: str) -> None:
        import wandb

        self._run = wandb.init(
            mode=mode,  # type: ignore[arg-type]
            project=self.project,
            entity=self.entity,
            group=config["names"]["experiment"],
            name=folder.name,
            id=folder.name,
            tags=[config["names"]["task"], config["names"]["optimizer"]],
            config={key: value for key, value in config.items() if key not in MACHINE_KEYS},
            dir=folder.parent,
            resume="allow" if first_step and mode == "online" else None,
            settings=wandb.Settings(
                init_timeout=self.timeout,
                finish_timeout=self.timeout,
                quiet=True,
                show_info=False,
                show_warnings=False,
                console="off",
                disable_git=True,
                x_transaction_log_flush_interval=1,  # seconds; rows after the last flush are lost when killed
            ),
        )
        self._run.define_metric("*", step_metric="step")
        self._run.define_metric("spike/*", step_metric="spike/onset")

    def _catch_up(self, run: Any, config: dict[str, Any], folder: Path, first_step: int) -> None:
        """Read the losses and spikes before first_step, and find out what an earlier process has logged already."""
        losses = record.load_steps(folder).loss.to_numpy()[:first_step]
        self._losses.extend(losses.tolist())
        for spike in SpikeMonitor(**config["task"]["spikes"]).extend(losses):
            self.log_spike(spike)
        rows = [dict(run.summary)]
        for earlier in _folders(folder, "*run") if run.offline else []:
            with contextlib.suppress(UserError):  # a damaged file: its rows may be logged twice
                rows += read_history(earlier / f"run-{folder.name}.wandb")[0]
        self._logged_step = max(row.get("step", -1) for row in rows)
        self._logged_onset = max(row.get("spike/onset", -1) for row in rows)

    def _log_batch(self) -> None:
        """Log the batch as one row."""
        rows, self._batch = self._batch, []
        if rows and rows[-1]["step"] > self._logged_step:
            self._log({f"train/{key}" if key != "step" else key: value for key, value in batch_values(rows).items()})

    def _show_spike(self) -> None:
        """Log the next spike, and the loss around it over an axis of its own: a panel of the dashboard."""
        spike = self._spikes[self._shown]
        self._shown += 1
        if spike.onset <= self._logged_onset:
            return
        if self._shown <= PICTURES:
            name = f"spikes/{self._shown}"
            self._do(lambda run: run.define_metric(f"{name}/loss", step_metric=f"{name}/step"))
            for step in range(max(0, spike.onset - AROUND), min(len(self._losses), _last(spike))):
                self._log({f"{name}/step": step, f"{name}/loss": self._losses[step]})
        self._log({f"spike/{key}": value for key, value in vars(spike).items()})
        self._do(lambda run: run.summary.update({"spikes": self._shown}))

    def _log_rest(self) -> None:
        self._log_batch()
        while self._shown < len(self._spikes):
            self._show_spike()

    def _close(self, exit_code: int) -> None:
        self._do(lambda run: run.finish(exit_code=exit_code))
        self._run = None

    def _log(self, values: dict[str, Any]) -> None:
        self._do(lambda run: run.log(values))

    def _do(self, action: Callable[[Any], object]) -> None:
        """Do something with the wandb run, if the mirror was not given up."""
        if self._run is not None:
            self._attempt(lambda: action(self._run))

    def _attempt(self, action: Callable[[], object], instead: str = "") -> bool:
        """Do something, or warn and give the mirror up. Return whether it was done."""
        try:
            action()
        except Exception as error:  # whatever wandb raises, training continues
            log.warning("wandb: %s; %sthe record is not affected", one_line(error), instead)
            self._run = None
            _teardown()
            return False
        return True


def batch_values(rows: list[Row]) -> Row:
    """Return one row for several: mean, smallest and largest loss, largest gradient norm, else the last values."""
    losses = [row["loss"] for row in rows]
    values: Row = {}
    for row in rows:
        values |= row
    values["loss"] = sum(losses) / len(losses)
    values["grad_norm"] = max(row["grad_norm"] for row in rows)
    values["loss_min"], values["loss_max"] = min(losses), max(losses)
    return values


def _last(spike: Spike) -> int:
    """Return the first step after a spike's picture."""
    return min(spike.end, spike.onset + LONGEST) + AROUND


def _folders(folder: Path, kind: str) -> list[Path]:
    """Return wandb's folders of a run, oldest first."""
    return sorted(folder.parent.glob(f"wandb/{kind}-*-{folder.name}"))


def _make_way(folder: Path, first_step: int) -> None:
    """Remove what earlier processes have logged offline, unless a resumed run continues it.

    What is kept, for `wandb sync`, ends with its last whole record.
    """
    for earlier in _folders(folder, "offline-run"):
        if first_step == 0 or not end_whole(earlier / f"run-{folder.name}.wandb"):
            shutil.rmtree(earlier)


def _teardown() -> None:
    """End wandb's own process; otherwise the next run would wait for the one that failed."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()
