"""Mirrors of a run. The record is the truth: a mirror that fails is given up with a warning, and training goes on."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from s3bench.spikes import Spike

log = logging.getLogger(__name__)


class Tracker:
    """The tracker that does nothing: the record alone."""

    def start(self, config: dict[str, Any], folder: Path, first_step: int) -> None:
        """The run begins; folder is its record's."""

    def log_steps(self, rows: list[dict[str, Any]]) -> None:
        """Rows of steps.parquet."""

    def log_eval(self, row: dict[str, Any]) -> None:
        """A row of evals.parquet."""

    def log_spike(self, spike: Spike) -> None:
        """A spike has ended, or the run within it."""

    def finish(self, summary: dict[str, Any]) -> None:
        """The run is over; summary as in summary.json."""

    def pause(self) -> None:
        """The run stops, to be gone on with later."""

    def fail(self) -> None:
        """The run failed."""


class WandbTracker(Tracker):
    """Mirrors the run to Weights & Biases, one group per experiment.

    Args:
        mode: "offline" (the files lie in <results_dir>/wandb, for `wandb sync`) or "online".
        project: wandb project.
        entity: wandb account or team, None for the default one.
        timeout: seconds that starting and finishing may wait for the network. If an online start fails, the run is
            mirrored offline.

    Raises:
        ValueError: another mode.
    """

    def __init__(self, mode: str, project: str, entity: str | None, timeout: float) -> None:
        if mode not in ("offline", "online"):
            raise ValueError(f"tracker.mode is {mode!r}; it must be offline or online")
        self.mode = mode
        self.project = project
        self.entity = entity
        self.timeout = timeout
        self._run: Any = None
        self._spikes = 0

    def start(self, config: dict[str, Any], folder: Path, first_step: int) -> None:  # noqa: ARG002
        if self.mode == "online" and not self._attempt(lambda: self._init(config, folder, "online")):
            self._attempt(_teardown)  # or the next init would wait for the one that failed
        if self._run is None:
            self._attempt(lambda: self._init(config, folder, "offline"))

    def log_steps(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._log({f"train/{key}" if key != "step" else key: value for key, value in row.items()})

    def log_eval(self, row: dict[str, Any]) -> None:
        self._log({f"eval/{key}" if key != "step" else key: value for key, value in row.items()})

    def log_spike(self, spike: Spike) -> None:
        self._spikes += 1
        self._log({"step": spike.onset, **{f"spike/{key}": value for key, value in vars(spike).items()}})
        self._do(lambda run: run.summary.update({"spikes": self._spikes}))

    def finish(self, summary: dict[str, Any]) -> None:
        per_10k = 10_000 * self._spikes / max(1, summary["steps"])
        self._do(lambda run: run.summary.update({**summary, "spikes": self._spikes, "spikes_per_10k": per_10k}))
        self._do(lambda run: run.finish(exit_code=0))
        self._run = None

    def fail(self) -> None:
        self._do(lambda run: run.finish(exit_code=1))
        self._run = None

    def _init(self, config: dict[str, Any], folder: Path, mode: str) -> None:
        import wandb

        self._run = wandb.init(
            mode=mode,  # type: ignore[arg-type]
            project=self.project,
            entity=self.entity,
            group=config["names"]["experiment"],
            name=folder.name,
            id=folder.name,
            tags=[config["names"]["task"], config["names"]["optimizer"]],
            config=config,
            dir=folder.parent,
            settings=wandb.Settings(
                init_timeout=self.timeout, finish_timeout=self.timeout, silent=True, console="off", disable_git=True
            ),
        )
        self._run.define_metric("*", step_metric="step")

    def _log(self, values: dict[str, Any]) -> None:
        self._do(lambda run: run.log(values))

    def _do(self, action: Callable[[Any], object]) -> None:
        """Do it with the wandb run, if there still is one."""
        if self._run is not None:
            self._attempt(lambda: action(self._run))

    def _attempt(self, action: Callable[[], object]) -> bool:
        """Do it, or warn and give the mirror up; whether it was done. Whatever a mirror raises, training goes on."""
        try:
            action()
        except Exception as error:
            log.warning("wandb: %s; the record is not affected", " ".join(f"{type(error).__name__}: {error}".split()))
            self._run = None
            return False
        return True


def _teardown() -> None:
    import wandb

    wandb.teardown()
