"""Reads the arms of replays and says what became of each spike: vanished, smaller, delayed or persisted.

An arm is a run continued from 20 steps before a spike with one thing changed, see s3bench/run/replay/. The steps from
there to 150 after the onset are looked at, in the run and in the arm alike, with the detector parameters of the run's
record, or of judge.yaml:

    vanished    no spike begins
    smaller     one begins, and the highest is at most half as high as the run's
    delayed     one more than half as high begins, the first more than 20 steps after the run's onset
    persisted   anything else

A loss that is not finite makes a spike infinitely high.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from s3bench import record
from s3bench.errors import UserError
from s3bench.record import identity
from s3bench.record.judge import held_to, read_judge
from s3bench.spikes import Spike, find_spikes

FOLDER = "replays"  # in a results folder
OUTCOMES = ("vanished", "smaller", "delayed", "persisted")
SMALLER = 0.5  # of the run's height
SAME, PLACEBO = "same", "placebo"  # the arms that show what no change, and a change that means nothing, do
LAST = 10  # steps at the end of an arm whose median loss is its loss at the end
BEFORE = 40  # steps before the onset that figures show
COLUMNS = ("update_rms", "update_max")

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Window:
    """The steps of a run or an arm around an onset, beginning BEFORE steps before it where there are as many.

    Attributes:
        first: the step of the first value.
        loss, update_rms, update_max: shape (steps,); the sizes are NaN where they were not measured.
        height: of the highest spike that begins from the departure on; 0 if none does, infinite for a non-finite loss.
        begins: the step at which the first of them begins; None if none does.
        end_loss: the median loss of the last LAST steps; infinite if a loss is not finite.
    """

    first: int
    loss: Array
    update_rms: Array
    update_max: Array
    height: float
    begins: int | None
    end_loss: float


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm that is over."""

    name: str
    window: Window
    outcome: str  # one of OUTCOMES
    is_exact: bool  # whether each loss equals the run's


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One spike of a run and its arms, `same` first."""

    run: str  # the run_id
    task: str
    optimizer: str
    onset: int
    step: int  # the first step of the arms
    window: Window  # the run's own
    arms: Sequence[Arm]

    @property
    def is_of_spike(self) -> bool:
        """Whether the run has a spike there by what it is held to now: judge.yaml may be newer than the replay."""
        return self.window.begins is not None


def read_replays(results_dir: Path) -> list[Replay]:
    """Read all replays of a results folder, by run and onset; none if it has none.

    Raises:
        UserError: a record or judge.yaml is damaged, or a spike has two records of one arm.
    """
    try:
        places = record.folders(results_dir / FOLDER)
    except UserError:  # no such folder, or no record in it
        return []
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for place in places:
        row = record.load_record(place)
        arm = identity.replay(row["config"])
        if arm is not None and record.has_result(place) and (results_dir / arm["run"]).is_dir():
            groups.setdefault((arm["run"], arm["onset"]), []).append(row)
    for rows in groups.values():
        _refuse_copies(rows)
    judge = read_judge(results_dir) if groups else {}
    return [_replay(results_dir / run, rows, judge) for (run, _), rows in sorted(groups.items())]


def _refuse_copies(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise UserError if one spike has two records of an arm, as after a change of its YAML file."""
    seen: dict[str, Path] = {}
    for row in rows:
        first = seen.setdefault(row["config"]["replay"]["arm"], row["folder"])
        if first != row["folder"]:
            raise UserError(f"{first} and {row['folder']} are the same arm for the same spike; move one of them away")


def _replay(source: Path, rows: Sequence[Mapping[str, Any]], judge: Mapping[str, Mapping[str, Any]]) -> Replay:
    of_run = record.load_record(source)
    replay = rows[0]["config"]["replay"]
    detector, until = held_to(of_run, judge)["spikes"], replay["until"]
    own, own_loss = _window(source, replay, detector)
    arms = []
    for row in rows:
        window, loss = _window(row["folder"], row["config"]["replay"], detector)
        exact = np.array_equal(loss, own_loss[:until], equal_nan=True)
        outcome = _outcome(own, window, replay["onset"] + replay["onset"] - replay["step"])
        arms.append(Arm(name=row["config"]["replay"]["arm"], window=window, outcome=outcome, is_exact=exact))
    return Replay(
        run=replay["run"],
        task=of_run["task"],
        optimizer=of_run["optimizer"],
        onset=replay["onset"],
        step=replay["step"],
        window=own,
        arms=sorted(arms, key=lambda arm: (arm.name != SAME, arm.name != PLACEBO, arm.name)),
    )


