"""Reads what a training printed: a row for each line with numbers by keys, or for each match of a pattern."""

import re
from collections import Counter
from functools import partial
from operator import le, lt

from s3bench.curve_files.alike import Form, read_alike
from s3bench.curve_files.bars import PROGRESS, epochs_of_bars, whole_bars, with_evaluations, without_replaced
from s3bench.curve_files.console_line import IN_EPOCH, OF_GLUED, OF_SECOND, read_line, read_object
from s3bench.curve_files.console_rows import Rows
from s3bench.curve_files.headings import between_runs, doubts, in_other_words
from s3bench.curve_files.names import ALL_STEPS, EPOCH_NAMES, OF_EVALUATION, evaluation_in, normal, steps_among, words
from s3bench.curve_files.phrases import LEADING_NUMBER, NUMBER
from s3bench.curve_files.printed_table import rows_as_pairs
from s3bench.curve_files.table import Table, from_rows, moves
from s3bench.curve_files.ultralytics import as_pairs
from s3bench.errors import UserError

LONGEST = 5_000  # characters of a line that are looked at
MOST_ALIKE = 0.9  # of the lines: a word that more have tells no kinds of lines apart
ALIKE = 20  # lines that a cut one is compared with
BACK = re.compile(r"\x08{2,}")  # to the line's beginning
BACK_TO_COUNT = re.compile(r"\x08{2,}(?= *\d+/\d+ *(?:[\r\n]|\Z))")  # into the bar, to write "3/20" there
BLANKS = re.compile(" {50,}")  # which the other patterns would try in every split
FIRST_LINES = 10_000  # which show whether epochs are counted from 1
MOST_RANKS = 64
FEW_RANKS = 8  # more numbers that each come twice are those of a run that began again
TIMES = (946_684_800, 4_102_444_800), (20_000_101, 20_991_231)  # of this century: in seconds, and as dates
COUNTING = 0.8  # of the lines: a number before them that falls in no more of the others counts steps
ENDLESS = re.compile(r"(?<=\d)(?=(?:step|epoch|iter|iteration)\b\s*[:=]?\s*\d)", re.IGNORECASE)
PLAIN_PAIR = re.compile(rf"\s*(?P<at>\d{{1,15}})(?:\s*[:_]\s*|-(?=\d+\.\d))(?P<value>{NUMBER})\s*", re.IGNORECASE)
LONG_OBJECT = re.compile(r"\{[^{}]{0,5000}\n[^{}]{0,5000}\}")  # over several lines


def read_console(text: str) -> Table | None:
    """Read the numbers that a training printed, a row for each line with any; None if no key is there twice.

    A line without a step has that of the lines above. What stands in a line of an evaluation has its name before it, as
    in "val/loss". Lines of a progress bar that another line of the same epoch replaces are left out.
    """
    lines = _lines(text)
    lines, notes = _without_long_lines(lines) if max(map(len, lines), default=0) > LONGEST else (lines, [])
    lines, drawn = as_pairs(lines)
    lines = _with_plain_pairs(rows_as_pairs(lines))
    lines, replaced = without_replaced(lines) if "it/s" in text or "s/it" in text else (lines, 0)
    lines, turns = with_evaluations(lines)
    notes += turns
    in_epochs = epochs_of_bars(lines)
    may_be = ((at, line) for at, line in enumerate(lines) if "/" in line)
    is_bar = {at: bar["at"] != bar["of"] for at, line in may_be if (bar := PROGRESS.match(line))}
    if is_bar and all(is_bar.values()):
        notes.append("no progress bar reached its end: what each line shows may be the mean of those above")
        is_bar = {}
    last = lines[-1] if lines else ""
    is_cut = not text.endswith(("\n", "\r"))
    del text
    read = partial(read_line, first_epoch=_first_epoch(lines))
    shown = [line for at, line in enumerate(lines) if not is_bar.get(at)]
    forms, columns = read_alike(shown, read)
    are_glued = {form for form in set(forms) if form.label[0] == OF_GLUED}
    glued = {at for at, form in enumerate(forms) if form in are_glued} if are_glued else set()
    if glued and not is_bar:
        shown = [part for at, line in enumerate(shown) for part in (ENDLESS.split(line) if at in glued else [line])]
        forms, columns = read_alike(shown, read)
    kinds = _kinds_of_all(forms)
    if kinds:
        forms, columns = read_alike(shown, partial(read, has_kinds=False))
    at_their_end = whole_bars(is_bar, lines)
    count, bars = len(lines), sum(is_bar.values()) + replaced + drawn
    del lines
    rows = Rows(forms, columns, at_their_end)
    if rows.weak == len(rows.at) and 2 * rows.weak <= count:
        return None  # prose with a number here and there
    bars += rows.replaced
    notes += [f"lines of a progress bar before its last, left out: {bars}"] * bool(bars)
    if rows.at and is_cut and _is_cut(rows.keys, last):
        rows.drop_last()
        notes.append("an unfinished last line, left out")
    notes += [f"all losses have {kinds!r} beside them, so they may be an evaluation's"] * bool(kinds)
    what = "left out" if is_bar else "parted"
    notes += [f"lines that no end of a line parted, {what}: {len(glued)}"] * bool(glued)
    notes += [*_on_losses(forms), *rows.headings.notes(), *doubts(forms)]
    notes += [f"lines that say the same of an evaluation, left out: {rows.others}"] * bool(rows.others)
    notes += rows.drop_repeats()
    table = rows.table(notes)
    if table is None:
        return None
    steps = steps_among(table.names, tuple(ALL_STEPS))
    if not any(moves(table.cells[name]) for name in steps):
        table.notes += between_runs(forms) or ([] if steps else in_other_words(forms))
    if in_epochs and "step" in table.names and not steps_among(table.names, EPOCH_NAMES):
        table = _renamed(table, "step", "batch")
        table.notes.append(f"bars that begin again at their end, taken as the epochs of one run: {in_epochs}")
    return _with_leading_numbers(table)


