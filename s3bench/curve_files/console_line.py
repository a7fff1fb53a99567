"""Reads one line that a training printed: "key: value", "key value", "key=value", or an object."""

import ast
import json
import re
from typing import Any

from s3bench.curve_files.abroad import in_english
from s3bench.curve_files.names import AFTER, ALL_STEPS, evaluation_in, normal, words
from s3bench.curve_files.phrases import FIELD, LEADING_NUMBER, NUMBER, STEP, WORD, in_pairs
from s3bench.curve_files.slots import Within
from s3bench.curve_files.table import number
from s3bench.curve_files.text import WRAPPED

Row = dict[str, Any]
PAIR = re.compile(
    rf"(?<![\w./-])(?P<key>{WORD}(?: [a-z_(][\w./()'-]{{0,{FIELD}}}+){{0,4}}?)(?:\s*[:=]\s*|\s+)"
    rf"(?P<value>0x[\da-f]+\b|{NUMBER})(?P<more>(?:,\d+)*(?:\.\d+)?)(?P<unit>[kmb]\b)?(?![\d.]*\d|:\d|-\d)",
    re.IGNORECASE,
)
BETWEEN = re.compile(rf"\s\|\s?|\||[,;]\s|\s+-\s+|\t(?!{NUMBER}(?:\t|\s*\Z))", re.IGNORECASE)  # between pairs
STAMP = re.compile(  # what a logger puts before a line: Python's, glog's
    r"^\W*(?:[IWEF]\d{4,8} [\d:.]+\s+\d+ [\w.]+:\d+\]|\[?\d{4}[-/]\d\d[-/]\d\d[T ,]*\d\d:\d\d:\d\d(?:[.,]\d+)?Z?\]?)"
)
DATE = re.compile(r"\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* +\d+ +\d\d:\d\d:\d\d( +\d{4}\b)?", re.I)
RUN_ON = re.compile(
    rf"(?<![\w.-])({NUMBER})(?=[a-z_]{{3,}}\s*[:=])", re.IGNORECASE
)  # into the next key: "idx: 0loss: 2"
RUNS_ON = re.compile(r"[\d.][a-z_]{3,}\s*[:=]", re.IGNORECASE)  # where it may do so, found faster
SIGN = re.compile(rf"\{{|[:=]\s*['\"]?{NUMBER}", re.IGNORECASE)
LEVEL = re.compile(r"\b(?:DEBUG|INFO|WARNING|WARN|ERROR)\b(?::\w+:)?")
LOGGER = re.compile(r"\b(?:DEBUG|INFO|WARNING|WARN|ERROR):(?!root:|__main__:|main:|tensorflow:)(\w+):")
IN_EPOCH = re.compile(
    r"\b(?:epoch|train|iter(?=[\s:]*\[\d+\]\[))\s*(?:\((?P<mode>\w+)\))?\s*:?\s*"
    r"\[?\s*(?P<epoch>\d+)(?:\s*/\s*\d+)?\]?\s*"
    r"(?:[\[(]|(?<=[\]\s])(?:step|iter|iteration|batch)\b\s*:?)\s*(?P<at>\d+)\s*/\s*(?P<of>\d+)",
    re.IGNORECASE,
)
DARKNET = re.compile(
    rf"^\s*(?P<iteration>\d+)\s*:\s*(?P<loss>{NUMBER}),\s*(?P<avg_loss>{NUMBER})\s*avg(?: loss)?,\s*"
    rf"(?P<rate>{NUMBER}) rate",
    re.IGNORECASE,
)
BRACKET = re.compile(  # "Epoch [1/10]", "Iter(train) [ 50/800]", "Batch(0/1417) done."
    rf"\b(?P<key>{STEP})\s*(?:\((?P<mode>\w+)\))?\s*:?\s*"
    r"(?:\[\s*(?P<at>\d+)(?:\s*/\s*\d+)?\s*\]|\(\s*(?P<of>\d+)\s*/\s*\d+\s*\)(?:\s*(?:done|finished)\b\.?)?)",
    re.IGNORECASE,
)
SOURCE = re.compile(r"\[?[\w./<>-]*\.py:\d+\]?")  # what a logger says of itself
PROCESS = re.compile(  # torchrun's, mpirun's, Ray's
    r"^\s*(?:\[(?:rank|default)(?P<rank>\d+)\]:|\[\d+,(?P<mpi>\d+)\]<std(?:out|err)>:|\(\w+ pid=(?P<pid>\d+)[^)]*\) )",
    re.IGNORECASE,
)
NUMBERED = re.compile(  # a rank or a step: "0: loss 2.5", "[0]: loss 2.5", "train.py:876] (0/4)"
    r"^\s*(?:\[(?P<first>\d+)\]:|(?P<plain>\d+):)\s+(?!nan|inf)(?=[a-z{(])|\.py:\d+\]?\s*\((?P<of>\d+)/\d+\)",
    re.IGNORECASE,
)
BOOSTING = re.compile(r"^\[(\d+)\]\t")  # XGBoost's and LightGBM's
SIDE = re.compile(  # "train: loss 2.5 acc 0.3 | val: loss 2.7"
    r"(?P<bracket>[\[(])?\b(?P<side>train|training|val|valid|validation|test|testing|eval|evaluation|dev)"
    r"(?(bracket)[\])]:?|\s*:)\s+(?=[a-z_])",
    re.IGNORECASE,
)
GLUED = re.compile(  # two lines without an end between
    r"\b(step|epoch|iter|iteration)\b.{1,200}\d\1\b\s*[:=]?\s*\d", re.IGNORECASE
)
OF_GLUED = "glued"
OF_SECOND = "second_loss"  # told of a line where a loss has two values
MSVC = re.compile(r"1\.#(QNAN|SNAN|IND|INF)\w*")  # what is no number, as C writes it on Windows
FORTRAN = re.compile(r"(?<=[\d.])[dD](?=[-+]\d{2,3}\b)")
LONG_EXPONENT = re.compile(r"(\d\.\d+)([-+]\d{3})\b")  # Fortran's, which leaves out the letter
POWER_OF_TEN = re.compile(r"\s*[x×*]\s*10\^\(?([-+]?\d{1,3})\)?")
INFINITY = re.compile("∞")
UNDERSCORE = re.compile(r"(?<=\d)_(?=\d{3}(?!\d))")
AT_START = re.compile(r"^\s*\((?P<at>\d+)/\d+\)\s")  # "(3/20) Data: 0.01s | ..."
DURATION = re.compile(r"(?:(?:ms|us|µs|s|sec|min|m|h)\d*)+\b")
OF_STEPS = re.compile(  # "1/10 epoch"
    r"(?<![\w./])(?P<at>\d+)\s*/\s*\d+\s+(?P<key>epoch|step|iter|iteration|batch)\b(?!\s*[:=[(\d])", re.IGNORECASE
)
STEP_AFTER = re.compile(  # "10 epoch, ", "10th iteration "
    r"^\s*(?P<at>\d+)(?:\s+(?P<key>epoch|step|iter|iteration|batch)(?:e?s)?\s*[:,|]"
    r"|\s*(?:st|nd|rd|th)\s+(?P<other>epoch|step|iter|iteration|batch)\b\s*[:,|]?)(?!\s*\d)",
    re.IGNORECASE,
)
IN_BRACKETS = re.compile(  # "G loss [0.5]", but neither "loss[0]: 0.5" nor "Loss [12], 0.5"
    rf"(?<=[a-z_)])\s*[:=]?\s*\[\s*(?!\d+\s*\])(?P<value>{NUMBER})\s*\](?!\s*[-+:=.\d])", re.IGNORECASE
)
VALUE_ALONE = re.compile(  # "epoch 3: 2.5"
    rf"\s*(?:epoch|step|iter|iteration)\s*[:=#]?\s*(?P<at>\d+)(?:\s*[:,]\s*|\t)(?P<value>{NUMBER})\s*\Z",
    re.IGNORECASE,
)
TWO_NUMBERS = re.compile(r"\s*(?P<at>\d+)\s*:\s*(?P<value>-?\d+\.\d+(?:e[-+]?\d+)?)\s*\Z", re.IGNORECASE)  # "3: 2.5"
ARROW = re.compile(rf"\s*(?:[-=]+>|[\u2192\u21d2\u27a1\u27f6])\s*({NUMBER})", re.IGNORECASE)  # of "10.0 -> 9.0"
PER = {"per", "each", "a", "an"}  # before the name of a step: "time per iter: 0.3"
FIRST_NUMBER = re.compile(  # "3     train loss=2.5", "[3/40] loss 2.5", "7 [D loss: 0.5]", but not "3 epochs: 2.5"
    rf"^[\W_]{{0,30}}(?P<at>\d+)(?P<of>/\d+)?\s*[\])>:.,|=-]{{0,3}}\s+(?:\|\s+)?"
    rf"(?=(?:\[\s*)?[a-z_][\w /]{{0,{FIELD}}}(?:[:=]\s*|\s){NUMBER})"
    rf"(?!(?:(?:{STEP})e?s?|[kmg]i?b|[mu]?s|secs?|seconds|mins?|minutes|h|hours?)\b)",
    re.IGNORECASE,
)
NET_OUTPUT = re.compile(r"\bTrain net output #\d+: ")  # Caffe's
RULE = re.compile(r"(?<![-=*])([-=*])\1{2,}(?=[a-z])|(?<=[a-z\d])([-=*])\2{2,}\s*\Z", re.IGNORECASE)  # "---Epoch 3---"
TO_VALUE = re.compile(rf"(?<=[a-z)\]])\s*[-=]+>\s*(?={NUMBER})", re.IGNORECASE)  # "loss -> 2.5"
DOTS = re.compile(rf"(?<=[a-z)\]])\s*\.{{3,}}\s*:?\s*(?={NUMBER})", re.IGNORECASE)  # "loss ....... 2.5"
ABOUT = re.compile(rf"(?<=[ \t:=])[~≈]\s*(?={NUMBER})", re.IGNORECASE)
QUOTED = re.compile(rf"(?<=[:=])\s*([\"'`*]{{1,2}})({NUMBER})\1", re.IGNORECASE)
MARKDOWN = re.compile(r"(\*{1,2}|`)([a-z][\w ./-]{0,80}+:?)\1", re.IGNORECASE)  # "**loss**: 2.5"
GLUED_STEP = re.compile(  # "epoch003: ...", "ep_3 it_100"
    r"(?<![\w./-])(epoch|ep|step|iteration|iter|it|batch)[_-]?(\d+)(?=[\s:,|\])]|-{2}|\Z)[:,]?", re.IGNORECASE
)
GLUED_LOSS = re.compile(r"(?<=[a-z]loss)(?=-?\d*\.\d)", re.IGNORECASE)  # "trainloss2.5"
OF_TRAIN = re.compile(  # "[Train 10/1882]"
    r"\[\s*train(?:ing)? +(\d+) ?/ ?\d+\s*\](?!.*\b(?:step|iter|iteration|batch)\b)", re.IGNORECASE
)
NUMBER_SIGN = re.compile(r"(?<=[a-z] )(?:#|n(?:o|r|umber)\.? )(?=\d)", re.IGNORECASE)  # "Run #1", "Epoch no. 1"
REWRITES = (  # what a line must have for it, and what is written instead
    ("(", WRAPPED, r"\1"),
    (".py:", SOURCE, " "),
    ("]\t", BOOSTING, r"step \1 | "),
    ("", FORTRAN, "e"),
    (".", LONG_EXPONENT, r"\1e\2"),
    ("10^", POWER_OF_TEN, r"e\1"),
    ("∞", INFINITY, "inf"),
    ("_", UNDERSCORE, ""),
    (":", STAMP, " "),
    (":", DATE, " "),
    (":", LOGGER, r" \1 | "),
    ("", LEVEL, " "),
    ("#", NET_OUTPUT, "train output "),
    ("[", OF_TRAIN, r" train | step \1 | "),
    ("", NUMBER_SIGN, ""),
    ("", GLUED_STEP, r" | \1 \2 | "),
    ("oss", GLUED_LOSS, ": "),
    (">", TO_VALUE, ": "),
    ("...", DOTS, ": "),
    ("~", ABOUT, ""),
    ("≈", ABOUT, ""),
    ("*", MARKDOWN, r"\2"),
    ("`", MARKDOWN, r"\2"),
    ('"', QUOTED, r" \2"),
    ("'", QUOTED, r" \2"),
    ("`", QUOTED, r" \2"),
    ("*", QUOTED, r" \2"),
    ("---", RULE, " "),
    ("===", RULE, " "),
    ("***", RULE, " "),
)
BAR = re.compile(r"\|\s*(?P<at>\d+(?:\.\d+)?)(?P<unit>[kMG]?)/(?P<of>\d+(?:\.\d+)?)(?P<of_unit>[kMG]?) \[")  # tqdm's
DRAWN = re.compile(
    r"(?<=\S )(?P<at>\d+)/(?P<of>\d+) \[[=>.#-]{10,}\]"
)  # "Training 3/656 [==>......]", which is not Keras'
WITHIN_BAR = re.compile(r"\[[=>.#-]{3,} (?P<at>\d+)/(?P<of>\d+) [=>.#-]{3,}\]")  # "[======= 391/391 ======>]"
SHARE = re.compile(r"\d+%\|.*")  # before it: "validating:  5%|##  "
UNITS = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9}  # of steps such as 12k
THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
OF_LOSSES = re.compile(r"\bloss(?:es)?\W{0,3}\{", re.IGNORECASE)  # "Losses {'ner': 2.5}"
WITH_POINT = re.compile(r"-?[1-9]\d{0,2}(?:,\d{3})+\.\d+")
OBJECT = re.compile(r"\{.*\}")
BARE = re.compile(r"(?<=[:\s])(-?(?:nan|inf))(?=\s*[,}])")
OF_HOW_MANY = re.compile(r"\d+\s*/\s*\d+")  # "[1/4]", which is no path
EVALUATION_LINES = ("saving dict", "testing net")


