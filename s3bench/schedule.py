"""Learning-rate schedules: pure functions of the step, factors in (0, 1] on the learning rate.

All warm up linearly over the first `warmup` of the horizon, a fraction, so that runs of different horizons have the
same shape; without a warm-up the factor starts at 1. ValueError names an argument outside its range.
"""

import math


def constant(step: int, *, horizon: int, warmup: float) -> float:
    """1 after the warm-up."""
    return _warmup(step, horizon, warmup)


def linear(step: int, *, horizon: int, warmup: float, final: float) -> float:
    """A straight line from 1 after the warm-up to `final` at the horizon."""
    return _warmup(step, horizon, warmup) * (1 - (1 - _checked(final)) * _progress(step, horizon, warmup))


def cosine(step: int, *, horizon: int, warmup: float, final: float) -> float:
    """Half a cosine from 1 after the warm-up to `final` at the horizon (Loshchilov & Hutter, arXiv 1608.03983)."""
    height = 0.5 * (1 + math.cos(math.pi * _progress(step, horizon, warmup)))
    return _warmup(step, horizon, warmup) * (_checked(final) + (1 - final) * height)


def _checked(final: float) -> float:
    if not 0 < final <= 1:
        raise ValueError(f"final is {final}; it must be above 0 and at most 1")
    return final


def _warmup(step: int, horizon: int, warmup: float) -> float:
    """1/w, 2/w, ... 1 over the w steps of the warm-up: the first update is not empty."""
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup is {warmup}; it must be from 0 to 1, a part of the horizon")
    return min(1.0, (step + 1) / max(1, round(warmup * horizon)))


def _progress(step: int, horizon: int, warmup: float) -> float:
    """The part of the steps after the warm-up that lies behind, in [0, 1]."""
    begin = round(warmup * horizon)
    return min(1.0, max(0, step - begin) / max(1, horizon - begin))
