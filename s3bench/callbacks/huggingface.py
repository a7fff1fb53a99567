"""Finds the spikes of a training by transformers' Trainer: `Trainer(..., callbacks=[SpikeCallback()])`."""

import json
import logging
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Unpack

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from s3bench.callbacks.watch import DIVERGED_AFTER, Watch
from s3bench.spikes.detector import DetectorParameters

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

log = logging.getLogger(__name__)


class SpikeCallback(TrainerCallback, ExportableState):
    """Logs the spikes of the loss that the Trainer logs, and stops the training after one if asked to.

    What is logged: `spike/onset` where a spike begins; `spike/onset`, `spike/peak`, `spike/end` (in the Trainer's
    steps) and `spike/height` where it ends, and how many spikes of its kind there were, such as `spike/recovered`. With
    a `trainer` this goes wherever the Trainer logs; without one, into `state.log_history` and to the callbacks after
    this one, which wandb's and the like are not.

    It sees every step's loss only with `logging_steps=1` and `logging_nan_inf_filter=False`; a warning says so where
    they are not set. Its state is saved with the Trainer's checkpoints, and a resumed training goes on from it.

    Args:
        stop_on: the kinds of spikes after which the training stops: "blip", "recovered", "level_shift", "diverged".
        diverged_after: a spike has diverged once so many losses in a row are not finite or above the first one.
        trainer: the Trainer (None: see above), for `trainer.add_callback(SpikeCallback(trainer=trainer))`.
        **parameters: those of SpikeMonitor.

    Raises:
        ValueError: a kind is unknown, or a parameter is out of its range.
    """

    def __init__(
        self,
        *,
        stop_on: Iterable[str] = (),
        diverged_after: int = DIVERGED_AFTER,
        trainer: Any = None,
        **parameters: Unpack[DetectorParameters],
    ) -> None:
        stop_on = [stop_on] if isinstance(stop_on, str) else list(stop_on)
        self._arguments: dict[str, Any] = {"stop_on": stop_on, "diverged_after": diverged_after, **parameters}
        self._trainer = trainer
        self._watch = Watch(**self._arguments)
        self._has_warned = False

    def state(self) -> dict[str, Any]:
        """Return what the Trainer writes into a checkpoint's trainer_state.json."""
        return {"args": self._arguments, "attributes": {"saved": self.saved}}

    @property
    def saved(self) -> str:
        """The state in one line of JSON. Setting it goes on from there; ValueError for other detector parameters."""
        return json.dumps(self._watch.state_dict(), allow_nan=False)

    @saved.setter
    def saved(self, text: str) -> None:
        self._watch.load_state_dict(json.loads(text))

    def on_train_begin(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",  # noqa: ARG002  # the Trainer passes it by position
        **_: object,
    ) -> None:
        """Begin anew, or go on from the checkpoint; warn of what cannot be seen."""
        if not self._has_warned and state.is_world_process_zero:
            self._has_warned = True
            if blind := _blind(args, state, has_trainer=self._trainer is not None):
                warnings.warn(blind, stacklevel=2)
        self._watch = Watch(**self._arguments)
        kept: Any = state.stateful_callbacks  # a dictionary, once a checkpoint was read or a callback has a state
        saved = kept.get(type(self).__name__) if state.global_step and kept else None
        if isinstance(saved, dict):
            self.saved = saved["attributes"]["saved"]

    def on_log(
        self,
        args: "TrainingArguments",  # noqa: ARG002  # the Trainer passes it by position
        state: "TrainerState",
        control: "TrainerControl",
        logs: dict[str, Any] | None = None,
        **_: object,
    ) -> None:
        """Take the loss that is logged; log what it says of spikes, and stop the training if it is to."""
        if logs is None or "loss" not in logs:
            return
        values = self._watch.add(state.global_step, float(logs["loss"]))
        if not values:
            return
        if self._trainer is not None:
            self._trainer.log(values)
        else:
            logs.update(values)
            state.log_history[-1].update(values)
        if self._watch.stop is not None and not control.should_training_stop:
            control.should_training_stop = True
            if state.is_world_process_zero:
                log.warning("step %d: %s", state.global_step, self._watch.stop)


def _blind(args: "TrainingArguments", state: "TrainerState", *, has_trainer: bool) -> str | None:
    """Return in words what the callback cannot see with these arguments; None if it sees every step's loss."""
    blind = []
    strategy = str(getattr(args.logging_strategy, "value", args.logging_strategy))
    if strategy == "no":
        blind.append("logging_strategy='no' shows it no loss at all")
    elif strategy == "epoch":
        blind.append("logging_strategy='epoch' shows it the mean loss of an epoch alone, in which short spikes vanish")
    elif state.logging_steps > 1:
        what = f"logging_steps={state.logging_steps} shows it the mean loss of {state.logging_steps} steps alone"
        blind.append(f"{what}, in which short spikes vanish")
    if args.logging_nan_inf_filter:
        blind.append("logging_nan_inf_filter=True hides losses that are not finite: a mean or 0 takes their place")
    told = "SpikeCallback does not see every step's loss: " + "; ".join(blind)
    told += ". Pass logging_steps=1, logging_nan_inf_filter=False"
    parts = [told] if blind else []
    if args.report_to and not has_trainer:
        parts.append(
            f"SpikeCallback's values do not reach report_to={args.report_to}: for that, call "
            "trainer.add_callback(SpikeCallback(trainer=trainer))"
        )
    return ". ".join(parts) or None