def read_line(line: str, first_epoch: int = 0, *, has_kinds: bool = True) -> tuple[Row, tuple[str, bool]]:
    """Return the numbers of one line by their keys, the text beside them, and whether it has a sign of pairs.

    Args:
        line: without its end.
        first_epoch: the number that epochs begin with.
        has_kinds: whether a word such as "eval" beside the pairs tells that they are an evaluation's.
    """
    line = line if line.isascii() else in_english(line)
    if GLUED.search(line):
        return {}, (OF_GLUED, False)
    line = MSVC.sub(lambda found: "inf" if found[1] == "INF" else "nan", line) if "1.#" in line else line
    line, process = _without_process(line)
    row, told = _numbers(line, first_epoch, has_kinds=has_kinds)
    row = process | row if row else row
    return row, (f"{told} =" if "=" in line else told, SIGN.search(line) is not None)


def _without_process(line: str) -> tuple[str, Row]:
    """Return a line without what says which process printed it, and that as a row."""
    for pattern, key in ((NUMBERED, LEADING_NUMBER), (PROCESS, "process")):
        if found := pattern.search(line):
            (which,) = filter(None, found.groups())
            begin = line.rfind("[", 0, found.start()) if found.start() else 0  # with the name of the source's file
            return f"{line[: max(0, begin)]} {line[found.end() :]}", {key: float(which)}
    return line, {}


