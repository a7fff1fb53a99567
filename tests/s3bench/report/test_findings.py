"""The answers at the top of the page: sentences from tables that are made by hand."""

import math

import pandas as pd
import pytest

from s3bench.report.findings import findings
from s3bench.report.formatting import format_table
from tests.records import make, make_ramp, tables

NONE = {
    name: pd.DataFrame(columns=columns.split())
    for name, columns in {
        "cells": "task optimizer lr_multiplier n spikes steps runs_with_spike dead",
        "spike_rates": "task lr_multiplier optimizer baseline n spikes baseline_spikes dead baseline_dead difference "
        "p_holm verdict",
        "runs": "task horizon",
        "spikes": "task optimizer lr_multiplier seed onset peak height",
        "tuned": "task optimizer grid",
        "field": "task optimizer n largest_without_spike",
        "overview": "task optimizer n grid final_loss_mean final_loss_sd "
        "target target_reached target_n target_median_steps",
        "speedups": "task target optimizer baseline n faster slower p_holm verdict",
        "final_losses": "task optimizer baseline n difference p p_holm verdict",
    }.items()
}


def said(question, **given):
    """Return the sentences that answer a question by these rows, where all other tables are empty."""
    made = {
        name: pd.DataFrame(rows, columns=None if name == "thresholds" else NONE[name].columns)
        for name, rows in given.items()
    }
    answers = dict(findings({**NONE, **made}))
    return answers.get(question, [])


def cell(task, optimizer, multiplier, n, spikes, runs_with_spike, dead=0):
    return [task, optimizer, multiplier, n, spikes, 1000 * n, runs_with_spike, dead]


def test_who_spikes_less_often_because_it_is_dead_is_said():
    cells = [cell("a", "s3", 10, 8, 9, 8), cell("a", "adamw", 10, 8, 0, 0, dead=8)]
    for dead, guess in ((8, "; the loss of adamw stays at a guess in 8 runs there"), (0, "")):
        rates = [["a", 10, "s3", "adamw", 8, 9, 0, 0, dead, 11.25, 0.0078, "differs"]]
        _, told = said("Who spikes?", cells=cells, spike_rates=rates)
        assert f"s3, which spikes more often at ×10 (8 pairs, p = 0.0078{guess})" in told
    rates = [["a", 10, "sgd", "adamw", 8, 0, 9, 1, 0, -11.25, 0.0078, "differs"]]
    _, told = said("Who spikes?", cells=cells, spike_rates=rates)
    assert "sgd, which spikes less often at ×10 (8 pairs, p = 0.0078; the loss of sgd stays at a guess in 1 run" in told


def test_what_the_records_cannot_answer_is_not_a_question():
    assert findings(NONE) == []
    alone = [["a", "s3", 2, "1", 0.5, 0.1, None, math.nan, math.nan, math.nan]]
    assert [
        one.question for one in findings({**NONE, "overview": pd.DataFrame(alone, columns=NONE["overview"].columns)})
    ] == ["Who ends lowest?"]


def test_who_spikes_counts_runs_and_has_the_rate():
    cells = [cell("a", "s3", 1, 2, 1, 1), cell("a", "s3", 10, 2, 5, 2), cell("a", "adamw", 1, 2, 0, 0)]
    cells += [cell("a", "adamw", 10, 2, 1, 1), cell("a", "sgd", 1, 2, 0, 0), cell("a", "sgd", 10, 0, 0, 0)]
    assert said("Who spikes?", cells=cells) == [
        "On a, s3 spikes in 3 of 4 runs (15 per 10,000 steps) and adamw in 1 of 4 (2.5); no spike in 2 runs of sgd; "
        "over the same 2 learning rates."
    ]


def test_who_spikes_counts_the_runs_whose_loss_stays_at_a_guess():
    cells = [cell("a", "s3", 1, 2, 0, 0), cell("a", "s3", 10, 2, 0, 0, 1), cell("a", "adamw", 10, 2, 0, 0, 2)]
    (text,) = said("Who spikes?", cells=cells)
    assert text.endswith("(95%); the loss stays at a guess in 1 run of s3 and 2 runs of adamw.")


