"""The published definitions: cases computed by hand, and each rule against a slow loop that follows its text."""

import math
import statistics
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3bench.spikes import published_rules as rules
from s3bench.spikes.published import DEFINITIONS, OF_RECORDS, SPAM, counts, no_counts, pool, scores
from s3bench.spikes.published_rules import events, spam_scores
from s3bench.spikes.rolling import trailing_mean_and_sd
from scripts.detector_bed.falling import falling

NAN, INF = math.nan, math.inf


def flat(steps=3000):
    return 1 + 0.02 * np.random.default_rng(0).standard_normal(steps)


def flagged(definition, values):
    return np.flatnonzero(definition(values)).tolist()


def sd(window, ddof):
    mean = np.mean(window)
    with np.errstate(invalid="ignore"):
        return math.sqrt(np.sum((np.asarray(window) - mean) ** 2) / (len(window) - ddof))


def slow_olmo2(x):
    flags = [False] * min(len(x), 1000)
    for t in range(1000, len(x)):
        with np.errstate(invalid="ignore"):
            away = abs(x[t] - np.mean(x[t - 1000 : t]))
        flags.append(bool(away >= 7 * sd(x[t - 1000 : t], 1) and away > 0))
    return flags


def slow_olmo_core_monitor(x):
    flags, history = [], []
    for value in x:
        spike = False
        if len(history) == 128:
            deviation = sd(history, 0)
            spike = not deviation < 1e-10 and bool(value > np.mean(history) + 6 * deviation)
        flags.append(spike)
        history = [*history, value][-128:]
    return flags


def slow_olmo_core_skip(x):
    flags = []
    for t, value in enumerate(x):
        before = x[max(0, t - 128) : t]
        if len(before) + 1 < 64:
            flags.append(False)
        else:
            with np.errstate(invalid="ignore"):
                flags.append(not value - np.mean(before) <= 6 * sd(before, 1))
    return flags


def slow_qwen(x):
    flags = []
    for t, value in enumerate(x):
        around = [v for v in x[max(0, t - 100) : t + 101] if math.isfinite(v)]
        flags.append(bool(around) and value > statistics.median(around) + 0.1)
    return flags


def slow_lightning(x):
    flags, kept = [], []
    for t, value in enumerate(x):
        if not math.isfinite(value):
            flags.append(t > 0)
            continue
        mean = np.mean(kept[-10:]) if kept else NAN
        better = bool(kept) and value - kept[-1] <= 0
        spike = t >= 1 and not better and bool(abs(value - mean) >= abs(2.0 * mean))
        flags.append(spike)
        if not spike:
            kept.append(value)
    return flags


def slow_llm_foundry(x):
    flags, window, count = [], [], 0
    for value in x:
        flag = False
        if len(window) == 100:
            with np.errstate(invalid="ignore"):
                high = bool(value >= np.mean(window) * 2)
            count = count + 1 if high else 0
            flag = count > 4
        flags.append(flag)
        window = [*window, value][-100:]
    return flags


def curve(seed, kind):
    """Draw 300 to 1600 steps with spikes, a plateau, and values that are not finite."""
    rng = np.random.default_rng(seed)
    x = falling(int(rng.integers(300, 1600)), noise=rng.uniform(0, 0.05), seed=seed)
    for _ in range(4):
        onset, length = int(rng.integers(len(x))), int(rng.integers(1, 40))
        x[onset : onset + length] += rng.exponential(2.0)
    if kind == "huge":
        x[int(rng.integers(len(x)))] = 1e12
    if kind in ("nan", "inf"):
        onset = int(rng.integers(len(x)))
        x[onset : onset + int(rng.integers(1, 8))] = NAN if kind == "nan" else INF
    return x


@pytest.mark.parametrize("kind", ["finite", "huge", "nan", "inf"])
@pytest.mark.parametrize("name", ["olmo2", "olmo_core_monitor", "olmo_core_skip", "qwen", "lightning", "llm_foundry"])
def test_a_definition_is_the_loop_that_its_source_describes(name, kind):
    for seed in range(6):
        x = curve(seed, kind)
        assert getattr(rules, name)(x).tolist() == globals()[f"slow_{name}"](x.tolist()), seed


