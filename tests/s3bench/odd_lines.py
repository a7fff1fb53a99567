"""Draws command lines that nobody should write: lines that are right, but for a change or two."""

import argparse
import random

from s3bench import cli
from s3bench.run.config.completion import _keys

FILES = ("r", "curve.csv", "text.txt", "config.yaml", "folder", "empty")  # in the folder where the lines run
LONG = "x" * 100_000
ODD = [
    *(
        "",
        " ",
        "nan",
        "-nan",
        "1e999",
        "-1e999",
        "inf",
        "-1",
        "0",
        "1e-400",
        "1.5",
        "0x10",
        "1_000",
        "١",
        "²",
        "9" * 30,
    ),
    *(
        "9" * 5_000,
        "null",
        "None",
        "true",
        "off",
        "[]",
        "[1",
        "[1,2]",
        "{}",
        "{a",
        "{a: 1}",
        "{a: {b: [c]}}",
        "a,b",
        ",",
    ),
    *("=", "==", "a=b=c", "${seed}", "${", "${x}", "${oc.env:HOME}", "${oc.decode:1}", "???", "range(0,1000000000)"),
    *(
        "range(0",
        "range(0,0)",
        "range(0,1,0)",
        "range(0,1e999)",
        "range(0,9,1e-400)",
        "range(a,b)",
        "choice(",
        "choice()",
        "choice(choice(1),2)",
        "sort(a,1)",
        "int(1e999)",
        "interval(0,1)",
        "sort(2,1)",
    ),
    *("shuffle(1,2)", "glob(*)", "glob(s*,exclude=s3)", "extend_list(1)", "'", '"', "'a'b", "\\", "\\,", "\\'", "a b"),
    *(
        "\x1b[2J",
        "\x1b]0;x\x07",
        "\n",
        "a\nb",
        "\r",
        "\t",
        "\x7f",
        "\x85",
        "\u2028",
        "\u202e",
        "\udcff",
        "\ud800",
        "\ufeff",
    ),
    *(
        "é",
        "σ",
        "🙂",
        "-",
        "--",
        "---",
        "-x",
        "--x",
        "--x=1",
        "*",
        "?",
        "[z-a]",
        "(",
        "(?P<",
        "a{2,1}",
        "**",
        "!",
        "#",
        ";",
    ),
    *(
        ".",
        "..",
        "/",
        "//",
        "~",
        "/dev/null",
        "/dev/zero",
        "/proc/none",
        "/proc/self/mem",
        "../..",
        "a/../b",
        "con",
        "%s",
    ),
    *(
        "%(prog)s",
        "{0}",
        "$HOME",
        "`id`",
        "<b>",
        "$\\frac",
        "2020-01-01",
        "a:b",
        "@",
        "a@b",
        "&a [*a]",
        "!!python",
        LONG,
    ),
    *("[" * 3_000, "{a:" * 500, "(" * 200, "a." * 1_000, "/" * 5_000, "x/" * 3_000, "," * 2_000),
    *FILES,
]
LINES = [  # that are right
    ["run", "task=quadratic", "optimizer=s3", "lr_multiplier=10", "horizon=20", "results_dir=out"],
    ["run", "task=digits_mlp", "clip=zclip", "schedule=linear", "shock={kind: gradient, step: 9}", "seed=1"],
    ["run", "task=quadratic", "--cfg", "job", "--resolve", "--package", "task.build"],
    ["run", "task=quadratic", "--info", "defaults"],
    ["sweep", "task=quadratic", "optimizer=s3,adamw", "seed=0,1", "results_dir=out", "--jobs", "2"],
    ["sweep", "experiment=quickstart", "--dry-run"],
    ["sweep", "experiment=tuned", "scale=laptop", "--yes", "--cfg", "all"],
    ["status", "r"],
    ["status", "r", "--json"],
    ["clean", "r", "--yes"],
    ["replay", "r", "--run", "*s3-*", "--spike", "1", "--jobs", "1", "arm=same", "device=cpu"],
    ["decide", "C4", "--budget", "1m", "--results", "out", "--scale", "laptop", "horizon=20"],
    ["decide", "--optimizer", "s3", "--against", "adamw_95", "--dry-run"],
    ["bisect", "r", "task=quadratic", "optimizer=s3", "--jobs", "1"],
    ["report", "r"],
    ["report", "r", "--output", "out"],
    ["figure", "loss", "r", "--output", "x.png"],
    ["figure", "r"],
    ["spikes", "curve.csv", "--column", "loss", "--step", "step", "--k", "6", "--delta", "0.1", "--ceiling", "3"],
    ["spikes", "curve.csv", "--plot", "x.png", "--json"],
    ["calibrate", "r"],
    ["tune", "quadratic", "device=cpu", "--jobs", "1"],
    ["list", "tasks"],
    ["completion", "bash"],
]
NESTED = [
    *("optimizer.p", "optimizer.beta", "optimizer._target_", "task.lr", "task.build.width", "task.build._target_"),
    *(
        "task.targets",
        "task.spikes.k",
        "schedule.warmup",
        "shock.kind",
        "shock.dose",
        "names.task",
        "run_id",
        "code.task",
    ),
    *(
        "hydra.run.dir",
        "hydra/launcher",
        "task@x",
        "task/x",
        "replay.run",
        "launcher.jobs",
        "launcher.x.y",
        "experiment",
    ),
]


