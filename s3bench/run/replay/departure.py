"""Trains a run again up to where its arms depart from it, and gives each arm the state that it starts from."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from s3bench import record
from s3bench.errors import UserError
from s3bench.run.build import OptimizerFactory, Parts, build_parts, find_device
from s3bench.run.checkpoint import checkpoint, load, newest, restore
from s3bench.run.config.schema import RunConfig
from s3bench.run.divergence import EarlyStop
from s3bench.run.environment import numerics
from s3bench.run.learner import Learner
from s3bench.run.loop import train
from s3bench.run.one_run import first_state
from s3bench.run.replay.source import USUAL, Source
from s3bench.run.ring import copied
from s3bench.run.row_buffer import Row
from s3bench.run.shock import Shock
from s3bench.run.weight_decay import parameter_groups

MEASURED = ("update_rms", "update_max", "update_above_1", "param_max")  # columns that not every step has
STREAM = 11  # sets the random numbers of a placebo apart from those drawn elsewhere for the same seed and step


@dataclass(frozen=True)
class Arm:
    """One arm that waits for its first state."""

    config: RunConfig
    folder: Path


def is_unready(arm: Arm) -> bool:
    """Return whether an arm has nothing to start from and is not over.

    Its checkpoints go when it is over, after its result has come: asked in this order, it has one of them.
    """
    return newest(arm.folder) is None and not record.has_result(arm.folder)


class NotReproduced(Exception):
    """A run that is trained again has other losses than its record."""


class _Arrived(Exception):
    """All arms have their first state."""


def depart(source: Source, arms: Sequence[Arm]) -> None:
    """Train a run again, from a kept checkpoint if there is one, and write the first state of each of its arms.

    Raises:
        NotReproduced: on a CPU, a loss differs from the recorded one.
        UserError: the task cannot be built.
    """
    for start, together in _passes(source, arms).items():
        _Pass(source, together, start).train()


def _passes(source: Source, arms: Sequence[Arm]) -> dict[Path | None, list[Arm]]:
    """Group arms by the kept checkpoint that they are reached from; those without one by None, from step 0."""
    # A checkpoint that was kept lacks the state that a stale shock puts back
    kept = {} if source.config.shock.kind == "stale" else record.kept(source.folder)
    groups: dict[Path | None, list[Arm]] = {}
    for arm in arms:
        groups.setdefault(kept.get(arm.config.replay.onset), []).append(arm)
    return groups


class _Pass:
    """Trains the run from one checkpoint. It takes the place of the loop's checkpoints: see run/loop.py."""

    def __init__(self, source: Source, arms: Sequence[Arm], kept: Path | None) -> None:
        config = source.config
        torch.set_num_threads(config.threads)
        torch.set_flush_denormal(True)  # as in a run
        self._source, self._arms = source, arms
        self._device = find_device(config.device)
        self._parts = build_parts(config)
        self._learner, self._optimizer, self._lr = first_state(config, self._parts, self._device)
        self._clip = self._parts.clip
        self._shock = Shock(config.shock, self._parts.task, config.seed)
        self._shock.begin(self._optimizer, None)
        self._first_step = 0
        saved = load(kept) if kept else None
        if saved is not None:
            restore(None, saved, self._learner, self._optimizer, self._clip)
            self._first_step = saved["step"]
        self._early_stop = EarlyStop(config.stop_diverged)
        for loss in source.steps["loss"][: self._first_step]:
            self._early_stop.add(float(loss))
        self._parts_of = {id(arm): build_parts(arm.config) for arm in arms}
        self._watchers: dict[int, _Watcher] = {}
        self._last = max(arm.config.replay.step for arm in arms)

    def train(self) -> None:
        """Train until all arms have departed."""
        config = self._source.config
        try:
            train(
                self._learner,
                self._optimizer,
                self._lr,
                first_step=self._first_step,
                horizon=config.horizon,
                eval_every=config.eval_every,
                measure_every=config.horizon,
                clip=self._clip,
                early_stop=self._early_stop,
                checkpoints=self,
                on_steps=self._check,
                on_eval=lambda _: None,
                shock=self._shock,
            )
        except _Arrived:
            return
        raise NotReproduced(f"the run {self._source.folder} ended before step {self._last}")

    def is_due(self, step: int) -> bool:
        """Return whether an arm departs at this step, or begins to watch."""
        return any(step in (arm.config.replay.step, self._watched_from(arm)) for arm in self._arms)

    def save(self, step: int) -> None:
        """Start the watchers that begin here, and write the first state of the arms that depart here."""
        for arm in self._arms:
            if arm.config.replay.state == "watched" and step == self._watched_from(arm):
                factory = self._parts_of[id(arm)].optimizer
                self._watchers[id(arm)] = _Watcher(self._learner, self._optimizer, factory, arm.config.decay)
        for arm in self._arms:
            if step == arm.config.replay.step:
                self._write(arm, step)
        if step == self._last:
            raise _Arrived

    def _watched_from(self, arm: Arm) -> int:
        return max(self._first_step, arm.config.replay.step - USUAL)

    def _check(self, rows: list[Row]) -> None:
        """Compare the losses with the record's; on a GPU they may differ in rounding."""
        if self._device.type != "cpu":
            return
        recorded = self._source.steps["loss"]
        for row in rows:
            step = int(row["step"])
            if not np.array_equal(row["loss"], recorded[step], equal_nan=True):
                raise NotReproduced(
                    f"the run {self._source.folder} is not reproduced here: its loss at step {step} is "
                    f"{row['loss']:.9g}, and {recorded[step]:.9g} in the record; "
                    f"replay it on the machine and with the versions that trained it"
                )

    def _write(self, arm: Arm, step: int) -> None:
        """Write the first state of an arm, with the rows of the run before it."""
        state = copied(checkpoint(self._learner, self._optimizer, self._clip))
        if arm.config.replay.noise:
            _disturb(state["model"], self._learner.model, arm.config)
        state["optimizer"] = self._state_of(arm)
        if arm.config.clip != self._source.config.clip:
            state["clip"] = self._parts_of[id(arm)].clip.state_dict()
        rows = record.load_steps(self._source.folder).iloc[:step].to_dict("records")
        evals = record.load_evals(self._source.folder)
        before = evals[evals["step"] < step].to_dict("records")
        state |= {"step": step, "evals": len(before), "end": self._early_stop.state, "numerics": numerics(self._device)}
        state["shock"] = copied(self._shock.kept)
        with suppress(record.Busy), record.leased(arm.folder):  # else another process writes it, or trains the arm
            if is_unready(arm):
                record.write_start(arm.folder, step, _plain(rows), _plain(before), lambda file: torch.save(state, file))

    def _state_of(self, arm: Arm) -> dict[str, Any]:
        """Return the state that an arm's optimizer starts with."""
        replay, factory = arm.config.replay, self._parts_of[id(arm)].optimizer
        fresh = factory(parameter_groups(self._learner.model, arm.config.decay), lr=self._lr(replay.step))
        if replay.state == "fresh":
            return fresh.state_dict()
        if replay.state == "watched":
            return self._watchers.pop(id(arm)).state()
        own = self._optimizer.state_dict()
        if arm.config.optimizer == self._source.config.optimizer:
            return own
        original = self._parts.optimizer(parameter_groups(self._learner.model, arm.config.decay), lr=self._lr(0))
        return {"state": own["state"], "param_groups": _groups(own, original.state_dict(), fresh.state_dict())}


