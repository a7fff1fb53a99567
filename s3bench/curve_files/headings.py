"""Tells by the headings in a console which lines are an evaluation's."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from s3bench.curve_files.alike import Form
from s3bench.curve_files.column import Column
from s3bench.curve_files.names import ALL_STEPS, OF_EVALUATION, RUN_NAMES, evaluation_in, normal, words
from s3bench.curve_files.table import number

BEFORE_COUNTS = (" on", " over", " using")  # ends of what is no key, but followed by how many
OF_ENDS = {"done", "finished", "finish", "complete", "completed", "end", "ended", "improved", "saved", "saving", "took"}
OF_STARTS = {"start", "starting", "started", "begin", "beginning", "begins"}
OF_BEST = {"best", "new", "lowest", "model", "checkpoint", "to"}  # beside them: "(new best model, saved)"
MOST_WORDS = 4  # of a heading of a run
MOST_KINDS = 4  # of lines with a loss: more are no training and its evaluations
LONGEST = 15  # words of a heading of an evaluation: more are prose
FEWEST = 2  # evaluations whose steps begin again that tell that they are some

Steps = tuple[float, ...]


@dataclass
class Below:
    """What headings say of the lines below them.

    Attributes:
        evaluations: the lines of evaluations.
        summaries: LightGBM's lines of the best iteration.
        doubtful: the headings of evaluations below which a line like the training's follows, as many as there are.
    """

    evaluations: set[int] = field(default_factory=set)
    summaries: set[int] = field(default_factory=set)
    doubtful: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return a sentence on each kind of lines that are there."""
        told = {
            "lines below the heading of an evaluation, left out": self.evaluations,
            "lines that say the best one again, left out": self.summaries,
            f"lines such as {''.join(self.doubtful[:1])!r}, below which losses may be an evaluation's": self.doubtful,
        }
        return [f"{what}: {len(lines)}" for what, lines in told.items() if lines]


def below_headings(forms: list[Form], columns: Mapping[str, Column]) -> Below:
    """Return what headings say of the lines of a console.

    An evaluation that has lines of its own form ends with one of the form that most have. Where its lines have that
    form, too, it ends with a heading of the training, if these stand between those of evaluations, or, as its steps are
    not beyond the training's, with a heading of a step, a step beyond, or steps that begin again. One that comes before
    any line of the training is none.

    Args:
        forms: of each line.
        columns: the values of the keys by lines.
    """
    headings = {form: words(" ".join([form.label[0], *form.keys])) for form in set(forms) if _is_heading(form)}
    of_training = {form for form, found in headings.items() if found & {"train", "training"}}
    short = {form for form in headings if form.label[0].count(" ") < LONGEST}
    of_evaluation = {form for form in short if evaluation_in(_sentence(form))} - of_training
    of_best = {form for form in headings if form.label[0].endswith("best iteration is")}
    if not of_evaluation and not of_best:
        return Below()
    trained = {form for form in set(forms) if any(_is_trained(key) for key in form.keys)}
    turns = [form in of_evaluation for form in forms if form in of_evaluation or form in of_training]
    has_sections = turns.count(False) > 1 and (True, True) not in pairwise(turns)
    counts = Counter(form for form in forms if form not in headings)
    usual = max(counts, key=counts.__getitem__, default=None)
    below, again, own = Below(), _Again(columns), _Own()
    is_best = is_begun = False
    heading: Form | None = None  # of the evaluation that a line belongs to
    before = None  # the last line with numbers, above the heading
    for line, form in enumerate(forms):
        if form in of_evaluation or form in of_training or not form.keys:
            if form in of_evaluation:
                again.begin(form)
                own.begin(form)
            heading = form if is_begun and form in of_evaluation else None if form in of_training else heading
            is_best = form in of_best
        elif is_best:
            below.summaries.add(line)
            is_best = False
        elif heading is not None and not (_steps_of(form) or form in trained) and (has_sections or form is not usual):
            own.add(line)
            before = before if again.has_begun() else form
        elif heading is None or form in headings or not _are_alike(form, before) or not again.has(line, form):
            if heading is not None and form is usual is before and not (_steps_of(form) or _ends(heading)):
                below.doubtful.append(_said(heading))
            again.end(line, form)
            own.end(is_usual=form is usual)
            is_begun, heading, before = True, None, form
    for told, doubtful in (again.found(), own.found(has_sections=has_sections)):
        below.evaluations |= told
        below.doubtful += doubtful
    return below


