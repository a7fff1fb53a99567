"""Mirrors of a run. The record is the truth: a mirror that fails is given up with a warning, and training goes on."""

import contextlib
import logging
import os
import shutil
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from s3bench import record
from s3bench.curve_files.wandb_file import end_whole, read_history
from s3bench.errors import UserError, one_line
from s3bench.spikes import Spike, SpikeMonitor

BATCH = 10  # steps in a row of wandb's history: a call costs as much as 3% of a small step
PICTURES = 10  # spikes of a run that are shown, the first ones: each is a panel of the dashboard
AROUND = 50  # steps before a spike's onset and after its end that are shown
LONGEST = 200  # steps of a spike that are shown

log = logging.getLogger(__name__)

PRIVATE = ("launcher", "results_dir", "data_dir")  # of a config: this machine's and its cluster's


class Tracker:
    """The tracker that does nothing: the record alone."""

    def start(self, config: dict[str, Any], folder: Path, first_step: int) -> None:
        """The run begins, or goes on at first_step > 0; folder is its record's."""

    def log_steps(self, rows: list[dict[str, Any]]) -> None:
        """Rows of steps.parquet."""

    def log_eval(self, row: dict[str, Any]) -> None:
        """A row of evals.parquet."""

    def log_spike(self, spike: Spike) -> None:
        """A spike has ended, or the run within it; in their order."""

    def finish(self, summary: dict[str, Any]) -> None:
        """The run is over; summary as in summary.json."""

    def pause(self) -> None:
        """The run stops here, to go on later in another process."""

    def fail(self) -> None:
        """The run failed."""


class WandbTracker(Tracker):
    """Mirrors the run to Weights & Biases, one group per experiment; docs/tracking.md says what is logged.

    Args:
        mode: "offline" (the files lie in <results_dir>/wandb, for `wandb sync`) or "online".
        project: wandb project.
        entity: wandb account or team, None for the default one.
        timeout: seconds that starting and finishing may wait for the network. If an online start fails, this run and
            the later ones of this process are mirrored offline.

    Raises:
        ValueError: another mode.
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
        self._batch: list[dict[str, Any]] = []  # steps that are not yet logged
        self._losses = array("d")  # of all steps
        self._spikes: list[Spike] = []  # all so far
        self._shown = 0  # how many of them are logged
        self._logged_step = self._logged_onset = -1  # the last that an earlier process has logged

    def start(self, config: dict[str, Any], folder: Path, first_step: int) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # at exit it waits for a dead network, for minutes
        os.environ.setdefault("WANDB_SHOW_INFO", "false")
        self._attempt(lambda: _make_way(folder, first_step))
        if self.mode == "online" and not WandbTracker._is_cut_off:
            instead = "this process mirrors its runs offline, for `wandb sync`; "
            online = self._attempt(lambda: self._init(config, folder, first_step, "online"), instead)
            WandbTracker._is_cut_off = not online
        if self._run is None:
            self._attempt(lambda: self._init(config, folder, first_step, "offline"))
        if first_step:
            self._do(lambda run: self._catch_up(run, config, folder, first_step))

    def log_steps(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._losses.append(row["loss"])
            self._batch.append(row)
            if (row["step"] + 1) % BATCH == 0:
                self._log_batch()
        while self._shown < len(self._spikes) and _last(self._spikes[self._shown]) <= len(self._losses):
            self._show_spike()

    def log_eval(self, row: dict[str, Any]) -> None:
        self._log_batch()  # rows of the history come in the order of their steps
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
        self._log_batch()  # a spike whose picture is not complete is logged by the process that goes on
        self._do(lambda run: run.mark_preempting())  # it is "preempted" then, not "failed"
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
            config={key: value for key, value in config.items() if key not in PRIVATE},
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
                x_transaction_log_flush_interval=1,  # seconds; all later rows are lost when the process is killed
            ),
        )
        self._run.define_metric("*", step_metric="step")
        self._run.define_metric("spike/*", step_metric="spike/onset")

    def _catch_up(self, run: Any, config: dict[str, Any], folder: Path, first_step: int) -> None:
        """Take in the losses and spikes before first_step, and find out what of the run is logged already."""
        losses = record.load_steps(folder).loss.to_numpy()[:first_step]
        self._losses.extend(losses.tolist())
        for spike in SpikeMonitor(**config["task"]["spikes"]).extend(losses):
            self.log_spike(spike)
        rows = [dict(run.summary)]
        for earlier in _folders(folder, "*run") if run.offline else []:
            with contextlib.suppress(UserError):  # a damaged file: its rows may come twice
                rows += read_history(earlier / f"run-{folder.name}.wandb")[0]
        self._logged_step = max(row.get("step", -1) for row in rows)
        self._logged_onset = max(row.get("spike/onset", -1) for row in rows)

    def _log_batch(self) -> None:
        """One row of the history: the mean, least and largest loss, the largest gradient norm, else the last values."""
        rows, self._batch = self._batch, []
        if rows and rows[-1]["step"] > self._logged_step:
            losses = [row["loss"] for row in rows]
            values: dict[str, Any] = {}
            for row in rows:
                values |= row
            values["loss"] = sum(losses) / len(losses)
            values["grad_norm"] = max(row["grad_norm"] for row in rows)
            values["loss_min"], values["loss_max"] = min(losses), max(losses)
            self._log({f"train/{key}" if key != "step" else key: value for key, value in values.items()})

    def _show_spike(self) -> None:
        """Log the next spike, and the loss around it over steps of its own: a panel of the dashboard."""
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
        """Do it with the wandb run, if there still is one."""
        if self._run is not None:
            self._attempt(lambda: action(self._run))

    def _attempt(self, action: Callable[[], object], instead: str = "") -> bool:
        """Do it, or warn and give the mirror up; whether it was done. Whatever a mirror raises, training goes on."""
        try:
            action()
        except Exception as error:
            log.warning("wandb: %s; %sthe record is not affected", one_line(error), instead)
            self._run = None
            _teardown()
            return False
        return True


def _last(spike: Spike) -> int:
    """The step at which a spike's picture ends, itself not shown."""
    return min(spike.end, spike.onset + LONGEST) + AROUND


def _folders(folder: Path, kind: str) -> list[Path]:
    """wandb's folders of a run, oldest first."""
    return sorted(folder.parent.glob(f"wandb/{kind}-*-{folder.name}"))


def _make_way(folder: Path, first_step: int) -> None:
    """Of earlier processes keep, for `wandb sync`, what belongs to a run that goes on, up to its last whole record."""
    for earlier in _folders(folder, "offline-run"):
        if first_step == 0 or not end_whole(earlier / f"run-{folder.name}.wandb"):
            shutil.rmtree(earlier)


def _teardown() -> None:
    """End wandb's own process, or the next run would wait for the one that failed."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()
