"""Tests how blocks become a verdict: from records, through the log of decisions, to claims.json."""

import json
import math
import re

import numpy as np
import pytest

from s3bench import record
from s3bench.errors import UserError
from s3bench.record import decisions
from s3bench.report.analysis.replays import read_replays
from s3bench.report.analysis.results import read_results
from s3bench.report.claims.decided import (
    NO_EVIDENCE,
    block_values,
    blocks_of,
    grade_of,
    line,
    refuse_changed,
    stand,
    standing,
)
from s3bench.report.claims.grades import CONTRADICTED, EQUAL, SUPPORTED, UNDECIDED
from s3bench.report.claims.judge import Verdict, judge
from s3bench.report.claims.measures import (
    Cell,
    NoMeasure,
    burden,
    check_rates,
    gap,
    log_final_loss,
    steps,
    survival,
)
from s3bench.report.claims.registered import load_claims
from s3bench.report.stats.confidence_sequence import intersected, mean_intervals
from s3bench.run.config.compose import run_config
from s3bench.run.one_run import run as train
from tests.records import make, make_arm, make_replayed, written

LOSS = """statement: S3 ends lower than the Adams
effect: the final loss of S3 over that of the better Adam
measure: loss
limits: {claimed: 0.9, none: 1.0, equal: 1.1}
scales:
  laptop: {tasks: [quadratic]}
arms: {s3: [optimizer=s3], adam: [optimizer=adam], adamw: [optimizer=adamw]}
primary: {adam: [s3, adam], adamw: [s3, adamw]}
"""