def with_many_candidates(kind, seed):
    """Draw a curve on which the fast code, which skips what cannot be flagged, has many candidates."""
    rng = np.random.default_rng(seed)
    steps = int(rng.choice([9, 10, 11, 12, 30, 199, 200, 201, 249, 250, 251, 300, 700]))
    x = {
        "about zero": lambda: rng.standard_normal(steps),
        "heavy tails": lambda: np.exp(rng.normal(0, 1.5, steps)),
        "few values": lambda: rng.integers(1, 5, steps) / 10,
        "negative": lambda: -2 + 0.3 * rng.standard_t(2, steps),
        "three times": lambda: 0.1 * rng.choice([1.0, 1, 1, 3], steps),
    }[kind]()
    if seed % 3 == 0:
        onset = int(rng.integers(steps))
        x[onset : onset + 3] = rng.choice([NAN, INF, -INF])
    return x


@pytest.mark.parametrize("kind", ["about zero", "heavy tails", "few values", "negative", "three times"])
@pytest.mark.parametrize("name", ["qwen", "lightning"])
def test_the_fast_code_skips_nothing_that_the_rule_flags(name, kind):
    for seed in range(40):
        x = with_many_candidates(kind, seed)
        with np.errstate(invalid="ignore"):
            assert getattr(rules, name)(x).tolist() == globals()[f"slow_{name}"](x.tolist()), seed


def test_olmo2_by_hand():
    x = [1.0, 3.0] * 500  # mean 2, sample standard deviation 1.0005
    assert flagged(rules.olmo2, [*x, 9.01]) == [1000]
    assert flagged(rules.olmo2, [*x, 9.0]) == []
    assert flagged(rules.olmo2, [*x, -5.01]) == [1000]  # to either side
    assert flagged(rules.olmo2, [2.0] * 1001) == []  # 0 away is not 7 times 0
    assert flagged(rules.olmo2, [2.0] * 1000 + [2.1]) == [1000]


def test_an_outlier_hides_the_next_one_from_olmo2():
    x = np.concatenate([np.tile([1.0, 3.0], 500), [200.0], np.tile([1.0, 3.0], 100), [40.0]])
    assert flagged(rules.olmo2, x) == [1000]


def test_olmo_core_by_hand():
    x = [1.0, 3.0] * 64  # mean 2, population standard deviation 1, sample 1.0039
    assert flagged(rules.olmo_core_monitor, [*x, 8.01]) == [128]
    assert flagged(rules.olmo_core_monitor, [*x, 8.0]) == []
    assert flagged(rules.olmo_core_monitor, [*x, -99.0]) == []  # only above
    assert flagged(rules.olmo_core_monitor, [2.0] * 128 + [99.0]) == []  # no spread at all: not judged
    assert flagged(rules.olmo_core_skip, [*x, 8.03]) == [128]
    assert flagged(rules.olmo_core_skip, [*x, 8.01]) == []
    assert flagged(rules.olmo_core_skip, [2.0] * 128 + [99.0]) == [128]


def test_olmo_core_skips_from_the_64th_step_on():
    assert flagged(rules.olmo_core_skip, [2.0] * 63 + [3.0]) == [63]
    assert flagged(rules.olmo_core_skip, [2.0] * 62 + [3.0]) == []


def test_qwen_by_hand():
    x = np.full(400, 2.0)
    x[200] = 2.11
    x[300] = 2.09
    assert flagged(rules.qwen, x) == [200]
    x[100:] += 1  # a rise that stays is flagged until it is half of the window
    assert flagged(rules.qwen, x)[:1] == [200]
    ramp = np.full(400, 2.0)
    ramp[100:190] += 1
    assert flagged(rules.qwen, ramp) == list(range(100, 190))


def test_lightning_by_hand():
    assert flagged(rules.lightning, [1.0] * 10 + [3.0, 1.0]) == [10]
    assert flagged(rules.lightning, [1.0] * 10 + [2.99, 1.0]) == []
    assert flagged(rules.lightning, [1.0] * 10 + [3.0] * 4) == [10, 11, 12, 13]  # flagged ones are not averaged in
    assert flagged(rules.lightning, [1.0, 3.0]) == [1]
    assert flagged(rules.lightning, [NAN, 1.0, NAN, INF, 1.0]) == [2, 3]