def options() -> list[str]:
    """Return all options of all commands."""
    found = set()
    left: list[argparse.ArgumentParser] = [cli._parser()]
    while left:
        for action in left.pop()._actions:
            found |= set(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                left += action.choices.values()
    return sorted(found)


OPTIONS, KEYS = options(), [*_keys(), *NESTED]


def misspelt(text: str, draw: random.Random) -> str:
    """Return a text with one character doubled, lost, or in the place of its neighbour."""
    at = draw.randrange(len(text)) if text else 0
    return draw.choice(
        [text[:at] + text[at + 1 :], text[: at + 1] + text[at:], text[:at] + text[at + 1 :] + text[at : at + 1]]
    )


def override(draw: random.Random) -> str:
    """Return an override, most of them of a key that exists."""
    key = draw.choice(KEYS)
    key = misspelt(key, draw) if draw.random() < 0.2 else key
    prefix = draw.choice(["", "", "", "", "+", "++", "~", "-", "~~"])
    return f"{prefix}{key}{draw.choice(['=', '=', '=', '=', '', '==', ' = '])}{draw.choice(ODD)}"


def change(line: list[str], draw: random.Random) -> list[str]:
    """Return a line with one change."""
    at = draw.randrange(len(line))
    before, word, after = line[:at], line[at], line[at + 1 :]
    key, equals, _ = word.partition("=")
    way = draw.randrange(14)
    if way == 0:
        return [*before, misspelt(word, draw), *after]
    if way == 1:
        return [*before, *after]
    if way == 2:
        return [*before, word, word, *after]
    if way == 3:
        return [*before, draw.choice(ODD), *after]
    if way == 4:
        return [*before, word + draw.choice(ODD), *after]
    if way == 5:
        return [*before, draw.choice(ODD), word, *after]
    if way == 6:
        return [*line, draw.choice(OPTIONS), *([draw.choice(ODD)] if draw.random() < 0.7 else [])]
    if way == 7:
        return [*line, override(draw)]
    if way <= 9 and equals:
        return [*before, f"{key}={draw.choice(ODD)}", *after]
    if way <= 11 and word.startswith("-"):
        return [*before, word, draw.choice(ODD), *after[1:]]
    return [*line, f"{draw.choice(KEYS)}={draw.choice(ODD)}"] if takes_overrides(line) else [*before, draw.choice(ODD)]


def takes_overrides(line: list[str]) -> bool:
    return bool(line) and line[0] in ("run", "sweep", "tune", "decide", "bisect", "replay")


def odd_line(number: int) -> list[str]:
    """Return the line of a number, which may be right after all."""
    draw = random.Random(number)
    line = list(draw.choice(LINES))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        line = change(line, draw) if line else [draw.choice(ODD)]
    return line