@pytest.fixture
def claim(tmp_path, monkeypatch):
    """Return a claim of the user's own, in a folder of his own."""
    file = tmp_path / "configs" / "claim" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(LOSS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return load_claims(["mine"])[0]


def add_block(results, claim, seed, finals, **more):
    """Write the records of a block with these final losses by arm, and its entry in the log."""
    runs = {arm: make(results, arm, seed=seed, final=final).name for arm, final in finals.items()}
    content = {"claim": claim.id, "digest": claim.digest, "scale": "laptop", "seed": seed, "words": {}, "rates": {}}
    content |= {"runs": {"quadratic": runs}, "seconds": 2.0, "trained": 3, **more}
    return decisions.append(results, decisions.BLOCK, **content)


def test_a_block_is_the_mean_of_its_log_ratios(tmp_path, claim):
    block = add_block(tmp_path, claim, 200, {"s3": 0.01, "adam": 0.02, "adamw": 0.04})
    values = block_values(claim, block, tmp_path)
    assert values == {"adam": (pytest.approx(math.log(1 / 2)),), "adamw": (pytest.approx(math.log(1 / 4)),)}


def test_a_run_that_diverged_counts_with_its_first_loss(tmp_path):
    assert log_final_loss(make(tmp_path, final=0.2)) == pytest.approx(math.log(0.2))
    assert log_final_loss(make(tmp_path, "adam", state="diverged")) == pytest.approx(0)
    assert log_final_loss(make(tmp_path, "adamw", final=7)) == pytest.approx(0)


def test_steps_are_the_loss_in_units_of_what_twice_the_steps_are_worth(tmp_path):
    folders = {"s3": make(tmp_path, "s3", final=0.1), "adamw": make(tmp_path, "adamw", final=0.2)}
    frozen = {"T": {"log_loss": math.log(0.2)}, "2T": {"log_loss": math.log(0.1)}}
    cell = Cell(folders=folders, frozen=frozen)
    assert steps(cell, ["s3", "adamw", ["T", "2T"]]) == pytest.approx(math.log(1 / 2))  # half the steps
    with pytest.raises(UserError, match="2T does not end lower than T"):
        steps(Cell(folders=folders, frozen=frozen | {"2T": {"log_loss": 0.0}}), ["s3", "adamw", ["T", "2T"]])


def test_the_gap_is_the_share_that_is_left_open(tmp_path):
    finals = {"signum": 0.2, "adamw": 0.1, "sgd": 0.8}
    cell = Cell(folders={arm: make(tmp_path, arm, final=final) for arm, final in finals.items()}, frozen={})
    assert gap(cell, ["signum", "adamw", "sgd"]) == pytest.approx(1 / 3)  # log 2 of log 8
    assert gap(cell, ["signum", "sgd", "adamw"]) is None  # nothing to close


def test_a_burden_counts_the_loss_above_its_level(tmp_path):
    quiet, spiky = (
        make(tmp_path, "s3", horizon=2000),
        make(tmp_path, "adam", horizon=2000, spikes=range(500, 2000, 300)),
    )
    cell = Cell(folders={"s3": quiet, "adam": spiky}, frozen={})
    assert burden(cell, ["s3", "adam"]) == pytest.approx(-math.log(1 + 5 * 5), rel=0.05)  # five spikes of 1 in 2,000
    assert burden(cell, ["adam", "adam"]) == 0


def test_survival_is_the_share_of_spikes_that_come_again(tmp_path):
    runs = [make_replayed(tmp_path, seed=seed) for seed in range(2)]
    make_arm(tmp_path, runs[0], "half_lr")
    make_arm(tmp_path, runs[1], "half_lr", {150: 4.0})
    for run, share in zip(runs, (0, 1), strict=True):
        cell = Cell(folders={"adamw at 1": tmp_path / run}, frozen={}, replays=read_replays(tmp_path))
        assert survival(cell, ["adamw at 1", "half_lr"]) == share
        assert survival(cell, ["adamw at 1", "placebo"]) is None


def test_the_comparison_that_supports_the_claim_least_decides(claim):
    rng = np.random.default_rng(0)
    good, bad = rng.normal(-1, 0.1, 20), rng.normal(0.5, 0.1, 20)
    found = stand(claim, [{"adam": (a,), "adamw": (b,)} for a, b in zip(good, bad, strict=True)])
    assert (found.worst, found.graded.grade) == ("adamw", CONTRADICTED)
    assert found.each["adam"].grade == SUPPORTED
    found = stand(claim, [{"adam": (a,), "adamw": (b,)} for a, b in zip(good, good + 0.1, strict=True)])
    assert (found.worst, found.graded.grade) == ("adamw", SUPPORTED)
    near = rng.normal(0, 0.02, 30)
    found = stand(claim, [{"adam": (a,), "adamw": (b,)} for a, b in zip(near, near[::-1], strict=True)])
    assert found.graded.grade == EQUAL


def test_the_upper_end_is_the_comparisons_own_and_the_lower_one_is_taken_at_half_the_level(claim):
    values = np.random.default_rng(1).normal(0, 1, 9)
    found = stand(claim, [{"adam": (value,), "adamw": (value - 100,)} for value in values])
    assert found.graded.high == intersected(mean_intervals(values, claim.alpha))[-1, 1]
    assert found.graded.low == intersected(mean_intervals(values, claim.alpha / 2))[-1, 0]


@pytest.mark.slow
def test_the_largest_of_three_means_is_rarely_missed():
    """Three equal means: at any of 40 looks, a statement is false in at most 5% of claims at alpha = 5%."""
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(2000):
        rows = rng.normal(0, 1, (3, 40))
        upper, lower = intersected(mean_intervals(rows, 0.05)), intersected(mean_intervals(rows, 0.05 / 3))
        wrong += upper[:, -1, 1].max() < 0 or lower[:, -1, 0].max() > 0
    assert wrong / 2000 <= 0.05


def test_a_claim_without_blocks_is_undecided_and_says_what_it_needs(claim):
    found = stand(claim, [])
    assert (found.graded.n, found.graded.grade) == (0, UNDECIDED)
    one = stand(claim, [{"adam": (-1.0,), "adamw": (-1.0,)}], seconds=3)
    assert "at least 4 more blocks, 12 s" in one.graded.sentence()


def test_a_block_that_says_nothing_is_counted_as_missing(claim):
    found = stand(claim, [{"adam": (-1.0,), "adamw": ()}, {"adam": (-1.0,), "adamw": (-2.0,)}])
    assert (found.missing, found.graded.n) == (1, 1)


@pytest.mark.usefixtures("undrawn")
def test_a_report_judges_by_the_blocks_of_the_log_alone(tmp_path, claim):
    results = tmp_path / "results"
    rng = np.random.default_rng(3)
    for seed in range(200, 212):
        add_block(results, claim, seed, {"s3": 0.01 * rng.uniform(0.9, 1.1), "adam": 0.05, "adamw": 0.04})
    make(results, "s3", seed=300, final=0.9)  # no block names it
    page, _ = written(results)
    verdicts = {one["id"]: one for one in json.loads((results / "report" / "claims.json").read_text())}
    mine = verdicts["mine"]
    assert (mine["verdict"], mine["grade"], mine["n"]) == ("supported", "supported", 12)
    assert mine["interval"][0] < 0.25 < mine["interval"][1]
    assert mine["endpoint"] == claim.digest
    assert verdicts["C6"]["sentence"] == "No block yet: s3bench decide C6"
    assert verdicts["C3"]["sentence"] == "A theorem; no record with S3 to check it on."  # these lack param_max
    assert "S3 ends lower than the Adams" in page
    assert f"s3bench decide mine --scale laptop --results {results}" in page
    assert "the comparison that supports it least is with adamw" in mine["sentence"]


def test_the_theorem_is_checked_on_every_record_with_one_beta_and_on_no_other(tmp_path):
    for part in ("p=1", "p=3", "nesterov=false", "denominator_beta=0.999", "denominator_beta=0.95"):
        settings = ["task=quadratic", "horizon=30", "measure_every=1", "optimizer=s3", f"optimizer.{part}"]
        assert train(run_config([*settings, f"results_dir={tmp_path}"])) == "finished"
    (theorem,) = (one for one in judge(tmp_path, read_results(tmp_path)) if one.claim.id == "C3")
    assert (theorem.grade, theorem.n) == (SUPPORTED, 4)  # with 0.999 in the denominator nothing bounds it by 1
    assert theorem.effect <= 1.001


def test_a_report_of_blocks_that_say_nothing_is_written_without_their_figure(tmp_path):
    (steady,) = load_claims(["C2"])
    run = make(tmp_path, "adamw", horizon=2000).name  # without a spike
    content = {"claim": "C2", "digest": steady.digest, "scale": "laptop", "seed": 300, "words": {}, "rates": {}}
    runs = {"quadratic": {"adamw at 1": run}}
    decisions.append(tmp_path, decisions.BLOCK, **content, runs=runs, seconds=1.0, trained=1)
    written(tmp_path)
    verdicts = {one["id"]: one for one in json.loads((tmp_path / "report" / "claims.json").read_text())}
    assert "1 of 1 blocks say nothing on it" in verdicts["C2"]["sentence"]
    assert not (tmp_path / "report" / "figures" / "verdicts.png").exists()


def test_a_claim_that_changed_after_its_runs_is_refused(tmp_path, claim):
    results = tmp_path / "results"
    add_block(results, claim, 200, {"s3": 0.01, "adam": 0.05, "adamw": 0.04})
    file = tmp_path / "configs" / "claim" / "mine.yaml"
    file.write_text("# a comment is no change\n" + LOSS, encoding="utf-8")
    refuse_changed(load_claims(["mine"]), decisions.read(results), results)
    file.write_text(LOSS.replace("claimed: 0.9", "claimed: 0.8"), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape("configs/claim/mine.yaml has changed since its blocks")):
        judge(results, read_results(results))


@pytest.mark.usefixtures("claim")
def test_other_detector_parameters_beside_blocks_are_refused(tmp_path):
    (mine,) = load_claims(["mine"])
    add_block(tmp_path / "results", mine, 200, {"s3": 0.01, "adam": 0.05, "adamw": 0.04})
    (tmp_path / "results" / "judge.yaml").write_text("quadratic: {spikes: {k: 6.0, delta: 0.5}}")
    with pytest.raises(UserError, match="would change what spikes are"):
        judge(tmp_path / "results", read_results(tmp_path / "results"))


def test_steps_are_refused_before_a_block_where_they_are_worth_nothing():
    rates = {"T": {"log_loss": 0.0}, "2T": {"log_loss": 0.0}}
    check_rates("loss", rates, {"any": ["s3", "adamw"]})
    for comparison in (["s3", "adamw", ["T", "2T"]], [["s3", "adamw", ["T", "2T"]]]):
        with pytest.raises(NoMeasure, match="2T does not end lower than T"):
            check_rates("steps", rates, {"any": comparison})


def test_a_trend_is_the_change_from_one_horizon_to_the_next(tmp_path):
    finals = {"s3 1": 0.4, "adamw 1": 0.4, "s3 2": 0.1, "adamw 2": 0.2}
    folders = {arm: make(tmp_path, arm[:-2], seed=int(arm[-1]), final=loss) for arm, loss in finals.items()}
    frozen = {"T": {"log_loss": math.log(0.2)}, "2T": {"log_loss": math.log(0.1)}}
    trend = [["s3 1", "adamw 1", ["T", "2T"]], ["s3 2", "adamw 2", ["T", "2T"]]]
    assert steps(Cell(folders=folders, frozen=frozen), trend) == pytest.approx(math.log(1 / 2))


def test_equal_blocks_decide_nothing_and_no_more_are_asked_for(claim):
    found = stand(claim, [{"adam": (0.0,), "adamw": (0.0,)}] * 9)  # such as of runs that all stay at a guess
    assert (found.graded.grade, found.graded.more_blocks) == (UNDECIDED, math.inf)
    assert "all 9 blocks are equal" in found.graded.sentence()


def test_blocks_of_several_scales_have_no_verdict(tmp_path, claim):
    results = tmp_path / "results"
    for seed, scale in ((200, "laptop"), (201, "gpu")):
        add_block(results, claim, seed, {"s3": 0.01, "adam": 0.05, "adamw": 0.04}, scale=scale)
    with pytest.raises(UserError, match="at several scales, gpu, laptop: no verdict"):
        judge(results, read_results(results))


def test_a_record_that_is_gone_is_said(tmp_path, claim):
    block = add_block(tmp_path, claim, 200, {"s3": 0.01, "adam": 0.05, "adamw": 0.04})
    record.remove(tmp_path / block["runs"]["quadratic"]["s3"])
    with pytest.raises(UserError, match="s3"):
        standing(claim, [block], tmp_path)


def test_a_rate_that_another_optimizer_has_too_is_no_evidence():
    (rate,) = load_claims(["C10"])
    (theorem,), (other,) = rate.primary, rate.control
    errors = np.random.default_rng(4).normal(0, 0.02, 20)
    alike = stand(rate, [{theorem: (error,), other: (error,)} for error in errors])
    assert alike.graded.grade == SUPPORTED
    assert grade_of(alike) == NO_EVIDENCE
    assert "consistent with, and no evidence: " in line(alike)
    assert "; less AdamW's: " in line(alike)
    faster = stand(rate, [{theorem: (error,), other: (error - 0.2,)} for error in errors])
    assert grade_of(faster) == SUPPORTED
    slower = stand(rate, [{theorem: (error + 0.2,), other: (error,)} for error in errors])
    assert grade_of(slower) == CONTRADICTED


def test_each_task_of_a_block_is_an_outcome_of_its_own():
    (replays,) = load_claims(["C2"])
    (bounded,) = replays.primary
    assert replays.alpha == pytest.approx(0.05 / 11)
    needed = next(n for n in range(1, 99) if (n + 1) * 0.5**n < replays.alpha)  # all survive: e = 2^n / (n + 1)
    found = stand(replays, [{bounded: (1.0, 1.0)}] * (needed // 2 - 1), seconds=10)
    assert found.graded.grade == UNDECIDED
    assert (found.graded.more_blocks, found.graded.seconds) == (-(-needed // 2) - found.graded.n, 10.0)
    assert stand(replays, [{bounded: (1.0, 1.0)}] * -(-needed // 2)).graded.grade == CONTRADICTED


@pytest.mark.usefixtures("claim")
def test_secondary_runs_are_added_to_their_block(tmp_path):
    text = LOSS + "secondary: {the other way round: [adamw, s3]}\n"
    (tmp_path / "configs" / "claim" / "mine.yaml").write_text(text.replace("adamw: [s3, adamw]}", "}"))
    (mine,) = load_claims(["mine"])
    block = add_block(tmp_path, mine, 200, {"s3": 0.01, "adam": 0.02})
    assert block_values(mine, block, tmp_path) == {"adam": (pytest.approx(math.log(1 / 2)),)}
    other = {"runs": {"quadratic": {"adamw": make(tmp_path, "adamw", seed=200, final=0.04).name}}}
    common = {"claim": "mine", "digest": mine.digest, "seed": 200, "rates": {}}
    decisions.append(tmp_path, decisions.MORE, **common, **other)
    (whole,) = blocks_of(mine, decisions.read(tmp_path))
    assert block_values(mine, whole, tmp_path)["the other way round"] == (pytest.approx(math.log(4)),)


STEPS = """statement: S3 needs half the steps
effect: the steps of S3 over those in which AdamW ends as low
measure: steps
limits: {claimed: 0.55, none: 1.0}
scales:
  laptop: {tasks: [quadratic]}
arms: {s3: [optimizer=s3], adamw: [optimizer=adamw], twice: [optimizer=adamw, horizon=2T]}
primary: {T: [s3, adamw, [adamw, twice]]}
secondary:
  the trend: [[s3, adamw, [adamw, twice]], [s3, adamw, [adamw, twice]]]
"""


@pytest.mark.usefixtures("claim")
def test_a_trend_is_not_judged_by_the_limits_of_what_it_is_the_trend_of(tmp_path):
    (tmp_path / "configs" / "claim" / "mine.yaml").write_text(STEPS, encoding="utf-8")
    halved = load_claims(["mine"])[0]
    rates = {"quadratic": {"adamw": {"log_loss": math.log(0.2)}, "twice": {"log_loss": math.log(0.1)}}}
    blocks = [
        add_block(tmp_path, halved, seed, {"s3": 0.1, "adamw": 0.19 + seed / 2e4}, rates=rates, has_more=True)
        for seed in range(200, 212)
    ]
    verdict = Verdict(claim=halved, grade="", sentence="", standing=standing(halved, blocks, tmp_path))
    said = {one["what"]: one["sentence"] for one in verdict.as_dict()["findings"]}
    assert said["T"].startswith("supported: ")
    assert re.fullmatch(r"1 \[[\d.]+, [\d.]+\] after 12 blocks", said["the trend"])
