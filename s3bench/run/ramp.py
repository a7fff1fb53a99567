"""A schedule that is no training but a test: the learning rate grows until the loss leaves.

It lies apart from s3bench/schedule.py because the code digest of a schedule covers its whole file: there it would have
made another run of every run with another schedule.
"""

import math


def ramp(step: int, *, horizon: int, calm: float, start: float) -> float:
    """Return `start` over the calm steps, then a factor that grows by a constant factor a step, to 1 at the horizon.

    So lr_multiplier is the multiplier at the horizon, and lr_multiplier × start the first one. The calm steps are the
    warm-up: they are the same for all optimizers, and at a rate at which none leaves.

    Args:
        step: the number of updates applied so far, from 0.
        horizon: the number of steps that the run is planned for.
        calm: the fraction of the horizon that the calm steps take, from 0 and below 1.
        start: the factor over the calm steps, above 0 and below 1.

    Raises:
        ValueError: an argument is outside its range.
    """
    if not 0 <= calm < 1:
        raise ValueError(f"calm is {calm}; it must be at least 0 and below 1, a part of the horizon")
    if not 0 < start < 1:
        raise ValueError(f"start is {start}; it must be above 0 and below 1")
    begin = min(round(calm * horizon), horizon - 1)
    growing = max(0, step - begin) / (horizon - begin)
    return math.pow(start, 1 - min(1.0, growing))
