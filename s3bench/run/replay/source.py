"""Finds what is to be replayed: a run with a result, and the spikes in it that have enough steps before them."""

import fnmatch
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s3bench import record
from s3bench.console import say
from s3bench.errors import UserError
from s3bench.record.judge import read_judge, spikes_of
from s3bench.run.config.recorded import recorded_config
from s3bench.run.config.schema import RunConfig
from s3bench.spikes import Spike

LEAD = 20  # steps before the onset at which the arms depart from the run
AFTER = 150  # steps after the onset at which they end
USUAL = 100  # steps before the departure whose medians are what is usual; also those that an optimizer may watch
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One spike of a run, and the steps that its replay takes."""

    number: int  # of the spike in its run, from 1
    spike: Spike
    until: int  # the step before which the arms end

    @property
    def step(self) -> int:
        """The first step of the arms."""
        return self.spike.onset - LEAD


@dataclass(frozen=True, kw_only=True)
class Source:
    """A run that is replayed."""

    folder: Path
    config: RunConfig
    steps: dict[str, Any]  # the columns of its steps, by name
    episodes: Sequence[Episode]

    def usual(self, episode: Episode) -> dict[str, float]:
        """Return the medians of the gradient's norm and of the update's RMS before an episode, as far as measured."""
        last = slice(max(0, episode.step - USUAL), episode.step)
        columns = {name: self.steps[name][last] for name in ("grad_norm", "update_rms") if name in self.steps}
        measured = {name: values[np.isfinite(values)] for name, values in columns.items()}
        return {name: float(np.median(values)) for name, values in measured.items() if len(values)}


def find_sources(results: Path, pattern: str | None, spike: str | None) -> list[Source]:
    """Return the runs of a results folder to replay, each with its episodes.

    Args:
        results: the results folder.
        pattern: a run_id, its beginning, or a pattern such as "*adamw-*"; None takes the run with the highest spike.
        spike: the number of a spike, from 1, or "all"; None takes the highest one of each run.

    Raises:
        UserError: there is no such run or spike, or it cannot be replayed.
    """
    folders = [folder for folder in record.folders(results) if pattern is None or _matches(folder.name, pattern)]
    if not folders:
        raise UserError(f"{results} has no run {pattern!r}; s3bench status {results} --json lists them")
    found = _sources(results, folders, read_judge(results))
    spiky = [source for source in found if source.episodes]
    if not spiky:
        raise UserError(_no_spikes(results, found))
    if pattern is None:
        spiky = [max(spiky, key=lambda source: max(map(_height, source.episodes)))]
    return [_with_episodes(source, spike) for source in spiky]


def _sources(results: Path, folders: Sequence[Path], judge: Mapping[str, Any]) -> list[Source]:
    """Return the runs that can be replayed; of several, those that cannot are left out. Raises UserError for none."""
    found, refused = [], []
    for folder in folders:
        if len(folders) > 1 and not record.has_result(folder):
            continue
        try:
            found.append(_source(folder, judge))
        except UserError as error:
            refused.append(error)
    if not found:
        raise refused[0] if refused else UserError(f"no run in {results} is over; only then can it be replayed")
    for cause in refused:
        say(f"left out: {cause}", file=sys.stderr)
    return found


def _matches(run_id: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(run_id, pattern) or run_id.startswith(pattern)


def _height(episode: Episode) -> float:
    return episode.spike.height if math.isfinite(episode.spike.height) else 0.0


def _source(folder: Path, judge: Mapping[str, Any]) -> Source:
    """Return a run with all spikes that can be replayed, numbered as in a report. Raises UserError if it cannot be."""
    if not record.has_result(folder):
        raise UserError(f"the run {folder} is {record.outcome(folder)}; only a run that is over can be replayed")
    row = record.load_record(folder)
    recorded = row["config"]
    record.eval_arrays(folder)  # a damaged file is refused now, not once the run is trained again
    steps = record.step_arrays(folder, ["loss", "grad_norm", "update_rms"])
    spikes = spikes_of(row, steps["loss"], judge)
    horizon = int(recorded["horizon"])
    episodes = [
        Episode(number=number, spike=spike, until=min(spike.onset + AFTER, horizon))
        for number, spike in enumerate(spikes, start=1)
        if spike.onset > LEAD
    ]
    return Source(folder=folder, config=recorded_config(folder, recorded, "replayed"), steps=steps, episodes=episodes)


def _no_spikes(results: Path, found: Sequence[Source]) -> str:
    if len(found) == 1:
        return f"the run {found[0].folder} has no spike after step {LEAD}, so nothing can be replayed"
    return f"no run in {results} has a spike after step {LEAD}, so nothing can be replayed"


def _with_episodes(source: Source, spike: str | None) -> Source:
    """Return the source with the chosen episodes alone. Raises UserError if there is no such spike."""
    if spike is None:
        chosen = [max(source.episodes, key=_height)]
    elif spike == ALL:
        chosen = list(source.episodes)
    else:
        chosen = [episode for episode in source.episodes if str(episode.number) == spike]
    if not chosen:
        numbers = ", ".join(str(episode.number) for episode in source.episodes)
        raise UserError(
            f"--spike {spike}: the run {source.folder.name} has no such spike after step {LEAD}; "
            f"choose from: {numbers}, {ALL}"
        )
    return Source(folder=source.folder, config=source.config, steps=source.steps, episodes=chosen)
