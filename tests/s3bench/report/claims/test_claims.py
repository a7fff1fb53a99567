"""The claims' verdicts on simulated records in which each claim is true, false, or too little is known."""

import importlib
import inspect
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from s3bench.report.analysis.results import read_results
from s3bench.report.analysis.spike_onsets import growth
from s3bench.report.analysis.update_rules import DEFAULTS, RULES, known_rule
from s3bench.report.claims import paper
from s3bench.report.claims.evidence import COLUMNS, OF_SHOCK, Known, role
from s3bench.report.claims.text import as_json, as_markdown
from s3bench.report.claims.verdicts import REFUTED, SUPPORTED, UNDECIDED, Claim, mean_finding, with_verdicts
from s3bench.report.stats.paired_tests import signed_rank_p
from s3bench.report.write import write_report
from tests.records import make

SEEDS = 8
PARTS = {"s3": (3.0, True, True), "s3 variant": (1.0, True, True)}


_calls = itertools.count()


@pytest.fixture(autouse=True)
def _counted_anew():
    """The same noise in every order of the tests, and other noise in every table of one."""
    global _calls
    _calls = itertools.count()


def rows(optimizers, *, seeds=SEEDS, task="t", multipliers=(1.0, 3.0), horizon=100, noise=0.01, **values):
    """A table of runs: `values` gives columns as numbers, or as functions of (optimizer, multiplier, random)."""
    random = np.random.default_rng([1, next(_calls)])
    table = []
    for optimizer in optimizers:
        for multiplier in multipliers:
            for seed in range(seeds):
                row = dict.fromkeys(COLUMNS, math.nan)
                row |= {"task": task, "ladder": "ladder", "horizon": horizon, "optimizer": optimizer, "seed": seed}
                row |= {"lr_multiplier": multiplier, "state": "finished", "steps": 1000, "initial_loss": 4.0}
                row |= {"spikes": 0, "measured": True}
                if optimizer in PARTS:
                    row["p"], row["same_beta"], row["look_ahead"] = PARTS[optimizer]
                for name, value in values.items():
                    row[name] = value(optimizer, multiplier, random) if callable(value) else value
                row["final_loss"] *= math.exp(noise * random.standard_normal())
                table.append(row)
    return pd.DataFrame(table, columns=COLUMNS)


def shocked(*, step=70, dose=100.0, **peaks):
    """A table of shocked runs: `peaks` gives those of each optimizer, as numbers or functions of random."""
    table = rows(list(peaks), final_loss=1.0, own_update=0.9).assign(kind="gradient", dose=dose, step=step, length=1)
    random = np.random.default_rng([2, next(_calls)])
    of = [peaks[name](random) if callable(peaks[name]) else peaks[name] for name in table.optimizer]
    return table.assign(peak=of + 0.01 * random.standard_normal(len(table)))


NONE = pd.DataFrame(columns=[*COLUMNS, *OF_SHOCK])


def judge(name, table, shocks=NONE):
    rule = next(rule for rule in paper.CLAIMS if rule.id == name)
    evidence = rule.judge(Known(table, shocks))
    claim = Claim(id=name, statement=rule.statement, rule=rule.words)
    decided = with_verdicts(replace(claim, **vars(evidence)))
    json.loads(as_json([decided]))
    assert decided.sentence.startswith(decided.verdict.capitalize())
    return decided


def verdict(name, table, shocks=NONE):
    return judge(name, table, shocks).verdict


def check(name, true, false, underpowered):
    assert verdict(name, true) == SUPPORTED
    assert verdict(name, false) == REFUTED
    assert verdict(name, underpowered) == UNDECIDED
    assert verdict(name, true.iloc[:0]) == UNDECIDED


def losses(**of):
    return lambda optimizer, *_: of.get(optimizer, 1.0)