def _numbers(line: str, first_epoch: int, *, has_kinds: bool) -> tuple[Row, str]:
    """Return the numbers of one line by their keys, and the text beside them."""
    if darknet := DARKNET.match(line):
        return {key: float(value) for key, value in darknet.groupdict().items()}, ""
    if alone := VALUE_ALONE.match(line) or TWO_NUMBERS.match(line):
        return {"step": float(alone["at"]), "value": float(alone["value"])}, ""
    logged = read_object(line) if "{" in line else None
    if logged is not None:
        if OF_LOSSES.search(line) and not any("loss" in words(key) for key in logged):
            logged = {key if normal(key) in ALL_STEPS else f"{key} loss": value for key, value in logged.items()}
        beside = _rewritten(OBJECT.sub("", line))
        return _named(_steps_beside(logged, beside) | logged, beside, has_kinds=has_kinds)
    line = _rewritten(line)
    row: Row = {}
    shown: Row = {}  # what a bar counts, where it does not say the step itself
    if "/" in line and (within := IN_EPOCH.search(line)):
        row = {
            "epoch": float(within["epoch"]),
            "step": Within(float(within["epoch"]), float(first_epoch), float(within["of"]), float(within["at"])),
        }
        line = f"{line[: within.start()]} {within['mode'] or ''} | {line[within.end() :]}"
    elif "|" in line and (bar := BAR.search(line)):
        shown = {"step": float(bar["at"]) * UNITS[bar["unit"].lower()]}
        line = f"{SHARE.sub('', line[: bar.start()])} | {line[bar.end() :]}"
    elif "/" in line and (drawn := DRAWN.search(line) or WITHIN_BAR.search(line)):
        shown = {"step": float(drawn["at"])}
        line = f"{line[: drawn.start()]} | {line[drawn.end() :]}"
    if "/" in line:
        line = AT_START.sub(r"batch \g<at> | ", OF_STEPS.sub(r" | \g<key> \g<at> | ", line))
    if after := STEP_AFTER.match(line):
        line = f"{after['key'] or after['other']} {after['at']} | {line[after.end() :]}"
    if "[" in line or "/" in line:
        line = IN_BRACKETS.sub(r": \g<value>", BRACKET.sub(r" \g<mode> | \g<key> \g<at>\g<of> | ", line))
    sides = list(SIDE.finditer(line))
    if len({side["side"].lower() for side in sides}) > 1:
        return row | shown | _of_sides(line, sides), ""
    rest = [_pairs(part, row) for part in BETWEEN.split(line)]
    return _named(shown | row, " ".join(rest), has_kinds=has_kinds)