def _lines(text: str) -> list[str]:
    """Return the lines that are not blank, an object over several lines in one, and a bar's count at its line's end."""
    text = BLANKS.sub(" ", text) if " " * 50 in text else text
    text = LONG_OBJECT.sub(_on_one_line, text) if "{" in text else text
    if "\b" in text:
        text = BACK.sub("\n", BACK_TO_COUNT.sub(" | batch ", text)).replace("\b", "")
    lines = text.replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip()]


def _with_plain_pairs(lines: list[str]) -> list[str]:
    """Return lines with "step 3 value 4.5" for "3: 4.5", "3_4.5" or "3-4.5" where all are so and the first rises."""
    found = [PLAIN_PAIR.fullmatch(line) for line in lines] if lines and PLAIN_PAIR.fullmatch(lines[0]) else []
    pairs = [one for one in found if one is not None]
    steps = [int(one["at"]) for one in pairs]
    if len(pairs) < max(ALIKE, len(found)) or not all(map(lt, steps, steps[1:])):
        return lines
    return [f"step {one['at']} | value {one['value']}" for one in pairs]


def _without_long_lines(lines: list[str]) -> tuple[list[str], list[str]]:
    """Return the lines without what is too long to be looked at, parted where several are in one, and notes on it."""
    parts = [ENDLESS.split(line) if len(line) > LONGEST else [line] for line in lines]
    parted = sum(len(of_line) > 1 for of_line in parts)
    lines = [line for of_line in parts for line in of_line]
    cut = sum(len(line) > LONGEST and "loss" in line[LONGEST:].lower() for line in lines)
    notes = [f"lines that no end of a line parted, parted: {parted}"] * bool(parted)
    notes += [f"lines of which only {LONGEST:,} characters were looked at: {cut}"] * bool(cut)
    return [line[:LONGEST] for line in lines], notes


def _kinds_of_all(forms: list[Form]) -> str:
    """Return the word that makes an evaluation's of nearly all lines with numbers; "" if there are others.

    It may be part of a name, as of a host's, and tells nothing.
    """
    counts = Counter(forms)
    kept = {form: counts[form] for form in counts if any(normal(key) not in ALL_STEPS for key in form.keys)}
    losses = {form: [key for key in form.keys if "loss" in words(key)] for form in kept}
    kinds = {key.split("/")[0] for form in losses for key in losses[form]}
    if (
        len(kinds) != 1
        or not kinds <= {*OF_EVALUATION}
        or not all("/" in key for keys in losses.values() for key in keys)
    ):
        return ""
    count = sum(kept[form] for form, keys in losses.items() if keys)
    return kinds.pop() if count > MOST_ALIKE * sum(kept.values()) else ""