def test_c1_signum_close_to_adamw_is_support_and_far_from_it_is_not():
    two = ("signum", "adamw")
    check(
        "C1",
        rows(two, final_loss=losses(signum=1.01)),
        rows(two, final_loss=losses(signum=1.2)),
        rows(two, final_loss=losses(signum=1.01), noise=0.2),
    )


def test_c2_larger_updates_before_spikes_are_support_and_usual_ones_are_not():
    def grown(by, spread=0.05):
        return rows(["adamw"], spikes=1, before_spikes=lambda _, __, r: by + spread * r.standard_normal())

    check("C2", grown(0.7), grown(0.0), grown(0.1, spread=0.6))


def test_c3_one_update_beyond_one_is_enough_to_refute():
    def largest(value):
        return rows(["s3"], own_update=lambda _, __, r: min(value, value * r.uniform(0.9, 1.1)))

    assert verdict("C3", largest(0.99)) == SUPPORTED
    assert verdict("C3", largest(1.2)) == REFUTED
    assert verdict("C3", rows(["s3"])) == UNDECIDED  # nothing was measured
    one = largest(0.9)
    one.loc[3, "own_update"] = 1.01
    assert verdict("C3", one) == REFUTED
    shocks = shocked(s3=0.5)
    assert verdict("C3", largest(0.9), shocks) == SUPPORTED
    assert verdict("C3", largest(0.9), shocks.assign(own_update=1.2)) == REFUTED
    assert judge("C3", rows([]), shocks).findings[0].where == "t, shocked"


def test_c2_is_judged_by_what_a_bound_spares_late_beyond_what_it_spares_early():
    spikes = rows(["adamw"], spikes=1, before_spikes=lambda _, __, r: 0.7 + 0.05 * r.standard_normal())
    early = shocked(step=20, adamw=1.0, adamw_same=0.7)
    for late, said in ((0.3, SUPPORTED), (1.0, REFUTED), (lambda r: 0.7 + r.standard_normal(), UNDECIDED)):
        shocks = pd.concat([early, shocked(step=70, adamw=1.0, adamw_same=late)])
        assert verdict("C2", spikes, shocks) == said
        assert verdict("C2", rows([]), shocks) == said
        assert judge("C2", rows([]), shocks).missing  # spikes that came by themselves
    late = shocked(step=70, adamw=1.0, adamw_same=2.0)
    for alone in (late, pd.concat([late, early.assign(dose=10.0)])):  # without as strong a shock early
        assert verdict("C2", spikes, alone) == SUPPORTED  # by the spikes alone
        assert verdict("C2", rows([]), alone) == UNDECIDED


def test_c7_counts_the_spikes_after_strong_shocks_too():
    rare = rows(("adamw", "adamw_same"), **spiking(adamw=8))

    def after(dose=100.0, **rates):
        table = shocked(dose=dose, **dict.fromkeys(rates, 1.0))
        random = np.random.default_rng([3, next(_calls)])
        return table.assign(spikes=[random.poisson(rates[name]) for name in table.optimizer])

    for rates, said in (({"adamw": 6, "adamw_same": 0}, SUPPORTED), ({"adamw": 3, "adamw_same": 4}, REFUTED)):
        assert verdict("C7", rare, after(**rates)) == said
        assert verdict("C7", rows([]), after(**rates)) == said
    none = judge("C7", rows([]), after(adamw=0, adamw_same=0))
    assert none.verdict == UNDECIDED
    assert none.missing[-1] == "t after strong shocks: spikes of either in 6 seeds"
    assert verdict("C7", rows([]), after(dose=10.0, adamw=3, adamw_same=4)) == UNDECIDED


