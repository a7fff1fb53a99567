"""Tells which lines of a progress bar count: tqdm's and Keras' draw each many times."""

import re
from itertools import groupby, pairwise

from s3bench.curve_files.console_line import BAR, DRAWN, UNITS, WITHIN_BAR
from s3bench.curve_files.names import OF_EVALUATION, words

PROGRESS = re.compile(r"^\s*(?P<at>\d+)/(?P<of>\d+|unknown)\s+(?:\[|━)", re.IGNORECASE)  # Keras'
AT_END = re.compile(r"\| batch +(?P<at>\d+)/(?P<of>\d+) *\Z")  # of a bar that backspaces led back into
NEAR_END = 0.9  # of a bar: where it is shown last, as not each step is shown
OF_SHORT = "evaluation | "  # before lines of bars that are taken for an evaluation's
FEWEST_TURNS = 2  # of the shorter bars
NUMBERS = re.compile(r"\d[\d.e-]*")
TIMES = re.compile(r"^.*?(?:it/s|s/it),?\s*")  # what a bar says before its values


def without_replaced(lines: list[str]) -> tuple[list[str], int]:
    """Return the lines without those of tqdm's bar that the next one replaces, and how many these were.

    A bar that moves on is shown with the loss of the step before, and then again with its own.
    """
    kept: dict[int, str] = {}
    shown: dict[str, tuple[str, str, int]] = {}  # by what stands before each bar: its place, its values, its line
    moving = {
        _bar_of(line, bar)[0] for line in lines if "|" in line and (bar := BAR.search(line)) and not _is_full(bar)
    }
    ahead: set[str] = set()  # bars that show a step's values before they count it
    last = ""
    is_interrupted = False  # by a validation's bar, below which the training's moves on
    for at, line in enumerate(lines):
        kept[at] = line
        bar = BAR.search(line) if "|" in line else None
        if bar is None:
            shown, is_interrupted = (shown, True) if "it/s" in line else ({}, False)
            continue
        name, values = _bar_of(line, bar)
        if not float(bar["at"]) and values:
            ahead.add(name)
        if not float(bar["at"]) and values and values == last:  # it shows what the epoch before did
            kept.pop(at)
            continue
        last = values
        place, before, above = shown.get(name, ("", "", -1))
        if name in ahead and values == before and _is_full(bar):  # it shows the last step's values again
            kept.pop(at)
            continue
        is_again = place == bar[0] and name in moving
        if values == before and (is_interrupted or is_again):
            kept.pop(at)
        elif is_again:
            kept.pop(above, None)
        is_interrupted = bool(words(name) & OF_EVALUATION) or (is_interrupted and values == before)
        shown[name] = (bar[0], values, at if at in kept else above)
    return list(kept.values()), len(lines) - len(kept)


def _bar_of(line: str, bar: "re.Match[str]") -> tuple[str, str]:
    """Return what stands before a bar and its share, and the values that it shows: behind it, or before it, too."""
    name = line[: bar.start()].rsplit(":", 1)[0].strip() if ":" in line[: bar.start()] else ""
    values = TIMES.sub("", line[bar.end() :])
    values = values.split("]", 1)[0] or values.lstrip("] ")  # without what another process wrote behind the bar
    return (NUMBERS.sub("0", name), name + values) if "loss" in name.lower() else (name, values)


def _is_full(bar: "re.Match[str]") -> bool:
    """Return whether a bar is at its end; of bars that are never seen elsewhere each is one of its own."""
    return bar["at"] + bar["unit"] == bar["of"] + bar["of_unit"]


def whole_bars(is_bar: dict[int, bool], lines: list[str]) -> dict[int, str]:
    """Return where the bars that are at their end lie among the lines without the others, and of how many they are."""
    found, left_out = {}, 0
    for at, is_under_way in is_bar.items():
        if not is_under_way:
            found[at - left_out] = lines[at].split("/")[0].strip()
        left_out += is_under_way
    return found


def with_evaluations(lines: list[str]) -> tuple[list[str], list[str]]:
    """Return lines in which shorter bars are said to be an evaluation's, if they take turns with longer ones; a note.

    So trainings draw a bar of the training and one of the test in each epoch, with a loss of the same name in both.
    """
    bars = {at: bar for at, line in enumerate(lines) if "oss" in line and "/" in line and (bar := _bar_in(line))}
    lengths = {at: _count(bar, "of", "of_unit") for at, bar in bars.items()}
    turns = [(length, _count(bars[[*own][-1]], "at", "unit")) for length, own in groupby(lengths, lengths.__getitem__)]
    long, short = max(lengths.values(), default=0.0), min(lengths.values(), default=0.0)
    is_whole = all(length * NEAR_END <= at for length, at in turns[:-1])
    is_turns = len(turns) >= 2 * FEWEST_TURNS and turns[0][0] == long and is_whole
    names = {(length, _name_of(lines[at], bars[at])) for at, length in lengths.items()} if is_turns else set()
    if len(names) != 2 or len({name for _, name in names}) != 1 or _tells_of_evaluation(lines, lengths, short):
        return lines, []
    told = [OF_SHORT + line if lengths.get(at) == short else line for at, line in enumerate(lines)]
    return told, [f"bars of {short:g} steps, which take turns with those of {long:g}, are taken for an evaluation's"]


def _tells_of_evaluation(lines: list[str], lengths: dict[int, float], length: float) -> bool:
    """Return whether the first bar of a length has words of an evaluation, as in "val_loss=2.5": it needs no other."""
    first = next(lines[at] for at, own in lengths.items() if own == length)
    return bool(words(NUMBERS.sub("0", first)) & OF_EVALUATION)


def _bar_in(line: str) -> "re.Match[str] | None":
    return BAR.search(line) or DRAWN.search(line) or WITHIN_BAR.search(line) or AT_END.search(line)


def _name_of(line: str, bar: "re.Match[str]") -> str:
    return _bar_of(line, bar)[0] if bar.re in (BAR, DRAWN) else ""  # others have no name before them


def epochs_of_bars(lines: list[str]) -> int:
    """Return how often bars with losses begin again, all of one length, each near its end; 0 if others do, too."""
    told = (line for line in lines if "loss" in line and "/" in line and not line.startswith(OF_SHORT))
    bars = [bar for line in told if (bar := BAR.search(line) or DRAWN.search(line))]
    shown = [(_count(bar, "at", "unit"), _count(bar, "of", "of_unit")) for bar in bars]
    ends = [of * NEAR_END <= at for (at, of), (next_at, _) in pairwise(shown) if next_at < at]
    return len(ends) if len({of for _, of in shown}) == 1 and all(ends) else 0


def _count(bar: "re.Match[str]", name: str, unit: str) -> float:
    """Return one of the two counts of a bar: 1,200 of "1.2k"."""
    return float(bar[name]) * UNITS[(bar.groupdict().get(unit) or "").lower()]