def _window(folder: Path, replay: Mapping[str, Any], detector: Mapping[str, Any]) -> tuple[Window, Array]:
    """Return the window of a record, and all its losses up to the end of it."""
    columns = record.step_arrays(folder, ["loss", *COLUMNS])
    shown = slice(max(0, replay["onset"] - BEFORE), replay["until"])
    loss = columns["loss"][: replay["until"]]
    unmeasured = np.full(len(loss), math.nan)
    # one from before the departure counts if it is not over at the onset, where the run's is
    found = find_spikes(loss, **detector)
    spikes = [spike for spike in found if spike.onset >= replay["step"] or spike.end > replay["onset"]]
    window = Window(
        first=shown.start,
        loss=loss[shown],
        update_rms=columns.get("update_rms", unmeasured)[shown],
        update_max=columns.get("update_max", unmeasured)[shown],
        height=max(map(_height, spikes), default=0.0),
        begins=min((spike.onset for spike in spikes), default=None),
        end_loss=float(np.median(loss[-LAST:])) if np.isfinite(loss).all() else math.inf,
    )
    return window, loss


def _height(spike: Spike) -> float:
    return spike.height if math.isfinite(spike.height) else math.inf


def _outcome(run: Window, arm: Window, late: int) -> str:
    """Return what became of a spike; `late` is the last step at which it counts as the same one."""
    if arm.begins is None:
        return "vanished"
    if math.isinf(arm.height):
        return "persisted"
    if arm.height <= SMALLER * run.height:
        return "smaller"
    return "delayed" if arm.begins > late else "persisted"


def arm_table(replays: Sequence[Replay]) -> pd.DataFrame:
    """Return one row per task, optimizer and arm: of how many spikes what became, over all replays.

    `share` is that of the spikes that vanished, with its exact 95% interval (Clopper and Pearson 1934). Spikes of one
    run are not independent, so with several of them the interval is too narrow. `end_loss_ratio` is the median over
    spikes of the arm's loss at the end over the run's there; infinite if the arm diverged, and without the spikes at
    which the run did.
    """
    groups: dict[tuple[str, str, str], list[tuple[Replay, Arm]]] = {}
    for replay in replays:
        for arm in replay.arms:
            groups.setdefault((replay.task, replay.optimizer, arm.name), []).append((replay, arm))
    rows = []
    for (task, optimizer, name), found in groups.items():
        counts = {outcome: sum(arm.outcome == outcome for _, arm in found) for outcome in OUTCOMES}
        interval = stats.binomtest(counts["vanished"], len(found)).proportion_ci()
        ends = [(arm.window.end_loss, replay.window.end_loss) for replay, arm in found]
        ratios = [end / of_run for end, of_run in ends if math.isfinite(of_run)]
        rows.append(
            {
                "task": task,
                "optimizer": optimizer,
                "arm": name,
                "n": len(found),
                "runs": len({replay.run for replay, _ in found}),
                **counts,
                "share": counts["vanished"] / len(found),
                "share_low": interval.low,
                "share_high": interval.high,
                "end_loss_ratio": float(np.median(ratios)) if ratios else math.nan,
                "exact": sum(arm.is_exact for _, arm in found),
            }
        )
    names = ["task", "optimizer", "arm", "n", "runs", *OUTCOMES]
    return pd.DataFrame(rows, columns=[*names, "share", "share_low", "share_high", "end_loss_ratio", "exact"])


def spike_table(replays: Sequence[Replay]) -> pd.DataFrame:
    """Return one row per spike and arm: what became of it, how high the arm's highest spike is, where one begins."""
    rows = [
        {
            "run": replay.run,
            "onset": replay.onset,
            "height": replay.window.height,
            "arm": arm.name,
            "outcome": arm.outcome,
            "arm_height": arm.window.height,
            "arm_onset": arm.window.begins,
            "end_loss": arm.window.end_loss,
        }
        for replay in replays
        for arm in replay.arms
    ]
    columns = ["run", "onset", "height", "arm", "outcome", "arm_height", "arm_onset", "end_loss"]
    return pd.DataFrame(rows, columns=columns)
