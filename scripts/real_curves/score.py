"""Scores the detector on real curves that two labellers have marked (RULE.md). From the repository's root:

python -m scripts.real_curves.score FOLDER                     both parts; FOLDER has a file ID.csv for each curve,
python -m scripts.real_curves.score FOLDER --part development  with the columns step and loss
python -m scripts.real_curves.score FOLDER --list              also each spike that was missed or is false
python -m scripts.real_curves.score FOLDER --third             a third labeller's certain marks instead, and the
                                                               detector's finds on the same curves
python -m scripts.real_curves.score FOLDER --published         every published definition beside the detector

Curves that FOLDER lacks are left out and counted.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from s3bench.spikes import Spike, find_spikes
from s3bench.spikes.published import DEFINITIONS
from s3bench.spikes.published_rules import Definition, events

HERE = Path(__file__).parent
MOST_ROWS = 10_000  # of a curve that count
APART = 10  # rows by which two marks of one spike may differ
TOLERANCE, PART = 5, 10  # a found onset may be off by so many rows, or by one in PART of the spike's length
NOT_BACK = 300  # rows after a mark without an end in which what is found does not count

Array = npt.NDArray[np.float64]
Found = TypeVar("Found", bound="Spike | Mark")


@dataclass(frozen=True)
class Mark:
    """What one labeller marked.

    Attributes:
        onset: the first row of the rise; -1 for a curve that does not count.
        end: the first row that is back; None if there is none.
        is_certain: whether every experienced person would call it a spike.
    """

    onset: int
    end: int | None
    is_certain: bool

    @property
    def last(self) -> int:
        """The row before which what begins belongs to it."""
        return self.onset + NOT_BACK if self.end is None else max(self.end, self.onset + 1)


@dataclass
class Truth:
    """What counts on one curve: the true spikes, as pairs of the labellers' marks, and all that was marked."""

    pairs: list[tuple[Mark, Mark]] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        """Whether neither labeller calls the whole curve doubtful."""
        return all(mark.onset >= 0 for mark in self.marks)


@dataclass
class Score:
    """What a detector finds on many curves, counted."""

    curves: int = 0
    rows: int = 0
    true: int = 0
    right: int = 0
    false: int = 0

    def line(self, name: str) -> str:
        """Return a row of a Markdown table."""
        precision = self.right / max(1, self.right + self.false)
        recall = self.right / max(1, self.true)
        rate = 1e4 * self.false / max(1, self.rows)
        return f"| {name} | {self.curves} | {self.rows:,} | {self.true} | {precision:.3f} | {recall:.3f} | {rate:.2f} |"


def marks_of(path: Path) -> dict[str, list[Mark]]:
    """Return one labeller's marks on each curve."""
    found: dict[str, list[Mark]] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            marks = found.setdefault(row["id"], [])
            if row["certainty"] != "none":
                end = int(row["end"]) if row["end"] else None
                marks.append(Mark(int(row["onset"]), end, row["certainty"] == "certain"))
    return found


def truth(first: list[Mark], second: list[Mark]) -> Truth:
    """Return what two labellers' marks on a curve say together: each mark belongs to at most one pair."""
    pairs, rest = [], [mark for mark in second if mark.is_certain]
    for mark in first:
        near = [other for other in rest if abs(other.onset - mark.onset) <= APART]
        if mark.is_certain and near:
            other = min(near, key=lambda other: abs(other.onset - mark.onset))
            rest.remove(other)
            pairs.append((mark, other))
    return Truth(pairs, [*first, *second])


