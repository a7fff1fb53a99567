"""The answer to what the spikes of a curve amount to, and the exit code that depends on them."""

import json
import math

import numpy as np
import pytest

from s3bench.curve_files.reader import LoggedCurve
from s3bench.report.answer import paragraph
from s3bench.report.fail_on import too_many
from s3bench.spikes import find_spikes
from tests.conftest import mistake


def curve_of(changes, length=1000, every=1, step_column="step"):
    loss = 2 + 0.01 * np.random.default_rng(0).standard_normal(length)
    for place, value in changes.items():
        loss[slice(*place) if isinstance(place, tuple) else place] = value
    return LoggedCurve(column="loss", steps=every * np.arange(length), loss=loss, step_column=step_column)


def answer(*arguments, **options):
    curve = curve_of(*arguments, **options)
    return paragraph(curve, find_spikes(curve.loss))


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        (
            {500: 9},
            {},
            "1 spike: from onset to end 0.1% of the 1,000 steps, and as much of the compute if all steps cost",
        ),
        ({500: 9}, {}, "The highest peak is 7 above its level, at 500. It begins after the first tenth."),
        ({500: 9}, {}, "The loss came back after 1 step."),
        ({50: 9}, {}, "It begins early, in the first tenth."),
        ({(500, 520): 9, 50: 3}, {}, "2 spikes: from onset to end 2.1% of the 1,000 steps"),
        ({(500, 520): 9, 50: 3}, {}, "1 of them begins early, in the first tenth; the last begins at 500."),
        ({(500, 520): 9, 50: 3}, {}, "The loss came back from all after 10.5 steps (median)."),
        ({500: 9}, {"every": 10}, "0.1% of the 1,000 logged values, and as much of the compute if all logged values"),
        ({500: 9}, {"every": 10}, "at 5000"),
        ({500: 9}, {"step_column": None}, "0.1% of the 1,000 rows"),
        ({500: 9}, {"step_column": "epoch"}, "0.1% of the 1,000 epochs"),
        ({500: math.nan, 700: 9}, {}, "In 1 the loss is not finite."),
        ({(900, 1000): math.nan, 500: 9}, {}, "The loss came back from 1 after 1 step; the run diverged in the last."),
        ({(500, 1000): 3, 0: 4}, {}, "1 led to another level."),
        ({(900, 1000): 3, 0: 4}, {}, "1 had not ended where the file ends."),
        ({(800, 1000): 4, 0: 4}, {}, "From 800 on it is at 0.9 of its first value or above: the network may be dead."),
        ({}, {}, "No spike. 1,000 steps without one still allow up to 36.9 per 10,000 (95% interval)."),
        ({}, {"length": 30}, "No spike, but 30 steps are too few to say that there are few."),
        ({500: 9}, {}, "OLMo-core, monitor: 1; OLMo-core, skipped steps: 1; Qwen: 1; Lightning: 1; llm-foundry: 0;"),
        ({500: 9}, {}, "OLMo 2: too few values."),
        ({}, {"length": 1_000_001}, "Other definitions are not tried on more than 1,000,000 values."),
    ],
)
def test_the_answer_says_what_the_file_supports(changes, options, said):
    assert said in answer(changes, **options)


@pytest.mark.parametrize("changes", [{}, {(800, 1000): 4, 0: 8}, {(950, 1000): 4, 0: 4}, {0: -9}])
def test_a_loss_that_never_fell_or_is_not_back_for_long_is_not_called_dead(changes):
    assert "dead" not in answer(changes)


def write(folder, name, changes):
    curve = curve_of(changes)
    rows = zip(curve.steps.tolist(), curve.loss.tolist(), strict=True)
    (folder / name).write_text("step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in rows))


@pytest.mark.parametrize(
    ("limit", "codes"),  # of no spike, of one, of one in which the run diverged
    [
        ("spike", (0, 1, 1)),
        ("diverged", (0, 0, 1)),
        ("rate>9.9", (0, 1, 1)),
        ("rate>10", (0, 0, 0)),
        ("rate>0", (0, 1, 1)),
    ],
)
def test_the_exit_code_depends_on_the_spikes(s3bench, tmp_path, limit, codes):
    files = {"calm.csv": {}, "blip.csv": {500: 9}, "diverged.csv": {(900, 1000): math.nan}}
    for (name, changes), code in zip(files.items(), codes, strict=True):
        write(tmp_path, name, changes)
        result = s3bench("spikes", name, "--fail-on", limit)
        assert result.returncode == code
        assert (f"--fail-on {limit}: {name}: " in result.stderr) == bool(code)
        told = s3bench("spikes", name, "--fail-on", limit, "--json")
        assert (told.returncode, json.loads(told.stdout)["answer"][:1].isalnum()) == (code, True)
    both = s3bench("spikes", *files, "--fail-on", limit, "--json")
    assert (both.returncode, len(json.loads(both.stdout))) == (max(codes), 3)
    assert s3bench("spikes", *files, "none.csv", "--fail-on", limit).returncode == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({(900, 1000): math.nan}, "diverged in the spike with its onset at 900"),
        ({999: math.nan}, "diverged in the spike with its onset at 999"),
        ({0: 1.5}, "diverged: its last losses are above the first one, 1.5"),  # at once, so without a spike
        ({0: math.nan, 1: 1.5}, "diverged: its last losses are above the first one, 1.5"),
        ({(500, 1000): 3.0}, "diverged: its last losses are above the first one"),  # long after a spike
        ({0: 9, (500, 1000): 3.0}, None),  # at another level, but below the first loss
        ({500: math.nan}, None),  # it came back
        ({500: 9}, None),
        ({}, None),  # it has learned nothing
    ],
)
def test_a_curve_can_diverge_without_a_spike(changes, said):
    curve = curve_of(changes)
    beyond = too_many("diverged", curve, find_spikes(curve.loss))
    assert (beyond is None) if said is None else beyond.startswith(said)


@pytest.mark.parametrize("limit", ["spikes", "rate", "rate>", "rate>x", "rate>-1", "rate>nan", "rate=5", "", "\x1b[2J"])
def test_a_wrong_limit_is_one_line_with_what_is_allowed(s3bench, tmp_path, limit):
    write(tmp_path, "a.csv", {})
    for files in (["a.csv"], ["a.csv", "a.csv"]):
        line = mistake(s3bench("spikes", *files, "--fail-on", limit))
        assert "must be one of: spike, diverged, rate>X" in line
        assert "\x1b" not in line
