"""Tells from an optimizer's config which of the paper's optimizers it is, whatever its YAML's name."""

from collections.abc import Mapping
from typing import Any

from s3bench.report.analysis.update_rules import known_rule

BETA = 0.95  # S3's
EPS = 1e-8  # Adam's and AdamW's
BETAS = {(0.9, 0.999): "adamw", (0.9, 0.95): "adamw_95", (0.95, 0.95): "adamw_same"}


def role(optimizer: Mapping[str, Any]) -> str | None:
    """Return the role of an optimizer's config among the paper's: "s3", "adamw", "adamw_95", ..., "s3 variant".

    "s3" is the paper's: p = 3, one β = 0.95, look-ahead. A variant has that β too, but differs in one of the three.
    None for an optimizer that maximizes or whose ε differs from the class default, and for all other optimizers.
    """
    rule, settings = known_rule(optimizer)
    if settings.get("maximize") or settings.get("eps", EPS) != EPS:
        return None
    if rule == "s3":
        if settings["beta"] != BETA:
            return None
        return "s3" if parts(optimizer) == (3, True, True) else "s3 variant"
    if rule == "signsgd":
        return "signum" if settings["momentum"] else "signsgd"
    if not rule or settings["amsgrad"]:
        return None
    betas = tuple(settings["betas"])
    if rule == "adamw":
        return BETAS.get(betas)
    return "adam" if betas == (0.9, 0.999) else None


def parts(optimizer: Mapping[str, Any]) -> tuple[float, bool, bool]:
    """Return S3's order p, whether both averages share one β, and whether it looks ahead."""
    settings = known_rule(optimizer)[1]
    return float(settings["p"]), settings["denominator_beta"] == settings["beta"], bool(settings["nesterov"])
