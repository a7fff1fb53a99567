"""Trains what a claim needs: runs that choose its learning rates, and blocks, one seed on all tasks and arms."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from s3bench import record
from s3bench.decide.halving import FIRST, Frozen, Losses, frozen, wanted
from s3bench.errors import UserError
from s3bench.record import decisions
from s3bench.record.judge import read_judge, spikes_of
from s3bench.report.claims.measures import NoMeasure, check_rates, tuned_by
from s3bench.report.claims.registered import GRID, Registered, arm_at
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import RunConfig, as_dict
from s3bench.run.replay.replay import asked, replay
from s3bench.run.replay.source import ALL, LEAD
from s3bench.run.sweep.sweep import train

TUNING = "tuning"  # the folder of the tuning runs in a results folder: no report shows them

Rates = dict[str, dict[str, dict[str, float]]]  # by task and arm: best, second and the log loss at each


class FailedRun(UserError):
    """A run that a claim needs has failed, or is trained by another process."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where runs are recorded and how they are trained.

    Attributes:
        results: the results folder.
        scale: of the claims.
        overrides: of all runs, such as device=cuda or launcher=slurm; none that changes a result.
    """

    results: Path
    scale: str
    overrides: Sequence[str] = ()


def config_of(overrides: Sequence[str], place: Place, *, folder: Path, rate: float, seed: int) -> RunConfig:
    """Return the config of one run. Raises UserError."""
    own = [*overrides, f"lr_multiplier={rate:.6g}", f"seed={seed}", f"results_dir={folder}"]
    config = run_config([*own, *place.overrides])
    if place.overrides and config.run_id != run_config(own).run_id:
        raise UserError(
            "decide trains what the claim's file says; only device, launcher, workers, data_dir and tracker can be set"
        )
    return config


def freeze_rates(claim: Registered, place: Place, until: float, comparisons: Mapping[str, Any]) -> Rates | None:
    """Return the learning rates of arms of a claim, trained for and written to the log where they are not there yet.

    None if the time is over before: `until` is one of time.monotonic. What was trained is used the next time.

    Raises:
        FailedRun: a run failed.
        NoMeasure: the claim's measure tells nothing on a task.
        UserError: a mistake in the claim or the overrides.
    """
    known = {entry["runs"]: entry for entry in decisions.read(place.results) if entry["event"] == decisions.RATE}
    cells = {
        (task, arm): claim.overrides(arm, place.scale, task)
        for task in claim.scales[place.scale].tasks
        for arm in claim.tuned(comparisons)
    }
    open_cells = {cell: of for cell, of in cells.items() if " ".join(of) not in known}
    losses: dict[tuple[str, str], dict[tuple[float, int], float]] = {cell: {} for cell in open_cells}
    while todo := _next_runs(claim, open_cells, losses):
        if time.monotonic() > until:
            return None
        configs = {
            (cell, rate, seed): config_of(open_cells[cell], place, folder=place.results / TUNING, rate=rate, seed=seed)
            for cell, rate, seed in todo
        }
        _train(list(configs.values()))
        _refuse_failed(configs.values())
        for (cell, rate, seed), config in configs.items():
            losses[cell][rate, seed] = tuned_by(claim.measure)(record.folder_of(as_dict(config)))
    for cell, overrides in open_cells.items():
        found, text = frozen(losses[cell]), " ".join(overrides)
        known[text] = decisions.append(place.results, decisions.RATE, runs=text, **_entry(found, losses[cell]))
    rates = {
        task: {arm: known[" ".join(cells[task, arm])] for arm in claim.tuned(comparisons)}
        for task in claim.scales[place.scale].tasks
    }
    for task, frozen_of in rates.items():
        try:
            check_rates(claim.measure, frozen_of, comparisons)
        except NoMeasure as error:
            raise NoMeasure(f"{task}: {error}") from error
    return rates


def _next_runs(
    claim: Registered, cells: Mapping[tuple[str, str], Sequence[str]], losses: Mapping[tuple[str, str], Losses]
) -> list[tuple[tuple[str, str], float, int]]:
    """Return the runs that the choice of the rates needs next: (cell, multiplier, seed)."""
    return [(cell, rate, seed) for cell in cells for rate, seed in wanted(claim.grids.get(cell[1], GRID), losses[cell])]


def _entry(found: Frozen, losses: Losses) -> dict[str, Any]:
    tried = {f"{rate:g}": round(loss, 4) for (rate, seed), loss in sorted(losses.items()) if seed == FIRST}
    return {**vars(found), "tried": tried}


def _train(configs: Sequence[RunConfig]) -> int:
    """Train the runs that are not over yet; return how many that were. Raises UserError for what cannot be built."""
    folders = [record.folder_of(as_dict(config)) for config in configs]
    record.refuse_other_version({folder.parent for folder in folders})
    record.tidy(folders)
    distinct = {folder: config for config, folder in zip(configs, folders, strict=True)}
    todo = [config for folder, config in distinct.items() if not record.has_result(folder)]
    if todo:
        train(todo, Console(quiet=True))
    return len(todo)


def _refuse_failed(configs: Iterable[RunConfig]) -> None:
    """Raise FailedRun if one of these runs has no result."""
    for config in configs:
        folder = record.folder_of(as_dict(config))
        if not record.has_result(folder):
            raise FailedRun(f"{folder} {record.outcome(folder)}; the same command retries it")


def train_blocks(
    claim: Registered, place: Place, rates: Rates, seeds: Sequence[int], *, more: bool = False
) -> list[dict[str, Any]]:
    """Train the blocks of some seeds at once and write them to the log; return the entries.

    A block with a run that failed is a hole: the log says so, and no verdict rests on it.

    Args:
        claim: which one.
        place: where and how.
        rates: of its arms.
        seeds: of the blocks.
        more: train the runs of the secondary comparisons, for blocks that are there.

    Raises:
        UserError: a mistake in the claim or the overrides.
    """
    began = time.monotonic()
    comparisons = claim.secondary if more else claim.in_block()
    blocks = {seed: _configs(claim, place, rates, seed, comparisons) for seed in seeds}
    trained = _train([config for block in blocks.values() for config in block.values()])
    causes: dict[int, str] = {}
    for seed, block in blocks.items():
        try:
            _refuse_failed(block.values())
            if arms := claim.replayed(comparisons):
                _replay_all(arms, place, [config.run_id for config in block.values()])
        except FailedRun as error:
            causes[seed] = str(error)
    seconds = round((time.monotonic() - began) / len(blocks), 1)
    used = {task: {arm: _used(of) for arm, of in arms.items()} for task, arms in rates.items()}
    entries = []
    for seed, block in blocks.items():
        common = {"claim": claim.id, "digest": claim.digest, "scale": place.scale, "seed": seed}
        common |= {"words": dict(claim.words)}
        if seed in causes:
            entries.append(decisions.append(place.results, decisions.HOLE, **common, cause=causes[seed]))
            continue
        runs: dict[str, dict[str, str]] = {task: {} for task, _ in block}
        for (task, text), config in block.items():
            runs[task][text] = config.run_id
        common |= {"runs": runs, "rates": used, "seconds": seconds, "trained": trained / len(blocks)}
        entries.append(decisions.append(place.results, decisions.MORE if more else decisions.BLOCK, **common))
    return entries


def _configs(
    claim: Registered, place: Place, rates: Rates, seed: int, comparisons: Mapping[str, Any]
) -> dict[tuple[str, str], RunConfig]:
    """Return the configs of a block's runs, by task and arm expression."""
    return {
        (task, text): config_of(
            claim.overrides(arm_at(text).name, place.scale, task),
            place,
            folder=place.results,
            rate=_rate(text, rates[task]),
            seed=seed,
        )
        for task in claim.scales[place.scale].tasks
        for text in claim.trained(comparisons)
    }