def is_right(spike: Spike | Mark, pair: tuple[Mark, Mark]) -> bool:
    """Return whether a found spike begins where a true one does."""
    onsets = [mark.onset for mark in pair]
    off = max(TOLERANCE, (max(mark.last for mark in pair) - min(onsets)) // PART)
    return min(onsets) - off <= spike.onset <= max(onsets) + off


def judge(found: Sequence[Found], labels: Truth) -> tuple[set[int], list[Found]]:
    """Return which true spikes were found, and the false ones among those found."""
    right: set[int] = set()
    false: list[Found] = []
    for spike in found:
        fits = [index for index, pair in enumerate(labels.pairs) if is_right(spike, pair)]
        if fits:
            right.add(next((index for index in fits if index not in right), fits[0]))
        elif not any(mark.onset - TOLERANCE <= spike.onset < mark.last + TOLERANCE for mark in labels.marks):
            false.append(spike)
    return right, false


def curves(folder: Path, part: str | None) -> Iterator[tuple[str, Array, Truth]]:
    """Yield the name, the losses and the labels of each curve that counts and that the folder has."""
    labels = [marks_of(HERE / f"labels_{number}.csv") for number in (1, 2)]
    with (HERE / "curves.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name, path = row["id"], folder / f"{row['id']}.csv"
            both = truth(*(marks[name] for marks in labels))
            if part in (None, row["part"]) and both.counts and path.exists():
                yield name, np.loadtxt(path, delimiter=",", skiprows=1, usecols=1)[:MOST_ROWS], both


def detected(name: str, losses: Array) -> list[Spike]:  # noqa: ARG001 (a labeller's marks go by the name)
    """Return what the detector finds on a curve."""
    return find_spikes(losses)


def by(definition: Definition) -> Callable[[str, Array], list[Mark]]:
    """Return what finds the events of a published definition, as in the test bed: close flags are one event."""
    return lambda _, losses: [Mark(onset, end, True) for onset, end in events(definition.flags(losses))]


def score(
    folder: Path,
    part: str | None,
    find: Callable[[str, Array], Sequence[Spike | Mark]] = detected,
    *,
    only: Container[str] | None = None,
    show: bool = False,
) -> Score:
    """Return the score of what is found on one part of the curves, or on all; print what is wrong if asked.

    Args:
        folder: has a file ID.csv for each curve.
        part: of curves.csv; None for all.
        find: what is scored; takes a curve's name and losses.
        only: the names of the curves that count; None for all.
        show: print each spike that was missed or is false.
    """
    total = Score()
    for name, losses, labels in curves(folder, part):
        if only is not None and name not in only:
            continue
        right, false = judge(find(name, losses), labels)
        total.curves, total.rows = total.curves + 1, total.rows + len(losses)
        total.true, total.right = total.true + len(labels.pairs), total.right + len(right)
        total.false += len(false)
        if show:
            missed = [pair for index, pair in enumerate(labels.pairs) if index not in right]
            for pair in missed:
                print(f"{name}: missed {pair[0].onset} to {pair[0].end}")
            for spike in false:
                print(f"{name}: false {spike}")
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the curves are")
    parser.add_argument("--part", choices=["development", "held_out"], help="only this part (default: both)")
    parser.add_argument("--third", action="store_true", help="score a third labeller, and the detector beside")
    parser.add_argument("--published", action="store_true", help="score the published definitions, too")
    parser.add_argument("--list", action="store_true", help="print what was missed and what is false")
    asked = parser.parse_args()
    lacking = [name for name in marks_of(HERE / "labels_1.csv") if not (asked.folder / f"{name}.csv").exists()]
    if lacking:
        print(f"not in {asked.folder}, left out: {len(lacking)} curves", file=sys.stderr)
    print("| curves of | number | values | true spikes | precision | recall | false per 10,000 values |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    if asked.third:
        third = {
            name: [mark for mark in marks if mark.is_certain and mark.onset >= 0]
            for name, marks in marks_of(HERE / "labels_3.csv").items()
        }
        person = score(asked.folder, asked.part, lambda name, _: third[name], only=third, show=asked.list)
        print(person.line("a third labeller"))
        print(score(asked.folder, asked.part, only=third, show=asked.list).line("the detector"))
        return
    for part in [asked.part] if asked.part else ["development", "held_out"]:
        print(score(asked.folder, part, show=asked.list).line(part))
        for definition in DEFINITIONS if asked.published else ():
            print(score(asked.folder, part, by(definition)).line(f"{part}, {definition.name}"))


if __name__ == "__main__":
    main()