def test_a_claim_is_not_supported_without_all_comparisons_that_it_names():
    five = ("s3", "adam", "adamw", "adamw_95", "signsgd")
    table = rows(five, final_loss=losses(s3=0.9))
    of_signsgd = table.optimizer == "signsgd"
    for lacking in (
        table[~of_signsgd | (table.lr_multiplier == 1)],  # not tuned
        table.assign(seed=table.seed + 100 * of_signsgd),  # on other seeds
        table.assign(final_loss=table.final_loss.where(~of_signsgd | (table.seed > 0), 0.0)),
    ):
        claim = judge("C6", lacking)
        assert [finding.verdict for finding in claim.findings] == [SUPPORTED] * 3
        assert (claim.verdict, len(claim.absent)) == (UNDECIDED, 1)
        assert claim.sentence.endswith("; of what it names 1 cannot be compared.")
        assert "s3 and signsgd" in claim.as_dict()["missing"][0]
    assert judge("C8", pd.concat([rows(["s3"], final_loss=1.0), rows(["s3 variant"], final_loss=1.2)])).absent
    three = rows(
        ("s3", "adamw", "adamw_95"), multipliers=(0.1, 1.0, 10.0), final_loss=lambda o, m, _: 1 + (o != "s3") * m
    )
    elsewhere = three.optimizer == "adamw_95"
    other_grid = three.assign(lr_multiplier=three.lr_multiplier.where(~elsewhere, 3 * three.lr_multiplier))
    assert (judge("C9", three).verdict, judge("C9", other_grid).verdict) == (SUPPORTED, UNDECIDED)


def test_few_seeds_decide_nothing_however_many_runs_or_steps_they_have():
    grown = rows(("adam", "adamw"), seeds=1, multipliers=(1.0, 3.0, 10.0), spikes=1, before_spikes=0.7)
    assert judge("C2", grown).findings == []
    for spikes in ({"adamw": 9}, {"adamw": 9, "s3": 12}):
        one = rows(("s3", "adamw"), seeds=1, **spiking(**spikes)).assign(steps=8000)
        assert verdict("C4", one) == UNDECIDED


def test_spikes_that_come_in_one_burst_are_one_observation():
    table = rows(("s3", "adamw"), **spiking()).assign(steps=600)
    burst = (table.optimizer == "s3") & (table.lr_multiplier == 10) & (table.seed == 3)
    finding = judge("C4", table.assign(spikes=15 * burst)).findings[0]
    assert finding.low > finding.refuting  # as if they were independent
    assert finding.verdict == UNDECIDED


def test_eight_single_spikes_do_not_tell_a_quarter_from_a_half():
    table = rows(("adamw", "adamw_same"), **spiking())
    one_each = (table.optimizer == "adamw") & (table.lr_multiplier == 10)
    finding = judge("C7", table.assign(spikes=1 * one_each)).findings[0]
    assert finding.effect == 0
    assert finding.high > 0.25
    assert finding.verdict == UNDECIDED


def test_between_its_limits_each_side_has_its_own_test():
    def finding(logs):
        made = mean_finding(logs, 0.0, math.log(0.99), ratio=True, where="t", what="x")
        return with_verdicts(Claim(id="C6", statement="", rule="", findings=[made])).findings[0]

    assert finding(-0.007 + 1e-5 * np.arange(8)).verdict == REFUTED  # surely above 0.99, though surely below 1 too
    logs = np.array([-0.0005, -0.001, -0.0015, 0.002, -0.01, -0.012, -0.014, -0.016])
    between = finding(logs)
    assert 0.99 < between.effect < between.high < 1
    assert between.p_holm == signed_rank_p(logs) > 0.05 > signed_rank_p(-logs, greater=True)
    assert between.verdict == UNDECIDED


def test_one_of_many_findings_refutes_only_after_a_correction_over_all_of_them():
    def both(off, tasks):
        return pd.concat(
            rows(("signum", "adamw"), task=f"t{number}", final_loss=losses(signum=1.2 if number == off else 1.0))
            for number in range(tasks)
        )

    assert verdict("C1", both(0, 12)) == REFUTED  # one-sided, 12 / 256
    few = both(0, 13)
    assert verdict("C1", few) == UNDECIDED
    assert verdict("C1", both(None, 13)) == SUPPORTED  # every one of them has to, so there is nothing to correct for