def test_tasks_without_a_spike_share_a_sentence_which_says_what_that_still_allows():
    cells = [cell(task, "s3", 1, 10, 0, 0) for task in ("a", "b")]
    assert said("Who spikes?", cells=cells) == [
        "On a and b, no spike in 10 runs of s3, which still allows up to 3.7 per 10,000 steps (95%)."
    ]


def test_of_many_optimizers_the_ends_are_named():
    cells = [cell("a", f"o{index}", 1, 1, 300 - index, 1) for index in range(300)]
    (text,) = said("Who spikes?", cells=cells)
    assert text.startswith("On a, o0 spikes in 1 of 1 run (3,000 per 10,000 steps), o1 in 1 of 1 (3,000) and o2 in")
    assert ", the first of 300; the last are o297 in 1 of 1 (30), o298 in 1 of 1 (20) and o299 in 1 of 1 (10)." in text
    assert len(text) < 300
    cells = [cell("a", f"o{index}", 1, 1, 0, 0) for index in range(300)]
    assert "of o0, o1, o2 and 297 others" in said("Who spikes?", cells=cells)[0]


def test_when_spikes_began_and_how_high_they_were():
    runs = [["a", 1000]]
    rows = [["a", "s3", 1.0, 0, onset, onset + 1, height] for onset, height in ((49, 1), (50, 2), (499, 9), (500, 4))]
    assert said("When?", runs=runs, spikes=rows) == [
        "On a, spikes began: 1 in the first 5% of the run, 2 later in the first half and 1 in the second half."
    ]
    assert said("When?", runs=runs, spikes=rows[:1]) == ["On a, the only spike began at step 49 of 1,000."]
    assert said("When?", runs=runs, spikes=[rows[3]] * 2) == ["On a, all 2 spikes began in the second half of the run."]
    endless = ["a", "adamw", 1.0, 0, 700, 701, math.inf]
    assert said("How high?", runs=runs, spikes=[*rows, endless]) == [
        "On a, the highest peaks 9 above its level (s3, ×1, seed 0, step 500); the median of 4 is 3; in 1 of 5 the "
        "loss is not finite."
    ]


def test_the_largest_rate_is_that_of_ramps_or_else_without_a_spike():
    ramp = {"task": "a", "n": 4, "ratio_low": math.nan, "ratio_high": math.nan, "pairs": 0, "reference": math.nan}
    rows = [
        ramp | {"optimizer": name, "threshold_least": least, "threshold_most": most}
        for name, least, most in (("s3", 6.0, 6.0), ("adamw", 10.4, 10.4), ("sgd", 100, math.inf), ("x", 2, 3))
    ]
    assert said("Who stands the largest learning rate?", thresholds=rows) == [
        "On a, the learning rate at which the loss of a ramp leaves, largest first: sgd above ×100 (n = 4), "
        "adamw ×10.4 (n = 4), s3 ×6 (n = 4) and x ×2 to 3 (n = 4)."
    ]
    grids = [["a", name, "0.3, 1, 10"] for name in ("s3", "adamw", "sgd", "x")]
    rates = [["a", "s3", 3, 1], ["a", "adamw", 2, 10], ["a", "sgd", 3, 10], ["a", "x", 3, math.nan]]
    assert said("Who stands the largest learning rate?", tuned=grids, field=rates) == [
        "On a, no run spikes, diverges or stays at a guess up to ×10, the largest tried, with adamw and sgd "
        "(n = 2 to 3) and up to ×1 with s3 (n = 3); "
        "even at the smallest rate tried a run spikes, diverges or stays at a guess with x (n = 3)."
    ]


OVERVIEW = [
    ["a", "adamw", 8, "1, 10", 0.3, 0.02, "loss ≤ 1", 8, 8, 120],
    ["a", "s3", 8, "1, 10", 0.5, 0.02, "loss ≤ 1", 3, 8, math.inf],
    ["a", "sgd", 8, "1, 10", math.inf, math.nan, "loss ≤ 1", 0, 8, math.inf],
]


