"""The labelled test bed: the events follow its rule, and the evaluation counts correctly."""

import subprocess
import sys
from functools import cache

import numpy as np
import pandas as pd
import pytest

from scripts.detector_bed import development, development_2, held_out
from scripts.detector_bed.bed import (
    CLEAR,
    MIN_LOSS,
    MIN_SIGMAS,
    MIXTURES,
    ROUNDING,
    Event,
    LabelledCurve,
    draw,
    evaluate,
    match,
)
from tests.conftest import ROOT

NOISES = {
    "development": {noise for half in development.HALVES for noise in half.noises},
    "development_2": set(development_2.NOISES),
    "held_out": set(held_out.NOISES),
}
every_mixture = pytest.mark.parametrize("mixture", MIXTURES)


@cache
def drawn(mixture):
    """Return a hundred curves."""
    return [draw(seed, mixture) for seed in range(100)]


def truth(curve):
    return [(event.onset, event.end) for event in curve.events]


def recovered(onset, end, shape="sharp", rise=1):
    return Event(onset=onset, end=end, kind="recovered", height=1.0, shape=shape, rise=rise)


def flat(steps, *events, doubtful=()):
    mask = np.zeros(steps, dtype=bool)
    mask[list(doubtful)] = True
    one = np.ones(steps)
    return LabelledCurve(loss=one, events=list(events), family="flat", sigma=0.01 * one, level=one, doubtful=mask)


def excursions(curve):
    """Return how far the noise goes outside of events, in loss and in local standard deviations."""
    noise = curve.loss[curve.clean] - curve.level[curve.clean]
    return noise, noise / curve.sigma[curve.clean]


def rounding(loss):
    """Return the largest rounding error of a log."""
    return ROUNDING * loss


def test_a_seed_gives_one_curve_per_mixture():
    for mixture in MIXTURES:
        for seed in range(5):
            once, again = draw(seed, mixture), draw(seed, mixture)
            assert np.array_equal(once.loss, again.loss, equal_nan=True)
            assert once.events == again.events
            assert np.array_equal(once.doubtful, again.doubtful)
    assert len({len(draw(3, mixture).loss) for mixture in MIXTURES}) == len(MIXTURES)
    assert np.array_equal(draw(3).loss, draw(3, "development").loss, equal_nan=True)


@every_mixture
def test_events_are_in_order_and_the_rest_is_finite(mixture):
    for curve in drawn(mixture):
        assert 300 <= len(curve.loss) <= 20_000
        last = 0
        for event in curve.events:
            assert last <= event.onset < event.end <= len(curve.loss)
            assert event.onset >= 10
            assert event.kind in ("blip", "recovered", "level_shift", "diverged")
            last = event.end
        assert np.isfinite(curve.loss[curve.clean]).all()
        assert (curve.loss[curve.clean] > 0).all()


@every_mixture
def test_every_event_follows_the_rule_in_the_loss_itself(mixture):
    for curve in drawn(mixture):
        _, sigmas = excursions(curve)
        off = rounding(curve.loss[curve.clean]) / curve.sigma[curve.clean]
        for event in curve.events:
            seen = slice(event.onset, event.onset + event.tolerance + 1)
            if not np.isfinite(curve.loss[seen]).all():
                continue
            peak, sigma = curve.loss[seen].max(), curve.sigma[max(0, event.onset - 99) : event.onset + 1].max()
            risen = peak - curve.level[event.onset - 10]
            assert risen >= MIN_LOSS
            assert risen >= MIN_SIGMAS * sigma
            assert risen >= CLEAR * sigma * (sigmas - off).max(initial=0)


@every_mixture
def test_outside_of_events_only_doubtful_steps_meet_the_rule(mixture):
    doubtful = clean = 0
    for curve in drawn(mixture):
        noise, sigmas = excursions(curve)
        loss, unsure = curve.loss[curve.clean], curve.doubtful[curve.clean]
        off = rounding(loss)
        above = (sigmas - off / curve.sigma[curve.clean] > MIN_SIGMAS) & (noise - off > MIN_LOSS)
        assert not (above & ~unsure).any()
        doubtful, clean = doubtful + unsure.sum(), clean + len(unsure)
    assert 0 < doubtful < 0.001 * clean


@pytest.mark.parametrize(
    ("mixture", "most_sigmas", "most", "part"), [("development_2", 2, 0.08, 0), ("held_out", 3, 0.1, 0.02)]
)
def test_nuisances_rise_little(mixture, most_sigmas, most, part):
    some = 0.0
    for curve in drawn(mixture):
        if not curve.events:
            risen = curve.level - pd.Series(curve.level).rolling(1000, min_periods=1).min()
            local = pd.Series(curve.sigma).rolling(1000, min_periods=1).min()
            assert (risen <= np.minimum(most_sigmas * local, max(most, part * curve.level.min())) + 1e-9).all()
            some = max(some, risen.max())
    assert some > 0.01


