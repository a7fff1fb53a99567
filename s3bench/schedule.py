"""Learning-rate schedules: pure functions of the step that return a factor in (0, 1] on the learning rate.

All of them warm up linearly over the first `warmup` of the horizon. That is a fraction, so that runs of different
horizons have the same shape. Without a warm-up the factor starts at 1.

Args of all schedules:
    step: the number of updates applied so far, from 0.
    horizon: the number of steps that the run is planned for.
    warmup: the fraction of the horizon that the warm-up takes, in [0, 1].
    final: the factor at the horizon, in (0, 1].

Each raises a ValueError that names an argument outside its range.
"""

import math


def constant(step: int, *, horizon: int, warmup: float) -> float:
    """Return 1 after the warm-up."""
    return _warmup(step, horizon, warmup)


def linear(step: int, *, horizon: int, warmup: float, final: float) -> float:
    """Return the factor on a straight line from 1 after the warm-up to `final` at the horizon."""
    return _warmup(step, horizon, warmup) * (1 - (1 - _checked(final)) * _progress(step, horizon, warmup))


def cosine(step: int, *, horizon: int, warmup: float, final: float) -> float:
    """Return the factor on half a cosine from 1 after the warm-up to `final` at the horizon.

    Source: Loshchilov & Hutter, arXiv 1608.03983.
    """
    height = 0.5 * (1 + math.cos(math.pi * _progress(step, horizon, warmup)))
    return _warmup(step, horizon, warmup) * (_checked(final) + (1 - final) * height)


def _checked(final: float) -> float:
    if not 0 < final <= 1:
        raise ValueError(f"final is {final}; it must be above 0 and at most 1")
    return final


def _warmup(step: int, horizon: int, warmup: float) -> float:
    """Return 1/w, 2/w, ... 1 over the w steps of the warm-up, so that the first update is not empty."""
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup is {warmup}; it must be from 0 to 1, a part of the horizon")
    return min(1.0, (step + 1) / max(1, round(warmup * horizon)))


def _progress(step: int, horizon: int, warmup: float) -> float:
    """Return the fraction of the steps after the warm-up that are done, in [0, 1]."""
    begin = round(warmup * horizon)
    return min(1.0, max(0, step - begin) / max(1, horizon - begin))
