"""Graded verdicts: each says only what its interval implies, and stays once it is given."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s3bench.report.claims.grades import (
    BETTER,
    CLAIM_ALPHA,
    CONTRADICTED,
    EQUAL,
    SUPPORTED,
    UNDECIDED,
    VERDICTS,
    WORSE,
    Region,
    grade,
    grade_blocks,
    is_open,
)

INF = math.inf
BETTER_BY_5 = Region(claimed=-0.05, equal=0.05)
TWICE = Region(claimed=-0.7, equal=0.05)  # as good in half the steps
CLOSE = Region(claimed=0.2, equal=0.05)  # no more than 0.2 worse
SHARE = Region(claimed=0.5, none=1.0)  # at most half survive

NUMBERS = st.floats(-2, 2)


@st.composite
def regions(draw):
    none, equal = draw(NUMBERS), draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    return Region(
        claimed=none + draw(st.sampled_from([-1, 1])) * (equal + draw(st.floats(0, 1))), none=none, equal=equal
    )


@pytest.mark.parametrize(
    ("region", "low", "high", "expected"),
    [
        (BETTER_BY_5, -0.3, -0.1, SUPPORTED),
        (BETTER_BY_5, -0.3, -0.05, BETTER),  # an end at the limit decides nothing
        (BETTER_BY_5, -0.3, 0.1, UNDECIDED),
        (BETTER_BY_5, -0.04, 0.04, EQUAL),
        (BETTER_BY_5, -0.04, -0.01, EQUAL),
        (BETTER_BY_5, -0.04, 0.2, CONTRADICTED),
        (BETTER_BY_5, 0.1, 0.2, CONTRADICTED),
        (TWICE, -0.8, -0.3, BETTER),
        (TWICE, -0.5, -0.2, CONTRADICTED),  # better, but by less than claimed
        (TWICE, -0.04, 0.04, EQUAL),
        (CLOSE, -0.3, 0.1, SUPPORTED),
        (CLOSE, -0.01, 0.01, SUPPORTED),  # practically equal is close
        (CLOSE, 0.1, 0.3, WORSE),
        (CLOSE, -0.1, 0.3, UNDECIDED),
        (CLOSE, 0.3, 0.5, CONTRADICTED),
        (SHARE, 0.1, 0.4, SUPPORTED),
        (SHARE, 0.3, 0.9, BETTER),
        (SHARE, 0.6, 1.0, CONTRADICTED),
        (SHARE, -INF, INF, UNDECIDED),
        (SHARE, 0.3, 0.2, UNDECIDED),  # blocks that exclude each other
    ],
)
def test_grades_of_hand_made_intervals(region, low, high, expected):
    assert grade(low, high, region) == expected


@given(regions(), NUMBERS, NUMBERS, st.floats(0, 1))
def test_whatever_is_said_holds_for_every_value_in_the_interval(region, first, second, place):
    low, high = min(first, second), max(first, second)
    value = min(max(low + place * (high - low), low), high)
    said = grade(low, high, region)
    true = {
        SUPPORTED: value < region.claimed,
        EQUAL: region.none - region.equal < value < region.none + region.equal,
        CONTRADICTED: value > region.claimed,
        BETTER: value < region.none,
        WORSE: value > region.none,
        UNDECIDED: True,
    }
    assert true[said]
    if said == EQUAL:
        assert value > region.claimed or math.isclose(value, region.claimed, abs_tol=1e-12)


@given(regions(), st.lists(NUMBERS, min_size=4, max_size=4))
def test_a_verdict_stays_when_the_interval_narrows(region, ends):
    low, lower, higher, high = sorted(ends)
    said = grade(low, high, region)
    assume(not is_open(said))
    assert VERDICTS[grade(lower, higher, region)] == VERDICTS[said]


def test_a_grade_has_one_of_the_three_words():
    words = {SUPPORTED: "supported", EQUAL: "not supported", CONTRADICTED: "not supported"}
    assert dict.fromkeys([BETTER, WORSE, UNDECIDED], "undecided") | words == VERDICTS


@pytest.mark.parametrize("wrong", [{"claimed": -0.02}, {"claimed": math.nan}, {"claimed": -1, "equal": -0.1}])
def test_a_region_that_contradicts_itself_is_refused(wrong):
    with pytest.raises(ValueError, match="claimed"):
        Region(**({"equal": 0.05} | wrong))
    with pytest.raises(ValueError, match="unknown ends"):
        grade(math.nan, 1.0, BETTER_BY_5)


def alternating(mean, n):
    return mean + 0.1 * np.resize([1.0, -1.0], n)


def test_a_supported_claim_shows_its_size():
    found = grade_blocks(alternating(math.log(0.5), 10), Region(claimed=math.log(0.8), equal=0.05, ratio=True))
    assert (found.grade, found.verdict, found.more_blocks) == (SUPPORTED, "supported", 0)
    low, high = (f"{math.exp(end):.3g}" for end in (found.low, found.high))
    assert found.sentence().startswith(f"supported: 0.5 [{low}, {high}] after 10 blocks, below 0.8")


def test_an_open_claim_says_what_it_would_need():
    found = grade_blocks(alternating(-0.2, 8), BETTER_BY_5, block_seconds=60)
    assert (found.grade, found.seconds) == (UNDECIDED, 60 * found.more_blocks)
    needs = f"would need about {found.more_blocks:.0f} more blocks, {found.more_blocks:.0f} min 0 s"
    assert found.sentence().endswith(f", not yet told from -0.05; {needs}")


def test_the_blocks_that_it_would_need_decide_if_they_are_like_those_so_far():
    so_far = alternating(-0.2, 8)
    more = int(grade_blocks(so_far, BETTER_BY_5).more_blocks)
    assert more > 4
    assert is_open(grade_blocks(np.resize(so_far, 8 + more - 4), BETTER_BY_5).grade)
    assert grade_blocks(np.resize(so_far, 8 + more), BETTER_BY_5).grade == SUPPORTED


def test_little_or_nothing_is_no_evidence():
    assert grade_blocks([], TWICE).sentence() == "undecided: no block yet"
    one = grade_blocks([-0.3], TWICE).sentence()
    assert one.startswith("undecided: -0.3 [-inf, inf] after 1 block, ")
    assert one.endswith("would need at least 6 more blocks")
    at_limit = grade_blocks(alternating(-0.7, 10), TWICE).sentence()
    assert "would need more than 10,000 blocks" in at_limit


@pytest.mark.parametrize(
    ("region", "mean", "words"),
    [
        (TWICE, -0.35, ", above -0.7, better than 0 but by less than claimed"),
        (BETTER_BY_5, 0.5, ", above -0.05"),
        (Region(claimed=-1, equal=0.5), 0.0, ", within -0.5 to 0.5"),
        (TWICE, -0.7, ", below 0, not yet told from -0.7"),
        (CLOSE, 0.2, ", above 0, not yet told from 0.2"),
    ],
)
def test_a_sentence_says_where_the_interval_lies(region, mean, words):
    assert words in grade_blocks(alternating(mean, 16), region).sentence()


def test_a_grade_stays_when_more_blocks_make_the_interval_of_all_wider():
    values = np.concatenate([alternating(-0.5, 10), [5.0]])
    assert grade_blocks(values[:10], BETTER_BY_5).grade == grade_blocks(values, BETTER_BY_5).grade == SUPPORTED


def test_blocks_that_exclude_each_other_are_undecided_and_say_so():
    found = grade_blocks(np.concatenate([alternating(-1.0, 20), alternating(2.0, 200)]), BETTER_BY_5)
    assert found.grade == UNDECIDED
    assert ", where earlier blocks exclude what all of them show" in found.sentence()
    assert found.more_blocks == INF  # no more of them would help
    assert "would need" not in found.sentence()


def test_a_false_verdict_of_a_claim_at_its_limit_is_rarer_than_its_share_of_the_error():
    random = np.random.default_rng(0)
    given = [grade_blocks(random.normal(-0.05, 1, 30), BETTER_BY_5).grade for _ in range(150)]
    assert np.mean([not is_open(of) for of in given]) <= 3 * CLAIM_ALPHA


def test_skewed_blocks_are_named_in_the_sentence():
    values = np.random.default_rng(3).exponential(size=40)
    assert "the blocks are skewed" in grade_blocks(values, BETTER_BY_5).sentence()