def _steps_beside(logged: Row, beside: str) -> Row:
    """Return the steps in the text beside an object that has none: "Epoch 3: {'loss': 2.5}"."""
    row: Row = {}
    if not any(normal(key) in ALL_STEPS for key in logged):
        for part in BETWEEN.split(BRACKET.sub(r" | \g<key> \g<at>\g<of> | ", beside)):
            _pairs(part, row)
    return {key: value for key, value in row.items() if normal(key) in ALL_STEPS}


def _named(row: Row, beside: str, *, has_kinds: bool) -> tuple[Row, str]:
    """Return the pairs of a line, with the name of an evaluation before them if it is about one, and its words.

    Args:
        row: the pairs.
        beside: the text beside them.
        has_kinds: whether it tells of evaluations.
    """
    parts = OF_HOW_MANY.sub(" ", beside).split()
    told = " ".join(word for word in parts if "/" not in word and not word.endswith(".py"))
    kind = evaluation_in(told) or ("eval" if any(mark in told.lower() for mark in EVALUATION_LINES) else "")
    if kind and has_kinds and not any(words(key) & {"train", "training"} for key in row):
        row = {key if normal(key) in ALL_STEPS else f"{kind}/{key}": value for key, value in row.items()}
    return row, _plain_text(told)


def _rewritten(line: str) -> str:
    """Return a line without what a logger says of itself, its numbers and steps in plain forms."""
    for sign, pattern, plain in REWRITES:
        if sign in line:
            line = pattern.sub(plain, line)
    line = RUN_ON.sub(r"\1 ", line) if RUNS_ON.search(line) else line
    line = in_pairs(line)
    first = FIRST_NUMBER.match(line)
    if first is None:
        return line
    key = "batch" if first["of"] else LEADING_NUMBER
    return f"{key} {first['at']} | {line[first.end() :]}"