def _groups(own: dict[str, Any], original: dict[str, Any], fresh: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the run's parameter groups with the options that the arm changes."""
    pairs = zip(own["param_groups"], original["param_groups"], fresh["param_groups"], strict=True)
    return [mine | {key: new[key] for key in new if new[key] != old.get(key)} for mine, old, new in pairs]


def check_state(config: RunConfig, parts: Parts, run: RunConfig, parts_of_run: Parts) -> None:
    """Raise UserError if an arm is to keep the state of the run's optimizer, and its own optimizer cannot use it.

    Args:
        config, parts: of the arm.
        run, parts_of_run: of the run.
    """
    if config.replay.state != "kept" or (config.optimizer, config.decay) == (run.optimizer, run.decay):
        return
    begin, remedy = f"arm {config.replay.arm} cannot keep the run's state: ", "set replay.state to fresh or watched"
    if config.decay != run.decay:
        raise UserError(f"{begin}its parameters are grouped by decay={config.decay}; {remedy}")
    states = zip(_names_in_state(parts.optimizer), _names_in_state(parts_of_run.optimizer), strict=True)
    if missing := {name for needed, given in states for name in needed - given}:
        raise UserError(f"{begin}its optimizer {config.names.optimizer} needs {', '.join(sorted(missing))}; {remedy}")


def _names_in_state(factory: OptimizerFactory) -> list[set[str]]:
    """Return what an optimizer keeps for a matrix and for a vector, after a step."""
    params = [nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4))]
    optimizer = factory(params, lr=1e-3)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    return [set(optimizer.state[param]) for param in params]


class _Watcher:
    """Steps an optimizer on copies of the parameters at each step of another one, with the same gradients."""

    def __init__(self, learner: Learner, watched: torch.optim.Optimizer, factory: Any, decay: str) -> None:
        self._params = learner.params
        copies = {param: nn.Parameter(param.detach().clone()) for param in learner.params}
        self._copies = [copies[param] for param in learner.params]
        self._optimizer = factory(_with_copies(parameter_groups(learner.model, decay), copies), lr=1e-3)
        self._hook = watched.register_step_pre_hook(self._step)

    def _step(self, watched: torch.optim.Optimizer, *_: Any) -> None:
        with torch.no_grad():
            for copy, param in zip(self._copies, self._params, strict=True):
                copy.copy_(param)
                copy.grad = None if param.grad is None else param.grad.clone()
        for group in self._optimizer.param_groups:
            group["lr"] = watched.param_groups[0]["lr"]
        self._optimizer.step()

    def state(self) -> dict[str, Any]:
        """Return the state so far, and stop watching."""
        self._hook.remove()
        state: dict[str, Any] = self._optimizer.state_dict()
        return state


def _with_copies(groups: Sequence[Any], copies: Mapping[nn.Parameter, nn.Parameter]) -> list[Any]:
    """Return parameter groups, or parameters, with copies in the place of the parameters."""
    return [
        {**group, "params": [copies[param] for param in group["params"]]} if isinstance(group, dict) else copies[group]
        for group in groups
    ]


def _disturb(state: dict[str, Any], model: nn.Module, config: RunConfig) -> None:
    """Multiply the parameters in a model's state by 1 + noise × normal numbers."""
    seeds = np.random.SeedSequence([config.seed, config.replay.step, STREAM]).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(seeds[0] >> 1))
    disturbed: dict[nn.Parameter, Tensor] = {}
    for name, param in model.named_parameters(remove_duplicate=False):  # tied weights have several names
        if param not in disturbed:
            factor = 1 + config.replay.noise * torch.randn(param.shape, generator=generator)
            disturbed[param] = state[name] * factor.to(state[name])
        state[name] = disturbed[param]


def _plain(rows: list[dict[Any, Any]]) -> list[dict[str, Any]]:
    """Return rows as a run writes them: without the sizes that were not measured, and with whole steps."""
    return [
        {
            key: int(value) if key == "step" else value
            for key, value in row.items()
            if key not in MEASURED or np.isfinite(value)
        }
        for row in rows
    ]
