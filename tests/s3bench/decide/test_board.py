"""Tests what s3bench decide shows while it is at work."""

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from s3bench.decide.board import Board
from s3bench.report.claims.decided import stand
from s3bench.report.claims.registered import load_claims


@pytest.fixture
def standings():
    """Return C4 before its first block and after nine."""
    (claim,) = load_claims(["C4"])
    (ramp,) = claim.primary
    values = np.random.default_rng(0).normal(-1, 0.1, 9)
    return stand(claim, []), stand(claim, [{ramp: (value,)} for value in values], seconds=10)


def shown(standings, *, terminal):
    """Return what is printed from the beginning to the end."""
    before, after = standings
    out = StringIO()
    with Board(Console(file=out, force_terminal=terminal, width=400), 60, [before]) as board:
        board.working("C4: 9 blocks")
        board.show(after)
        board.close("the end")
    return out.getvalue()


def test_without_a_terminal_there_is_a_line_per_change(standings):
    first, second, last = shown(standings, terminal=False).splitlines()
    assert "undecided: no block yet" in first
    assert "supported: 0.3" in second
    assert last.endswith("of 1 min 0 s; the end")


def test_a_terminal_shows_a_table_that_is_renewed(standings):
    text = shown(standings, terminal=True)
    assert "supported" in text
    assert "of 1 min 0 s" in text
    assert text.count("C4") >= 2  # drawn at the beginning and again at the end


def test_what_is_out_of_reach_is_said(standings):
    _, after = standings
    far = replace(after, graded=replace(after.graded, grade="undecided", more_blocks=np.inf))
    assert "out of reach" in shown((far, far), terminal=True)
