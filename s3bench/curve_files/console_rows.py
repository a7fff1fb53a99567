"""Makes rows of a console's lines: a line without a step has that of the lines above."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.curve_files.alike import Form
from s3bench.curve_files.column import Column
from s3bench.curve_files.headings import Below, below_headings
from s3bench.curve_files.names import ALL_STEPS, EPOCH_NAMES, OF_EVALUATION, STEP_NAMES, WITHIN_EPOCH, normal, words
from s3bench.curve_files.repeats import repeats
from s3bench.curve_files.table import Table, check_size, number

RUN_HEADINGS = ("run", "seed", "fold", "trial", "experiment", "exp", "replicate", "repeat", "client", "task", "cell")
MOST_STRAYS = 1 / 3  # of the lines with a key: more are no strays


def _is_of_run(form: Form) -> bool:
    """Return whether a line has nothing but the number of a run."""
    return bool(form.keys) and all(normal(key) in RUN_HEADINGS for key in form.keys)


def _of_evaluation(forms: set[Form]) -> set[Form]:
    """Return the forms that say of an evaluation what others say of the training, their losses by the same name.

    So "epoch 1 test acc 0.8 loss 2.6" is beside "epoch 1 train acc 0.9 loss 2.5".
    """
    kinds = {
        form: words(" ".join(form.keys)) & (OF_EVALUATION | {"train", "training"})
        for form in forms
        if any("loss" in words(key) and not words(key) & OF_EVALUATION for key in form.keys)
    }

    def plain(form: Form) -> tuple[frozenset[str], ...]:
        return tuple(words(key) - kinds[form] for key in form.keys)

    trained = {plain(form) for form, found in kinds.items() if found and not found & OF_EVALUATION}
    evaluations = {form for form, found in kinds.items() if found and found <= OF_EVALUATION}
    return {form for form in evaluations if plain(form) in trained}


@dataclass(eq=False)
class _Above:
    """The keys of the steps that the lines above have, and what a line below them makes of it, by its form."""

    keys: tuple[str, ...]
    below: "dict[Form, tuple[_Above, tuple[str, ...], bool]]"


class Rows:
    """The rows of a console, by their lines.

    Attributes:
        at: each row's line.
        keys: each row's keys, those of the steps above first.
        weak: how many lines have neither a step above nor a sign of pairs.
        replaced: how many lines of progress bars another one replaced.
        others: how many lines say of an evaluation what others say of the training.
        headings: what headings say of the lines below them, of which those of evaluations and summaries are left out.
    """

    def __init__(self, forms: list[Form], columns: dict[str, Column], bars: dict[int, str]) -> None:
        self._forms, self._columns = forms, columns
        self.at: list[int] = []
        self.keys: list[tuple[str, ...]] = []
        self.weak = self.replaced = 0
        self._known: dict[tuple[str, ...], _Above] = {}
        above = self._above(())
        bar: int | None = None  # the row of a bar at its end, if its epoch is not over
        is_next = False  # whether the line is below it, without numbers between
        begun = 0  # the line that said its epoch
        run: tuple[str, ...] = ()  # what the last heading of a run names: "seed: 3"
        begins = {form for form in set(forms) if any(normal(key) in {*ALL_STEPS, *RUN_HEADINGS} for key in form.keys)}
        of_run = {form for form in set(forms) if _is_of_run(form)}
        of_run = {form for form in of_run if self._has_whole_numbers(forms.index(form))}
        headings = below_headings(forms, columns)
        left_out = headings.evaluations | headings.summaries
        with_loss = {form for form in set(forms) if any("loss" in words(key) for key in form.keys)}
        if left_out and not any(form in with_loss for at, form in enumerate(forms) if at not in left_out):
            headings, left_out = Below(), set()  # the only losses are there
        self.headings = headings
        of_evaluation = _of_evaluation(set(forms))
        self.others = sum(form in of_evaluation for form in forms) if of_evaluation else 0
        skipped = of_evaluation | {form for form in set(forms) if not form.keys}
        for line, form in enumerate(forms):
            if form in skipped or line in left_out:
                continue
            if line in bars:
                if bar is not None and (is_next or bars[line] == bars[self.at[bar]]):
                    del self.at[bar], self.keys[bar]  # the epoch's last line again, now with its validation
                    self.replaced += 1
                bar, is_next = len(self.at), True
            elif bars:
                is_next = False
                if form in begins and (form is forms[begun] or not self._is_of_epoch(line, begun)):
                    bar = None  # another line that says the epoch again tells of a model that is saved
                begun = line if form in begins and bar is None else begun
            if form in of_run:
                run = form.keys
                above = self._above(()) if "cell" in run else above  # a notebook's
                continue
            above, keys, is_weak = above.below.get(form) or self._below(above, form)
            keys = run + keys if run else keys
            self.weak += is_weak
            self.at.append(line)
            self.keys.append(keys)

    def _has_whole_numbers(self, line: int) -> bool:
        values = (number(self._columns[key].value(line)) for key in self._forms[line].keys)
        return all(value is not None and value.is_integer() for value in values)

    def _is_of_epoch(self, line: int, other: int) -> bool:
        """Return whether a line says the same epoch as another."""
        own = [key for key in self._forms[line].keys if normal(key) in EPOCH_NAMES]
        return bool(own) and all(
            key in self._forms[other].keys and self._columns[key].value(line) == self._columns[key].value(other)
            for key in own
        )

    def _above(self, keys: tuple[str, ...]) -> _Above:
        return self._known.setdefault(keys, _Above(keys, {}))

    def _below(self, above: _Above, form: Form) -> tuple[_Above, tuple[str, ...], bool]:
        own = tuple(key for key in form.keys if normal(key) in ALL_STEPS)
        after = above
        if own:
            names = set(map(normal, own))
            kept = {*EPOCH_NAMES, *((*STEP_NAMES, *WITHIN_EPOCH) if names & set(WITHIN_EPOCH) else ())}
            kept = set() if names & set(EPOCH_NAMES) else kept  # the line counts by itself
            after = self._above(tuple(dict.fromkeys([*(key for key in above.keys if normal(key) in kept), *own])))
        keys = tuple(dict.fromkeys(after.keys + form.keys))
        above.below[form] = found = (after, keys, not after.keys and not form.label[1])
        return found

    def drop_last(self) -> None:
        """Leave out the last row."""
        del self.at[-1], self.keys[-1]

    def drop_repeats(self) -> list[str]:
        """Leave out the rows of summaries, and return a note on them."""
        kinds = [self._forms[line].label[0] for line in self.at]
        if len(set(kinds)) < 2:
            return []
        places = cache(self._places)

        def cell(row: int, key: str) -> Any:
            return self._columns[key].value(int(places(key)[self.at[row]]))

        kept, notes = repeats(self.keys, kinds, cell)
        self.at = [line for line, is_kept in zip(self.at, kept, strict=True) if is_kept]
        self.keys = [keys for keys, is_kept in zip(self.keys, kept, strict=True) if is_kept]
        return notes

    def _not_finite(self, key: str) -> str:
        """Return a note on a loss that one line has, such as "Loss is nan, stopping"; "" where it is a number."""
        if "loss" not in words(key):
            return ""
        (place,) = (at for at, keys in zip(self.at, self.keys, strict=True) if key in keys)
        value = number(self._columns[key].value(int(self._places(key)[place])))
        is_told = value is not None and not math.isfinite(value)
        return f"{key!r} is {value} in one line, which is not taken" if is_told else ""

    def _places(self, key: str) -> npt.NDArray[np.int64]:
        """Return the line that each line has its value of a key from: itself, or the last above it."""
        places, own = np.full(len(self._forms), -1), self._own(key)
        places[own] = own
        return np.maximum.accumulate(places)

    def _own(self, key: str) -> npt.NDArray[np.int64]:
        """Return the lines that have a key of their own, in order."""
        return np.sort(np.concatenate([self._lines_of[form] for form in self._with_key[key]]))

    @cached_property
    def _lines_of(self) -> dict[Form, npt.NDArray[np.int64]]:
        """Return the lines of each form."""
        known = {form: at for at, form in enumerate(dict.fromkeys(self._forms))}
        which = np.fromiter(map(known.__getitem__, self._forms), dtype=np.int64, count=len(self._forms))
        order = np.argsort(which, kind="stable")
        return dict(zip(known, np.split(order, np.cumsum(np.bincount(which))[:-1]), strict=True))

    @cached_property
    def _with_key(self) -> dict[str, list[Form]]:
        """Return the forms that have each key."""
        found: dict[str, list[Form]] = defaultdict(list)
        for form in self._lines_of:
            for key in form.keys:
                found[key].append(form)
        return found

    def table(self, notes: list[str]) -> Table | None:
        """Return the rows with the keys that are there twice; None if no key is."""
        common: Counter[str] = Counter()
        by_keys = Counter(self.keys)
        for keys, count in by_keys.items():
            common.update(dict.fromkeys(keys, count))
        names = [key for key in dict.fromkeys(key for keys in by_keys for key in keys) if common[key] > 1]
        notes += [note for key, count in common.items() if count == 1 and (note := self._not_finite(key))]
        known = {keys: at for at, keys in enumerate(by_keys)}
        which = np.fromiter(map(known.__getitem__, self.keys), dtype=np.int64, count=len(self.keys))
        check_size("console", len(self.at), len(names), sum(common[name] for name in names))
        has = {name: np.array([name in keys for keys in by_keys], dtype=np.bool_)[which] for name in names}
        if not has:
            return None
        strays = self._without_strays(has)
        left = np.any(list(has.values()), axis=0)
        lines, cells, absent = np.array(self.at, dtype=np.int64)[left], {}, {}
        for name in names:
            is_there, own = has[name][left], self._own(name)
            places = own[np.searchsorted(own, lines, side="right") - 1]
            cells[name] = self._columns[name].series(np.where(is_there, places, -1))
            absent[name] = ~is_there
        empty = pd.DataFrame(absent)  # a nan is written, too
        return Table("console", pd.DataFrame(cells), empty, empty, notes, strays)

    def _without_strays(self, has: dict[str, npt.NDArray[np.bool_]]) -> dict[str, str]:
        """Take from each key the few lines that share no step with the many; return notes on them by their keys.

        So "saved the best model, loss=2.5" is no row of the loss where others are "step 10 loss=2.6".
        """
        counts = Counter(map(self._forms.__getitem__, self.at))
        own = {form: frozenset(key for key in form.keys if normal(key) in ALL_STEPS) for form in counts}
        by_key: dict[str, list[Form]] = defaultdict(list)
        for form in counts:
            for name in form.keys:
                by_key[name].append(form)
        notes = {}
        for name in has.keys() - frozenset().union(*own.values()):
            steps: Counter[frozenset[str]] = Counter()
            for form in by_key[name]:
                steps[own[form]] += counts[form]
            if not steps:  # only lines that are left out have it
                continue
            (usual, _), *_ = steps.most_common(1)
            odd = {form for form in by_key[name] if own[form] != usual and not own[form] & usual}
            count, total = sum(counts[form] for form in odd), steps.total()
            if 0 < count <= MOST_STRAYS * total:
                has[name] &= np.array([self._forms[line] not in odd for line in self.at])
                notes[name] = f"lines with {name!r} of another kind, such as summaries, left out: {count} of {total}"
            elif count:
                notes[name] = f"lines with {name!r} are of several kinds, with other steps or none: {count} of {total}"
        return notes