def _of_sides(line: str, sides: "list[re.Match[str]]") -> Row:
    """Return the pairs of a line that has those of the training and of a validation, each after its name."""
    row: Row = {}
    for part in BETWEEN.split(line[: sides[0].start()]):
        _pairs(part, row)
    ends = [*(side.start() for side in sides[1:]), len(line)]
    for side, end in zip(sides, ends, strict=True):
        own: Row = {}
        for part in BETWEEN.split(line[side.end() : end]):
            _pairs(part, own)
        for key, value in own.items():
            row.setdefault(key if normal(key) in ALL_STEPS else f"{side['side']}/{key}", value)
    return row


def _plain_text(told: str) -> str:
    """Return the words of a text."""
    return " ".join(re.findall(r"[^\W\d]+", told.lower()))


def _pairs(part: str, row: Row) -> str:
    """Add the pairs of a part of a line to the row, and return the text beside them."""
    rest, end = [], 0
    for pair in PAIR.finditer(part):
        rest.append(part[end : pair.start()])
        end = pair.end()
        key = pair["key"].strip("()-. ")
        *others, last = key.split()
        if others and others[-1].lower() in PER and normal(last) in ALL_STEPS:
            if "loss" in words(key):  # "loss per epoch"
                row.setdefault(key, _value(pair, key))
            continue
        is_time = others[-1:] in (["time"], ["Time"]) and "." in pair["value"][:-1]  # "stable time step: 0.007"
        if others and normal(last) in ALL_STEPS and not is_time:  # "validation loss at iteration 400" names a step
            rest.append(" ".join(others))
            key = last
        of_time = normal(key) in ALL_STEPS or "cost" in words(key)
        if of_time and (unit := DURATION.match(part, end)):  # "Batch: 0.1s" and "Step: 1s194ms" are no steps
            key, end = f"{key} time", unit.end()
        if key in row and "loss" in words(key):
            rest.append(OF_SECOND)
        row.setdefault(key, _value(pair, key))
        if after := ARROW.match(part, end):
            row.setdefault(key + AFTER, float(after[1]))
            end = after.end()
    rest.append(part[end:])
    return " ".join(rest)