def between_runs(forms: list[Form]) -> list[str]:
    """Return a note on lines with losses below each, as runs begin or end with: "run A, lr=1e-3", "training completed".

    Where no line has a step that moves, nothing else shows that there are several runs.
    """
    has_loss = {form: any("loss" in words(key) for key in form.keys) for form in set(forms)}
    begins = {form for form in has_loss if not has_loss[form] and _begins_run(words(form.label[0]))}
    ends = {form for form in has_loss if not form.keys and _ends_training(form)}
    found: list[Form] = []
    last: Form | None = None
    for form in forms if begins or ends else []:
        if form in begins or form in ends:
            last = form
        elif last is not None and has_loss[form]:
            found.append(last)
            last = None
    are_many = len(found) > 1 or (bool(found) and sum(form in ends for form in forms) > 1)
    said = f"lines such as {_said(found[0])!r} above losses: {len(found)}" if found else ""
    return [f"{said}; the rows may be those of several runs"] * are_many


def in_other_words(forms: list[Form]) -> list[str]:
    """Return a note on losses in lines with other words than most, which may be those of an evaluation.

    Where no line has a step, nothing else shows that they are: "INFO:score: loss=2.5" beside "INFO:fit: loss=2.6". A
    line that says that a model is the best or saved is one of the others.
    """
    counts = {form: count for form, count in Counter(forms).items() if any(map(_is_of_training, form.keys))}
    by_words: Counter[frozenset[str]] = Counter()
    for form, count in counts.items():
        by_words[_words_of(form)] += count
    if len(by_words) < 2:
        return []
    usual = max(by_words, key=by_words.__getitem__)
    odd = [form for form in counts if _words_of(form) != usual]
    count = sum(counts[form] for form in odd)
    if count < FEWEST or 2 * by_words[usual] < by_words.total() or len(by_words) > MOST_KINDS:
        return []
    return [f"lines with other words, such as {_said(odd[0])!r}, whose losses may be an evaluation's: {count}"]


def _words_of(form: Form) -> frozenset[str]:
    """Return what words a line has but those that say that a model is the best or saved."""
    return words(" ".join([form.label[0], *form.keys])) - OF_ENDS - OF_BEST


def doubts(forms: list[Form]) -> list[str]:
    """Return notes on losses that may be an evaluation's, though they look like the training's.

    These are losses below a line that says that the training is over, and losses without a step that all have an
    evaluation's heading above.
    """
    own = set(forms)
    has_loss = {form: any("loss" in words(key) for key in form.keys) for form in own}
    is_alone = {form for form in own if _steps_of(form) or any(map(_is_trained, form.keys))}
    told = {form for form in own if not form.keys and form.label[0].strip(" =")}
    evaluations = {form for form in told if evaluation_in(form.label[0])}
    ending = {form for form in own if not has_loss[form] and _ends_training(form)}
    if not evaluations and not ending:
        return []
    ends = [at for at, form in enumerate(forms) if form in ending]
    after = [form for form in forms[ends[0] :] if has_loss[form]] if len(ends) == 1 else []
    notes = []
    if len(after) >= FEWEST and set(after) & {form for form in forms[: ends[0]] if has_loss[form]}:
        notes.append(f"losses below the line {_said(forms[ends[0]])!r}, which may be an evaluation's: {len(after)}")
    last: Form | None = None
    above: list[Form | None] = []
    for form in forms:
        if has_loss[form]:
            above.append(None if form in is_alone else last)
        elif form in told:
            last = form
    first = above[0] if above else None
    if first is not None and len(above) >= FEWEST and evaluations.issuperset(above):
        notes.append(f"all losses have lines such as {_said(first)!r} above, so they may be an evaluation's")
    return notes


def _ends_training(form: Form) -> bool:
    """Return whether a line says that the training is over."""
    found = words(" ".join([form.label[0], *form.keys]))
    return bool(found & {"train", "training"} and found & {"finished", "complete", "completed", "done", "over"})


def _begins_run(found: frozenset[str]) -> bool:
    """Return whether a line's words are few, and name a run or its beginning."""
    is_start = found & OF_STARTS and found & {"train", "training", "run", "experiment"}
    return len(found) <= MOST_WORDS and not found & OF_ENDS and bool(is_start or found & {*RUN_NAMES})


