"""Decides whether a curve has too many spikes, or has diverged: `s3bench spikes --fail-on`."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from s3bench.errors import UserError
from s3bench.spikes.divergence import ends_above

if TYPE_CHECKING:
    from s3bench.curve_files.reader import LoggedCurve
    from s3bench.spikes import Spike

ALLOWED = "spike, diverged, rate>X (more than X spikes per 10,000)"
RATE = "rate>"


def check(limit: str | None) -> None:
    """Raise UserError unless this is a limit that --fail-on takes."""
    if limit is None or limit in ("spike", "diverged"):
        return
    try:
        is_rate = limit.startswith(RATE) and 0 <= float(limit.removeprefix(RATE)) < math.inf
    except ValueError:
        is_rate = False
    if not is_rate:
        raise UserError(f"--fail-on {limit!r} must be one of: {ALLOWED}")


def too_many(limit: str | None, curve: "LoggedCurve", spikes: "Sequence[Spike]") -> str | None:
    """Return what is beyond the limit, in words; None if nothing is."""
    if limit is None:
        return None
    if limit == "spike":
        return f"{len(spikes)} spike{'s' * (len(spikes) != 1)}" if spikes else None
    if limit == "diverged":
        return _diverged(curve, spikes)
    rate = 1e4 * len(spikes) / len(curve.loss)
    is_beyond = rate > float(limit.removeprefix(RATE))
    return f"{rate:.4g} spikes per 10,000 {curve.counted()}" if is_beyond else None


def _diverged(curve: "LoggedCurve", spikes: "Sequence[Spike]") -> str | None:
    """Say how the curve diverged: within a spike, or without one as the runs of a record do; None if it did not.

    A record's run ends at its first loss that is not finite. Here the loss may come back from it, and then has not
    diverged.
    """
    within = [spike for spike in spikes if spike.kind == "diverged"]
    if within:
        return f"diverged in the spike with its onset at {within[0].onset}"
    losses = curve.loss[np.isfinite(curve.loss)]
    return f"diverged: its last losses are above the first one, {losses[0]:.4g}" if ends_above(losses) else None