def test_a_best_learning_rate_at_the_grids_edge_is_said():
    def steep(_, multiplier, __):
        return 1 / multiplier

    table = rows(("signum", "adamw"), multipliers=(1.0, 3.0, 10.0), final_loss=steep)
    assert judge("C1", table).missing == [
        f"t: a longer grid for {name}, best at its edge" for name in ("signum", "adamw")
    ]
    inside = rows(("signum", "adamw"), multipliers=(1.0, 3.0, 10.0), final_loss=lambda _, m, __: abs(m - 3) + 1)
    assert judge("C1", inside).missing == []


@pytest.mark.parametrize("name", ["C1", "C4", "C5", "C6", "C8", "C10"])
def test_what_was_not_tuned_says_nothing(name):
    all_of_them = ("s3", "s3 variant", "adam", "adamw", "adamw_95", "signsgd", "signum")
    table = pd.concat(
        rows(all_of_them, multipliers=(1.0,), horizon=horizon, final_loss=1.0, smallest_gradient=1 / horizon)
        for horizon in (100, 200, 400)
    )
    known = Known(table, NONE)
    (evidence,) = [rule.judge(known) for rule in paper.CLAIMS if rule.id == name]
    assert not evidence.findings
    assert evidence.missing


def spiking(**rates):
    """Spikes of each optimizer at ×10, none at ×1; ×1 is best."""

    def spikes(optimizer, multiplier, random):
        return int(random.poisson(rates.get(optimizer, 0))) if multiplier == 10 else 0

    def final_loss(_, multiplier, __):
        return 1.0 if multiplier == 1 else 2.0

    return {"multipliers": (1.0, 10.0), "spikes": spikes, "final_loss": final_loss}


def test_c4_is_about_ten_times_the_rate_that_is_best_for_adamw():
    two = ("s3", "adamw")
    check(
        "C4",
        rows(two, **spiking(adamw=5)),
        rows(two, **spiking(adamw=1, s3=6)),
        rows(two, seeds=2, **spiking(adamw=2)),
    )
    assert verdict("C4", rows(two, final_loss=1.0)) == UNDECIDED  # no runs at ten times
    few = rows(two, **spiking(adamw=5)).assign(steps=100)
    assert verdict("C4", few) == UNDECIDED  # fewer spikes than AdamW, in too few steps to say "rarely"


def test_c5_needs_runs_of_twice_the_steps():
    def both(s3, noise=0.01):
        short, long = (
            rows(
                ["s3", "adamw", "adamw_95"],
                horizon=h,
                noise=noise,
                task=f"t{h}",
                final_loss=losses(s3=s3 if h == 100 else 0.5, adamw=1.0 + 100 / h),
            )
            for h in (100, 200)
        )
        return pd.concat([short, long.assign(final_loss=lambda table: table.final_loss)])

    check("C5", both(0.9), both(1.9), both(1.02, noise=0.1))
    assert verdict("C5", both(0.9)[lambda table: table.horizon == 100]) == UNDECIDED


def test_c6_has_to_hold_against_each_of_the_tuned_baselines():
    five = ("s3", "adam", "adamw", "adamw_95", "signsgd")
    check(
        "C6",
        rows(five, final_loss=losses(s3=0.9)),
        rows(five, final_loss=losses(s3=0.9, adamw_95=0.85)),
        rows(five, final_loss=losses(s3=0.97), noise=0.1, seeds=6),
    )
    assert verdict("C6", rows(five, final_loss=losses(s3=0.999), noise=0.001)) == REFUTED  # lower by less than matters
    assert verdict("C6", rows(five[:4], final_loss=losses(s3=0.9))) == UNDECIDED  # SignSGD is missing


def test_c7_equal_betas_must_avoid_most_spikes():
    two = ("adamw", "adamw_same")
    check(
        "C7",
        rows(two, **spiking(adamw=8)),
        rows(two, **spiking(adamw=8, adamw_same=7)),
        rows(two, **spiking(adamw=0.3)),
    )


