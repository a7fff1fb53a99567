"""Which claim gets the next block: cases worked by hand."""

import math

from s3bench.report.claims.allocation import OpenClaim, next_claim
from s3bench.report.claims.grades import Region

REGION = Region(claimed=0.0)


def claim(name, mean=-1.0, n=10, sd=1.0, cost=10.0, region=REGION):
    return OpenClaim(id=name, region=region, n=n, mean=mean, sd=sd, block_seconds=cost)


def test_the_claim_that_is_nearest_to_its_verdict_comes_first():
    claims = [claim("small", mean=-0.3), claim("large", mean=-1.2), claim("against", mean=0.8)]
    assert next_claim(claims, math.inf) == "large"
    assert next_claim(claims[::2], math.inf) == "against"


def test_a_cheap_block_counts_against_a_large_effect():
    assert next_claim([claim("dear", mean=-1.2, cost=100), claim("cheap", mean=-0.9)], math.inf) == "cheap"


def test_a_claim_that_the_budget_cannot_decide_is_left():
    far, near = claim("far", mean=-0.01, n=100), claim("near", mean=-0.8, cost=50)
    assert next_claim([far, near], 2000) == "near"
    assert next_claim([far], 2000) is None
    assert next_claim([near], 40) is None  # not even one block
    assert next_claim([], 2000) is None


def test_no_claim_is_given_up_before_it_could_be_decided():
    few = claim("few", mean=0.0, n=2, sd=9.0)
    assert few.seconds_left() == 50  # up to seven blocks
    assert claim("new", mean=math.nan, n=0, sd=math.nan).seconds_left() == 70
    assert next_claim([few], 50) == "few"


def test_practical_equality_decides_too():
    at_none = claim("equal", mean=0.0, region=Region(claimed=-1.0, equal=1.0))
    assert at_none.seconds_left() < claim("small", mean=-0.5).seconds_left()


def test_an_open_claim_needs_one_block_at_least_and_ties_go_to_the_first():
    first, second = claim("first", mean=-50.0), claim("second", mean=-60.0)
    assert first.seconds_left() == second.seconds_left() == 10
    assert next_claim([first, second], 10) == "first"