def _value(pair: "re.Match[str]", key: str) -> float | str:
    """Return the number of a pair, or what is written where it is open which number that is."""
    written, unit = pair["value"] + pair["more"], (pair["unit"] or "").lower()
    if pair["value"][:2].lower() == "0x":
        return written  # no number, and not the number 0
    if normal(key) in ALL_STEPS and (not pair["more"] or THOUSANDS.fullmatch(written)):
        return float(written.replace(",", "")) * UNITS[unit]
    if "loss" in words(key) and WITH_POINT.fullmatch(written) and not unit:
        return float(written.replace(",", ""))  # "1,791.5" is one number, where "1,791" may be 1.791
    if pair["more"] or (unit not in ("", "k") and "loss" in words(key)):
        return written + (pair["unit"] or "")  # a decimal comma, or thousands; thousandths, or millions
    return float(written) * (UNITS["k"] if unit == "k" else 1)


def read_object(line: str) -> Row | None:
    """Return the numbers of an object in a line, written as JSON or as Python; None if there is none."""
    found = OBJECT.search(line)
    if found is None or ":" not in found[0]:
        return None
    text = WRAPPED.sub(r"\1", found[0])
    try:
        logged = json.loads(text)
    except (ValueError, RecursionError):
        try:
            logged = ast.literal_eval(BARE.sub(r"'\1'", text))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None
    if not isinstance(logged, dict):
        return None
    return {key: value for key, value in _flat(logged).items() if number(value) is not None}


def _flat(logged: Row) -> Row:
    """Return an object with the values of objects in it, of a list of steps the last, and of "3/400" the step 3."""
    flat: Row = {}
    for name, value in logged.items():
        key = str(name)
        if isinstance(value, dict):
            flat |= {f"{key}/{below}": inner for below, inner in value.items()}
        elif isinstance(value, str) and normal(key) in ALL_STEPS and OF_HOW_MANY.fullmatch(value):
            flat[key] = value.split("/")[0]
        else:
            flat[key] = value[-1] if isinstance(value, list) and value and normal(key) in ALL_STEPS else value
    return flat
