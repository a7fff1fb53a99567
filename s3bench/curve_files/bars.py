"""Tells which lines of a progress bar count: tqdm's and Keras' draw each many times."""

import re
from itertools import pairwise

from s3bench.curve_files.console_line import BAR, DRAWN, UNITS
from s3bench.curve_files.names import OF_EVALUATION, words

PROGRESS = re.compile(r"^\s*(?P<at>\d+)/(?P<of>\d+|unknown)\s+(?:\[|━)", re.IGNORECASE)  # Keras'
NEAR_END = 0.9  # of a bar: where it is shown last, as not each step is shown
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
    values = values.split("]", 1)[0] or values  # without what another process wrote behind the bar
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


def epochs_of_bars(lines: list[str]) -> int:
    """Return how often bars with losses begin again, all of one length, each near its end; 0 if others do, too."""
    bars = [bar for line in lines if "loss" in line and "/" in line if (bar := BAR.search(line) or DRAWN.search(line))]
    shown = [(_count(bar, "at", "unit"), _count(bar, "of", "of_unit")) for bar in bars]
    ends = [of * NEAR_END <= at for (at, of), (next_at, _) in pairwise(shown) if next_at < at]
    return len(ends) if len({of for _, of in shown}) == 1 and all(ends) else 0


def _count(bar: "re.Match[str]", name: str, unit: str) -> float:
    """Return one of the two counts of a bar: 1,200 of "1.2k"."""
    return float(bar[name]) * UNITS[(bar.groupdict().get(unit) or "").lower()]