def test_llm_foundry_by_hand():
    x = [1.0] * 100
    assert flagged(rules.llm_foundry, [*x, *[9.0] * 4, 1.0]) == []
    # the means before the six steps: 1, 1.08, 1.16, 1.24, 1.32, 1.40
    assert flagged(rules.llm_foundry, [*x, *[9.0] * 6, 1.0]) == [104, 105]
    assert flagged(rules.llm_foundry, [1.0] * 99 + [9.0] * 9) == [104, 105, 106, 107]  # step 99 is too early


def test_which_definitions_miss_a_nan():
    x = flat()
    x[2000:2003] = NAN
    seen = {definition.name: len(events(definition.flags(x))) for definition in DEFINITIONS}
    assert seen == {
        "OLMo 2": 0,
        "OLMo-core, monitor": 0,
        "OLMo-core, skipped steps": 1,
        "Qwen": 0,
        "Lightning": 1,
        "llm-foundry": 0,
    }
    assert flagged(rules.olmo_core_skip, x) == list(range(2000, 2131))  # and 128 steps more


def test_a_nan_hides_spikes_for_the_length_of_the_window():
    x = flat()
    x[2000] = NAN
    x[2100] += 50
    assert flagged(rules.olmo2, x) == []
    assert flagged(rules.olmo_core_monitor, x) == []
    assert flagged(rules.qwen, x) == [2100]


def test_qwen_takes_a_steep_fall_for_spikes():
    assert flagged(rules.qwen, falling(3000))[:10] == list(range(10))


def test_spam_by_hand():
    gradients = np.array([[1.0, 1.0], [-1.0, 1.0], [4.0, NAN]])
    assert spam_scores(gradients)[:, 0].tolist() == [0.5, 0.5, 2.0]
    assert np.isnan(spam_scores(gradients)[:, 1]).all()
    x = np.ones(100)
    x[40] = 200  # over a mean of 2.99
    assert np.flatnonzero(spam_scores(x) > 50).tolist() == [40]


def test_events_are_runs_with_short_gaps_closed():
    flags = np.zeros(40, dtype=bool)
    flags[[3, 4, 9, 20, 26, 39]] = True
    assert events(flags) == [(3, 10), (20, 21), (26, 27), (39, 40)]
    assert events(flags, gap=1) == [(3, 5), (9, 10), (20, 21), (26, 27), (39, 40)]
    assert events([]) == []
    assert events([False]) == []


def test_scores_are_in_the_units_of_their_definitions():
    loss = falling(2000, noise=0.01)
    loss[1500:1510] += 4
    table = scores(loss, np.ones(2000)).set_index(["definition", "series"])
    assert len(table) == 11  # six on the loss, five on the gradient norm
    assert ("Qwen", "gradient norm") not in table.index
    row = table.loc[("OLMo 2", "loss")]
    assert row["score"] == pytest.approx(100 * row["flagged"] / 2000)
    row = table.loc[("Qwen", "loss")]
    assert row["flagged"] >= 10
    assert row["score"] == pytest.approx(1e4 * row["flagged"] / 2000)
    row = table.loc[("llm-foundry", "loss")]
    assert (row["score"], row["unit"], row["events"]) == (6, "steps", 1)  # the fifth to the tenth
    row = table.loc[("Lightning", "loss")]
    assert (row["score"], row["unit"], row["events"]) == (10, "steps", 1)
    assert (table.xs("gradient norm", level="series")["events"] == 0).all()


def test_a_run_too_short_to_be_judged_has_no_score_rather_than_zero():
    table = scores(falling(500)).set_index("definition")
    assert np.isnan(table.loc["OLMo 2", "score"])
    assert table.loc["OLMo-core, monitor", "score"] == 0
    assert scores([])["score"].isna().all()