def _used(entry: Mapping[str, Any]) -> dict[str, float]:
    return {key: entry[key] for key in ("best", "second", "log_loss")}


def _rate(expression: str, rates: Mapping[str, Mapping[str, float]]) -> float:
    """Return the multiplier of an arm expression on a task."""
    arm = arm_at(expression)
    if arm.of is not None:
        return (arm.factor or math.nan) * rates[arm.of]["best"]
    if arm.factor is not None:
        return arm.factor
    return rates[arm.name]["second" if arm.second else "best"]


def _replay_all(arms: Sequence[str], place: Place, run_ids: Iterable[str]) -> None:
    """Replay every spike of some runs with these arms; a run without a spike has nothing to replay."""
    named = f"arm=same,{','.join(arms)}"
    for run_id in run_ids:
        folder = place.results / run_id
        if not _has_spike(folder):
            continue
        order = asked(str(place.results), [named], run=run_id, spike=ALL, jobs=None)
        if replay(order, Console(quiet=True)):
            raise FailedRun(f"{folder}: its spikes could not be replayed")


def _has_spike(folder: Path) -> bool:
    """Return whether a run has a spike that can be replayed."""
    loss = record.step_arrays(folder, ["loss"])["loss"]
    spikes = spikes_of(record.load_record(folder), loss, read_judge(folder.parent))
    return any(spike.onset > LEAD for spike in spikes)