def test_c8_every_part_must_help():
    def variants(p1, other, plain, noise=0.01):
        whole = rows(["s3"], final_loss=1.0, noise=noise)
        parts = [
            rows(["s3 variant"], final_loss=loss, noise=noise).assign(p=p, same_beta=same, look_ahead=ahead)
            for loss, p, same, ahead in ((p1, 1.0, True, True), (other, 3.0, False, True), (plain, 3.0, True, False))
        ]
        return pd.concat([whole, *parts])

    check("C8", variants(1.1, 1.2, 1.1), variants(1.1, 1.2, 1.0, noise=0.002), variants(1.1, 1.2, 1.05, noise=0.1))


def test_c9_is_about_how_much_the_learning_rate_matters():
    three = ("s3", "adamw", "adamw_95")

    def steepness(s3, noise=0.01):
        def final_loss(optimizer, multiplier, _):
            return 1.0 + (s3 if optimizer == "s3" else 0.5) * abs(math.log10(multiplier))

        return rows(three, multipliers=(0.1, 1.0, 10.0), final_loss=final_loss, noise=noise)

    check("C9", steepness(0.1), steepness(1.5), steepness(0.45, noise=0.3))


def test_c10_compares_the_slope_with_a_quarter():
    def falling(slope, noise=0.02):
        return pd.concat(
            [
                rows(
                    ["s3"],
                    horizon=h,
                    task=f"t{h}",
                    final_loss=1.0,
                    smallest_gradient=lambda _, __, r, h=h: h**slope * math.exp(noise * r.standard_normal()),
                )
                for h in (100, 400, 1600)
            ]
        )

    check("C10", falling(-0.5), falling(-0.1), falling(-0.25, noise=0.3))


def test_a_run_that_diverged_counts_with_its_first_loss():
    table = rows(("signum", "adamw"), final_loss=losses(signum=4.0), noise=0.0)  # as evidence.table makes of inf
    assert verdict("C1", table) == REFUTED


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"_target_": "optimizers.S3", "p": 3.0, "denominator_beta": None, "nesterov": True}, "s3"),
        ({"_target_": "optimizers.S3", "p": 2.0}, "s3 variant"),
        ({"_target_": "optimizers.S3", "p": 3.0, "denominator_beta": 0.999}, "s3 variant"),
        ({"_target_": "torch.optim.AdamW", "betas": [0.9, 0.95]}, "adamw_95"),
        ({"_target_": "torch.optim.AdamW", "betas": [0.8, 0.9]}, None),
        ({"_target_": "torch.optim.Adam", "betas": [0.9, 0.999]}, "adam"),
        ({"_target_": "optimizers.SignSGD", "momentum": 0.95}, "signum"),
        ({"_target_": "optimizers.SignSGD", "momentum": 0.0}, "signsgd"),
        ({"_target_": "torch.optim.SGD"}, None),
        ({"_target_": "optimizers.S3", "p": 1.0, "beta": 0.5}, None),
        ({"_target_": "torch.optim.AdamW", "eps": 1.0}, None),
        ({"_target_": "torch.optim.AdamW", "eps": 1e-8, "maximize": False}, "adamw"),
        ({"_target_": "torch.optim.AdamW", "maximize": True}, None),
        ({"_target_": "mine.S3"}, None),
        ({"_target_": "torch.optim.AdamW", "amsgrad": True}, None),
        ({"_target_": "torch.optim.adamw.AdamW"}, "adamw"),
    ],
)
def test_claims_know_optimizers_by_their_settings(settings, expected):
    assert role(settings) == expected


def test_what_a_yaml_leaves_out_is_known_as_the_classes_have_it():
    for target, name in RULES.items():
        module, _, attribute = target.rpartition(".")
        signature = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
        assert known_rule({"_target_": target})[0] == name
        assert DEFAULTS[name] == {key: signature[key].default for key in DEFAULTS[name]}