def _on_losses(forms: list[Form]) -> list[str]:
    """Return notes on lines with a loss of one name twice, and on those that name one without a number."""
    counts = Counter(forms)
    again = sum(count for form, count in counts.items() if OF_SECOND in form.label[0])
    without = sum(count for form, count in counts.items() if _names_a_loss_alone(form))
    notes = [f"lines with a loss of one name twice, of which the first counts: {again}"] * bool(again)
    return notes + [f"lines that name a loss but no number of it: {without}"] * bool(without)


def _names_a_loss_alone(form: Form) -> bool:
    """Return whether a line with a step has a loss's name and no number of any: "step 10 loss ****"."""
    told, has_step = form.label[0], any(normal(key) in ALL_STEPS for key in form.keys)
    is_silent = "loss" in words(told) and not any("loss" in words(key) for key in form.keys)
    return is_silent and has_step and not evaluation_in(told)


def _with_leading_numbers(table: Table) -> Table:
    """Return the table with the numbers that lines begin with as steps, or as processes where they take turns.

    They are epochs where many lines have the one of the line above.
    """
    if LEADING_NUMBER not in table.names:
        return table
    values = table.cells[LEADING_NUMBER][~table.empty[LEADING_NUMBER]].tolist()
    counts, enough = Counter(values), COUNTING * (len(values) - 1)
    is_in_order = sum(map(le, values, values[1:])) >= enough and len(counts) > 1
    is_time = any(first <= min(values) and max(values) <= last for first, last in TIMES)
    if _are_ranks(values, counts):
        name = "process"
    elif is_in_order and not is_time:
        name = "step" if sum(map(lt, values, values[1:])) >= enough else "epoch"
    else:
        name = None
    if name is None or name in map(normal, table.names):
        table.cells, table.empty = (cells.drop(columns=LEADING_NUMBER) for cells in (table.cells, table.empty))
        return table
    return _renamed(table, LEADING_NUMBER, name)


def _are_ranks(values: list[float], counts: Counter[float]) -> bool:
    """Return whether the numbers before lines are those of processes, from 0 on, each of which has several lines."""
    is_known = len(counts) <= FEW_RANKS or len(values) > 2 * len(counts)
    is_full = 1 < len(counts) <= MOST_RANKS and set(counts) == set(range(len(counts)))
    return is_known and is_full and values != sorted(values)


def _renamed(table: Table, name: str, other: str) -> Table:
    """Return the table with another name for a column."""
    named = {name: other}
    table.cells, table.empty = table.cells.rename(columns=named), table.empty.rename(columns=named)
    table.absent = None if table.absent is None else table.absent.rename(columns=named)
    return table


def _first_epoch(lines: list[str]) -> int:
    """Return 1 if the epochs of lines such as "Epoch: [1][10/500]" begin with it, and else 0."""
    within = next(filter(None, map(IN_EPOCH.search, lines[:FIRST_LINES])), None)
    return int(within is not None and int(within["epoch"]) == 1)


def read_pattern(file: str, text: str, pattern: str) -> Table:
    """Read the named groups of a regular expression, a row for each place where it matches.

    Raises:
        UserError: the expression is none, has no named group, or matches nowhere.
    """
    try:
        found = re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise UserError(f"--pattern {pattern!r} is no regular expression ({error})") from error
    if not found.groupindex:
        raise UserError(rf"--pattern {pattern!r} names no group; write (?P<loss>\S+) where the loss stands")
    text = text.replace("\b", "").replace("\r", "\n")
    rows = [
        {key: value for key, value in match.groupdict().items() if value is not None} for match in found.finditer(text)
    ]
    if not rows:
        raise UserError(f"{file}: --pattern {pattern!r} matches nowhere")
    return from_rows("console", rows)


def _on_one_line(found: "re.Match[str]") -> str:
    """Return an object without its line ends, and what is no object as it is."""
    line = found[0].replace("\n", " ")
    return found[0] if read_object(line) is None else line


def _is_cut(rows: list[tuple[str, ...]], line: str) -> bool:
    """Return whether the last line ends within a number, or lacks pairs of those that began like it."""
    row, _ = read_line(line)
    alike = [one for one in rows[:-1] if row and next(iter(row)) in one][-ALIKE:]
    if alike and all(len(rows[-1]) < len(one) for one in alike):
        return True
    return re.search(r"\d(?:\.|e[-+]?)$", line, re.IGNORECASE) is not None