def test_counts_agree_with_the_scores():
    loss, norm = falling(500), falling(500, seed=1)
    loss[300:310] += 9
    loss[400] += 9
    found = {
        (one.name, series): row for (one, series), row in zip(OF_RECORDS, counts(loss, norm).tolist(), strict=True)
    }
    assert found[("Lightning", "loss")] == [11, 2, 500]
    assert found[("OLMo 2", "loss")] == [0, 0, 0]  # too short
    table = scores(loss, norm)
    keys = list(zip(table.definition, table.series, strict=True))
    assert found == dict(zip(keys, table[["flagged", "events", "steps"]].to_numpy().tolist(), strict=True))
    assert not no_counts().any()
    assert no_counts().shape == counts(loss, norm).shape


def test_a_definition_states_its_rule_and_its_source_in_words():
    for definition in (*DEFINITIONS, SPAM):
        rule, details, not_finite, source = definition.text()
        assert rule.startswith(definition.name.split(",")[0])
        assert (not_finite[:12], source[:8]) == ("Not finite: ", "Source: ")
        for paragraph in (rule, details, not_finite, source):
            assert paragraph.endswith(".")
            assert paragraph == " ".join(paragraph.split())


def test_the_rules_in_words_are_there_when_docstrings_are_stripped():
    code = "from s3bench.spikes.published import DEFINITIONS, SPAM, scores\n"
    code += "print(scores.__doc__, *(line for one in (*DEFINITIONS, SPAM) for line in one.text()), sep='\\n')"
    lines = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True).stdout
    assert lines.splitlines() == ["None", *(line for one in (*DEFINITIONS, SPAM) for line in one.text())]


def test_spam_is_scored_where_gradients_are_given():
    gradients = np.ones((200, 3))
    gradients[100, 0] = 1000
    row = scores(falling(200), gradients=gradients).iloc[-1]
    assert (row["definition"], row["series"], row["events"], row["flagged"]) == ("SPAM", "gradient entries", 1, 1)
    assert row["score"] == pytest.approx(100 / 600)


def test_pool_adds_up_runs_and_leaves_out_those_too_short():
    long, short = falling(2000), falling(500)
    long[1500] += 9
    both = pool([scores(long), scores(short)]).set_index("definition")
    assert (both.loc["OLMo 2", "steps"], both.loc["OLMo 2", "flagged"]) == (2000, 1)
    assert both.loc["OLMo 2", "score"] == pytest.approx(100 / 2000)
    assert both.loc["OLMo-core, monitor", "steps"] == 2500
    assert pool([scores(short)]).equals(scores(short).assign(steps=pool([scores(short)])["steps"]))
    assert list(pool([scores(long)]).columns) == list(scores(long).columns)


def test_two_dimensions_raise():
    for definition in DEFINITIONS:
        with pytest.raises(ValueError, match="one-dimensional"):
            definition.flags(np.ones((3, 2)))


values = st.lists(st.one_of(st.floats(-1e3, 1e3), st.sampled_from([NAN, INF, 0.0])), max_size=60)


@settings(max_examples=200, deadline=None)
@given(values, st.integers(2, 12))
def test_trailing_means_are_the_means_of_the_windows(x, window):
    mean, deviation = trailing_mean_and_sd(np.array(x), window, fewest=2)
    for t in range(len(x)):
        before = np.array(x[max(0, t - window) : t])
        if len(before) < 2:
            assert np.isnan(mean[t])
            continue
        with np.errstate(invalid="ignore"):
            assert mean[t] == pytest.approx(before.mean(), abs=1e-9, nan_ok=True)
            assert deviation[t] == pytest.approx(before.std(ddof=1), abs=1e-5, nan_ok=True)


def test_a_huge_value_leaves_no_trace():
    x = falling(2000)
    y = x.copy()
    y[700] = 1e15
    for part, spoilt in zip(trailing_mean_and_sd(x, 128), trailing_mean_and_sd(y, 128), strict=True):
        np.testing.assert_allclose(spoilt[829:], part[829:], rtol=1e-9)


@pytest.mark.slow
def test_a_million_steps_take_less_than_5_seconds():
    x = falling(1_000_000)
    for definition in DEFINITIONS:
        begin = time.perf_counter()
        definition.flags(x)
        assert time.perf_counter() - begin < 5, definition.name
    assert isinstance(scores(x[:1000]), pd.DataFrame)