@pytest.mark.parametrize("both", [False, True])
def test_two_settings_of_an_optimizer_are_not_two_seeds(tmp_path, both):
    for optimizer, decay, multiplier, seed in itertools.product(("signum", "adamw"), (0.01, 0.1), (1, 10), range(6)):
        if decay == 0.01 or optimizer == "signum" or both:
            overrides = [f"optimizer.weight_decay={decay}"]
            make(tmp_path, optimizer, multiplier, seed=seed, final=0.01 + seed / 1000 + decay, overrides=overrides)
    claim = paper.judge(read_results(tmp_path))[0]
    assert [finding.n for finding in claim.findings] == [6]
    assert claim.findings[0].effect == pytest.approx(1)
    said = "one setting of signum; signum (weight_decay=0.01) is judged, signum (weight_decay=0.1) is not"
    assert any(said in what for what in claim.missing)


def test_growth_before_an_onset_by_hand():
    sizes = np.full(100, 2.0)
    sizes[55:60] = 6.0
    assert growth(sizes, [60]) == pytest.approx([math.log(3)])
    assert growth(sizes, [10]).size == 0  # too early to know what is usual
    sizes[58] = math.nan
    assert growth(sizes, [60]).size == 0


@pytest.mark.usefixtures("undrawn")
def test_a_report_judges_all_claims_and_says_what_is_missing(tmp_path):
    for optimizer in ("s3", "adamw", "adam", "adamw_95", "signsgd"):
        for seed, multiplier in itertools.product(range(SEEDS), (1, 10)):
            make(
                tmp_path,
                optimizer,
                multiplier,
                seed=seed,
                final=(0.01 if optimizer == "s3" else 0.02) * (1 + seed / 1000),
            )
    report = write_report(tmp_path).parent
    found = {claim["id"]: claim for claim in json.loads((report / "claims.json").read_text())}
    assert list(found) == [f"C{number}" for number in range(1, 11)]
    assert found["C6"]["verdict"] == SUPPORTED
    assert (found["C6"]["n"], found["C6"]["effect"]) == (SEEDS, pytest.approx(0.5, rel=1e-3))
    assert found["C5"]["verdict"] == UNDECIDED
    assert found["C5"]["missing"]
    assert found["C5"]["n"] == 0
    for claim in found.values():
        assert claim["sentence"]
        assert claim["verdict"] == UNDECIDED or claim["n"] > 0
    assert "## C6" in (report / "claims.md").read_text()


def test_markdown_has_every_finding_with_its_n():
    claim = judge("C1", rows(("signum", "adamw"), final_loss=losses(signum=1.01)))
    text = as_markdown([claim])
    assert "n = 8 seeds" in text
    assert f"| C1 | {claim.statement} | {claim.sentence} |" in text
    assert claim.sentence in text


def test_runs_of_several_scales_are_judged_and_every_verdict_says_so(tmp_path):
    for optimizer, seed, multiplier in itertools.product(("signum", "adamw"), range(SEEDS), (1, 10)):
        for scale in ("laptop", "gpu"):
            horizon = 200 if scale == "gpu" else 100
            folder = make(tmp_path, optimizer, multiplier, seed=seed, horizon=horizon)
            text = (folder / "config.yaml").read_text()
            assert "\nscale: null\n" in text
            (folder / "config.yaml").write_text(text.replace("\nscale: null\n", f"\nscale: {scale}\n"))
    found = paper.judge(read_results(tmp_path))
    assert found[0].as_dict()["scale"] == "gpu, laptop"
    assert found[0].missing[0] == "one scale: runs of several, gpu and laptop, are judged together"
    assert "at scale gpu, laptop" in as_markdown(found)
    make(tmp_path, "adam")  # by hand
    assert paper.judge(read_results(tmp_path))[0].scale == "gpu, laptop, none"