@pytest.mark.parametrize(("sign", "order"), [(1, "higher"), (-1, "lower")])
def test_who_ends_lowest_and_whom_a_test_tells_apart_reads_the_same_both_ways(sign, order):
    tests = [["a", "s3", "adamw", 8, 0.2 * sign, 0.0078, 0.0156, "differs"]]
    assert said("Who ends lowest?", overview=OVERVIEW, final_losses=tests) == [
        "On a, final losses at each one's best learning rate: adamw 0.300 ± 0.020 (n = 8), s3 0.500 ± 0.020 (n = 8) "
        "and sgd with a run that diverged (n = 8).",
        f"On a, told apart from adamw: s3, {order} (8 pairs, p = 0.016).",
    ]


def test_a_single_learning_rate_is_said_and_that_nothing_was_tested():
    rows = [
        ["a", name, 2, "1", loss, 0.02, None, math.nan, math.nan, math.nan] for name, loss in (("s3", 0.5), ("x", 0.3))
    ]
    assert said("Who ends lowest?", overview=rows) == [
        "On a, final losses at ×1, the only learning rate tried: x 0.300 ± 0.020 (n = 2) and s3 0.500 ± 0.020 (n = 2); "
        "no test compares them."
    ]


def test_who_is_fastest_has_how_many_runs_reached_the_target():
    tests = [
        ["a", "loss ≤ 1", "s3", "adamw", 8, 0, 8, 0.0156, "differs"],
        ["a", "loss ≤ 2", "s3", "adamw", 8, 8, 0, 0.01, "differs"],
    ]
    assert said("Who is fastest?", overview=OVERVIEW, speedups=tests) == [
        "On a, loss ≤ 1 is reached by adamw in 120 steps (median, 8 of 8 runs) and s3 in too few runs for a median "
        "(3 of 8 runs); never by sgd.",
        "On a, told apart from adamw: s3, slower in 8 of 8 pairs, p = 0.016.",
    ]


def test_who_was_not_told_apart_says_on_how_many_pairs():
    losses = [
        ["a", "s3", "adamw", 3, 0.1, 0.25, 0.5, "n = 3 pairs cannot reach 0.05 (7 needed)"],
        ["a", "sgd", "adamw", 8, 0.1, 0.25, 0.5, "not told apart"],
        ["a", "x", "adamw", 8, 0.1, 0.01, 0.02, "differs"],
        ["a", "y", "adamw", 8, 0.1, math.nan, math.nan, "not tuned: at one learning rate"],
    ]
    rates = [
        ["a", rate, "s3", "adamw", 1, 1, 0, 0, 0, 5.0, 1.0, "n = 1 pair cannot reach 0.05 (6 needed)"]
        for rate in (1, 10)
    ]
    assert said("Who was not told apart?", final_losses=losses, spike_rates=rates) == [
        "On a, not told apart from adamw: by final loss s3 (3 pairs, too few: 7 needed) and sgd (8 pairs); by spikes "
        "at ×1 and ×10 s3 (1 pair, too few: 6 needed)."
    ]


def test_ramps_that_are_not_told_apart_have_a_whole_number_of_pairs(tmp_path):
    for seed, (s3, adamw) in enumerate([(300, 310), (310, 300)]):
        make_ramp(tmp_path, "s3", seed, s3)
        make_ramp(tmp_path, "adamw", seed, adamw)
    assert dict(findings(tables(tmp_path)))["Who was not told apart?"] == [
        "On quadratic, not told apart from adamw: by the learning rate at which ramps leave s3 (2 pairs)."
    ]


def test_the_tables_of_records_have_what_the_sentences_need(tmp_path):
    for seed in (0, 1):
        make(tmp_path, "s3", 1, seed, 0.01, spikes=[60])
        make(tmp_path, "adamw", 1, seed, 0.02)
        make_ramp(tmp_path, "s3", seed)
        make_ramp(tmp_path, "adamw", seed, left_at=200)
    made = tables(tmp_path)
    answers = dict(findings(made))
    assert answers["Who spikes?"] == [
        "On quadratic, s3 spikes in 2 of 2 runs (100 per 10,000 steps); no spike in 2 runs of adamw."
    ]
    assert "s3" in answers["Who stands the largest learning rate?"][0]
    assert len(format_table("thresholds", made["thresholds"])) == 2