@every_mixture
def test_a_mixture_draws_all_its_shapes_and_noises(mixture):
    curves = [*drawn(mixture), *(draw(seed, mixture) for seed in range(100, 400))]
    events = [event for curve in curves for event in curve.events]
    shares = MIXTURES[mixture][0].SHAPES
    assert sum(shares.values()) == pytest.approx(1)
    assert {event.shape for event in events} == set(shares)
    assert sum(event.onset < 100 for event in events) > 40
    assert 0.25 < np.mean([not curve.events for curve in curves]) < 0.45
    words = {word for curve in curves for word in curve.family.replace(",", "").split()}
    assert {word for noise in NOISES[mixture] for word in noise.split()} <= words


@pytest.mark.parametrize("mixture", ["development_2", "held_out"])
def test_half_of_the_curves_are_rounded(mixture):
    def is_rounded(loss):
        bits = loss.astype(np.float32).view(np.uint32)  # a float16 and a bfloat16 leave the last 13 empty
        digits = np.array([float(f"{one:.5g}") for one in loss])
        return (loss == np.round(loss, 4)).all() or (loss == digits).all() or ((bits & 0x1FFF) == 0).all()

    share = np.mean([is_rounded(curve.loss[np.isfinite(curve.loss)]) for curve in drawn(mixture)])
    assert 0.3 < share < 0.7


@every_mixture
def test_the_noise_has_the_robust_deviation_that_is_stated(mixture):
    checked = 0
    for curve in drawn(mixture):
        if curve.clean_steps > 3000 and (curve.sigma > 4 * rounding(curve.level)).all():
            low, middle, high = np.quantile(excursions(curve)[1], [0.25, 0.5, 0.75])
            assert (high - low) / 1.349 == pytest.approx(1, abs=0.15), curve.family
            assert middle == pytest.approx(0, abs=0.15), curve.family
            checked += 1
    assert checked > 5


@every_mixture
def test_a_perfect_detector_scores_1_and_a_blind_one_0(mixture):
    curves = drawn(mixture)
    answers = {id(curve.loss): truth(curve) for curve in curves}
    perfect = evaluate(lambda loss: answers[id(loss)], curves)
    assert (perfect["precision"], perfect["recall"], perfect["f1"], perfect["false_per_10k"]) == (1, 1, 1, 0)
    blind = evaluate(lambda _: [], curves)
    assert (blind["recall"], blind["f1"], blind["false_per_10k"]) == (0, 0, 0)
    assert np.isnan(blind["precision"])


def test_evaluation_by_hand():
    curve = flat(1010, recovered(100, 110), recovered(500, 700, shape="ramp", rise=150))
    found = [(96, 99), (104, 108), (430, 560), (800, 801), (900, 905)]
    matched, false = match(found, curve)  # (96, 99) and (104, 108) are as close: the first; (430, 560) is 70 early
    assert matched == {0: 0, 1: 2}
    assert false == [1, 3, 4]
    scores = evaluate(lambda _: found, [curve])
    assert scores["precision"] == pytest.approx(2 / 5)
    assert scores["recall"] == 1
    assert scores["f1"] == pytest.approx(4 / 7)
    assert scores["clean_steps"] == 1010 - 20 - (200 + 150)
    assert scores["false_per_10k"] == pytest.approx(1e4 * 2 / 640)
    assert scores["recall_by_shape"] == {"ramp": 1, "sharp": 1}


def test_an_onset_too_far_off_is_a_miss_and_a_false_event():
    curve = flat(1000, recovered(100, 110))
    assert match([(94, 108)], curve) == ({}, [0])
    assert match([(106, 108)], curve) == ({}, [0])


def test_a_found_event_on_a_doubtful_step_is_neither_right_nor_wrong():
    curve = flat(1000, recovered(100, 110), doubtful=[400])
    assert match([(100, 110), (400, 401), (600, 601)], curve) == ({0: 0}, [2])


def test_one_command_prints_the_table_of_the_docs():
    command = [sys.executable, "-m", "scripts.test_bed", "--curves", "4", "--shapes"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0].startswith("4 held-out curves, ")
    assert [line.split(" | ")[0].strip("| ") for line in lines[4:11]] == [
        "s3bench",
        "OLMo 2",
        "OLMo-core, monitor",
        "OLMo-core, skipped steps",
        "Qwen",
        "Lightning",
        "llm-foundry",
    ]


@pytest.mark.slow
def test_the_docs_show_the_table_of_the_test_bed():
    command = [sys.executable, "-m", "scripts.test_bed"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    table = "\n".join(line for line in printed.splitlines() if line.startswith("|"))
    assert table in (ROOT / "docs" / "spikes.md").read_text(encoding="utf-8")