class _Own:
    """Follows lines of other forms than most have, below headings of evaluations.

    What goes on to the next heading, and is longer than any that a line of the training ended, is in doubt: the
    training's lines may have changed.
    """

    def __init__(self) -> None:
        self._sections: list[tuple[Form, list[int]]] = []
        self._longest = 1  # of those that a line of the training ended
        self._is_open = False

    def begin(self, heading: Form) -> None:
        """Begin an evaluation."""
        self._sections.append((heading, []))
        self._is_open = True

    def add(self, line: int) -> None:
        """Add a line to the evaluation."""
        self._sections[-1][1].append(line)

    def end(self, *, is_usual: bool) -> None:
        """End the evaluation, if there is one."""
        if self._is_open and is_usual:
            self._longest = max(self._longest, len(self._sections[-1][1]))
            self._is_open = False

    def found(self, *, has_sections: bool) -> tuple[set[int], list[str]]:
        """Return the lines of evaluations, and the headings of those that are in doubt."""
        told = [(heading, lines) for heading, lines in self._sections if has_sections or len(lines) <= self._longest]
        doubtful = [
            _said(heading) for heading, lines in self._sections if not has_sections and len(lines) > self._longest
        ]
        return {line for _, lines in told for line in lines}, doubtful


class _Again:
    """Follows lines with steps of one form, below headings of evaluations and not: those whose steps begin again."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = columns
        self._trained: tuple[int, Form] | None = None  # the last line of the training
        self._sections: list[tuple[Form, list[int]]] = []
        self._last: Steps = ()  # of this evaluation
        self._is_open = False
        self._is_whole = True  # whether each evaluation had an end before the next one, and steps of its own
        self._repeats = False  # whether lines of the training, too, have the steps of those above

    def begin(self, heading: Form) -> None:
        """Begin an evaluation."""
        self._is_whole &= not (self._is_open and self._last)
        self._sections.append((heading, []))
        self._last, self._is_open = (), True

    def has_begun(self) -> bool:
        """Return whether the evaluation has lines."""
        return bool(self._last)

    def has(self, line: int, form: Form) -> bool:
        """Return whether a line belongs to the evaluation: its steps are not beyond the training's, and go on."""
        steps = self._of(line, form)
        reached = () if self._trained is None else self._of(*self._trained)
        if not steps or steps > reached or steps < self._last:
            return False
        self._is_whole &= not (self._repeats and steps == reached)
        self._last = steps
        self._sections[-1][1].append(line)
        return True

    def end(self, line: int, form: Form) -> None:
        """End an evaluation, if there is one, with a line of the training."""
        if self._trained is not None and not self._is_open and (steps := self._of(line, form)):
            self._repeats |= steps == self._of(*self._trained)
        self._is_open, self._trained = False, (line, form)

    def _of(self, line: int, form: Form) -> Steps:
        """Return a line's own steps; none where one is no number."""
        steps = [number(self._columns[key].value(line)) for key in _steps_of(form)]
        known = tuple(step for step in steps if step is not None)
        return known if len(known) == len(steps) else ()

    def found(self) -> tuple[set[int], list[str]]:
        """Return the lines of evaluations, and the headings of those that are in doubt."""
        own = [(heading, lines) for heading, lines in self._sections if lines]
        if self._is_whole and len(own) >= FEWEST:
            return {line for _, lines in own for line in lines}, []
        return set(), [_said(heading) for heading, _ in own]


def _is_heading(form: Form) -> bool:
    """Return whether a line has no numbers but those of steps, or of what comes: "validation on 100 images"."""
    known = (normal(key) in ALL_STEPS or key.lower().endswith(BEFORE_COUNTS) for key in form.keys)
    return all(known) and not any("loss" in words(key) for key in form.keys)


def _is_trained(key: str) -> bool:
    """Return whether a key is that of a training's loss by its name."""
    return {"train", "loss"} <= words(key) or {"training", "loss"} <= words(key)


def _is_of_training(key: str) -> bool:
    """Return whether a key is that of a loss, and not of an evaluation's by its name."""
    return "loss" in words(key) and not words(key) & OF_EVALUATION


def _sentence(form: Form) -> str:
    """Return a heading's words and keys, without names such as those of functions."""
    return " ".join([*(word for word in form.label[0].split() if "_" not in word), *form.keys])


def _ends(heading: Form) -> bool:
    """Return whether a line tells of an evaluation that is over."""
    return bool(words(heading.label[0]) & OF_ENDS)


def _said(heading: Form) -> str:
    return " ".join([heading.label[0].rstrip(" ="), *heading.keys])


def _are_alike(form: Form, other: Form | None) -> bool:
    """Return whether lines have one form, or the same steps and a loss of the same name."""
    if other is None or form is other:
        return other is not None
    losses = {key for key in form.keys if "loss" in words(key)}
    return _steps_of(form) == _steps_of(other) and not losses.isdisjoint(other.keys)


def _steps_of(form: Form) -> list[str]:
    return [key for key in form.keys if normal(key) in ALL_STEPS]
