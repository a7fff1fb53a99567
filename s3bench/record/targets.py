"""Targets of a task: a bound on a metric, as {metric, at_most} or {metric, at_least}."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from s3bench.errors import UserError

TARGETS = ({"metric", "at_most"}, {"metric", "at_least"})


def check_targets(targets: Sequence[Mapping[str, Any]], what: str) -> None:
    """Raise UserError unless each target is {metric, at_most} or {metric, at_least}; `what` names where they are."""
    for target in targets:
        if not isinstance(target, Mapping) or set(target) not in TARGETS or not isinstance(target["metric"], str):
            raise UserError(f"{what} has {target}; it must be {{metric, at_most}} or {{metric, at_least}}")
        bound = target.get("at_most", target.get("at_least"))
        if not (isinstance(bound, int | float) and math.isfinite(bound)):
            raise UserError(f"{what} has {target}; its bound must be a finite number")


def target_name(target: Mapping[str, Any]) -> str:
    """Return a target in words, such as "loss ≤ 0.5"."""
    sign = "≤" if "at_most" in target else "≥"
    return f"{target['metric']} {sign} {target.get('at_most', target.get('at_least')):g}"
