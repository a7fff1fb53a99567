"""Identifies known update rules from a record's optimizer settings, and bounds their largest step.

The bound is on the step of one coordinate over the learning rate, for all gradients. It is derived from each rule's
weights; weight decay and ε are left out. With averages n = Σ w_i g_i above and
b = (Σ u_i |g_i|^p)^{1/p} below, Hölder's inequality gives |n / b| ≤ (Σ (w_i / u_i^{1/p})^q)^{1/q}, 1/p + 1/q = 1, and
some sequence of gradients reaches it.
"""

import math
from collections.abc import Mapping
from typing import Any


def worst_step(optimizer: Mapping[str, Any], updates: float = math.inf) -> float | None:
    """Return the bound of an optimizer's step at its update number `updates` (from 1), or over all updates.

    None for an optimizer whose bound is not known.
    """
    rule, settings = known_rule(optimizer)
    if rule in ("adam", "adamw"):
        beta1, beta2 = settings["betas"]
        return adam(beta1, beta2, updates)
    if rule == "s3" and settings["denominator_beta"] == settings["beta"]:
        return s3(settings["beta"], settings["p"], updates, nesterov=settings["nesterov"])
    return 1.0 if rule == "signsgd" else None


def betas(optimizer: Mapping[str, Any]) -> tuple[float, float]:
    """Return the decay of the average of gradients and that of their powers; NaN for what a rule lacks."""
    _, settings = known_rule(optimizer)
    if "betas" in settings:
        first, second = settings["betas"]
        return float(first), float(second)
    first = settings.get("beta", settings.get("momentum", math.nan))
    return float(first), float(settings.get("denominator_beta", math.nan))


def adam(beta1: float, beta2: float, updates: float = math.inf) -> float:
    """Return Adam's bound: p = 2, w_i = (1-β1) β1^i / (1-β1^t) and u_i likewise with β2, i = 0 .. t-1.

    The limit is (1-β1) / sqrt((1-β2) (1-β1²/β2)); it is infinite if β1² is not below β2. The bound of a later update is
    never smaller.
    """
    ratio = beta1**2 / beta2 if beta2 else math.inf if beta1 else 0.0
    series = _powers(ratio, updates)
    below = (1 - beta2) / (1 - beta2**updates)
    return float((1 - beta1) / (1 - beta1**updates) * math.sqrt(series / below))


def _powers(ratio: float, terms: float) -> float:
    """Return the sum of ratio^i, i = 0 .. terms-1; infinite where it is too large for a float."""
    if terms == 1 or ratio == 1:
        return terms
    try:
        return math.inf if math.isinf(ratio) else (1 - ratio**terms) / (1 - ratio)
    except OverflowError:
        return math.inf


def s3(beta: float, p: float, updates: float = math.inf, *, nesterov: bool = True) -> float:
    """Return S3's bound with one β: w = u, so W^{1-1/p} with W = 1-β^{t+1}, or 1-β^t without the look-ahead."""
    weights: float = 1 - beta ** (updates + nesterov)
    return math.pow(weights, 1 - 1 / p)


RULES = {
    "optimizers.S3": "s3",
    "s3bench.optim.S3": "s3",
    "optimizers.s3.S3": "s3",
    "optimizers.SignSGD": "signsgd",
    "s3bench.optim.SignSGD": "signsgd",
    "optimizers.signsgd.SignSGD": "signsgd",
    "torch.optim.AdamW": "adamw",
    "torch.optim.adamw.AdamW": "adamw",
    "torch.optim.Adam": "adam",
    "torch.optim.adam.Adam": "adam",
}
DEFAULTS: dict[str, dict[str, Any]] = {  # of the classes, for settings that a YAML leaves out
    "s3": {"beta": 0.95, "p": 3.0, "nesterov": True, "denominator_beta": None, "weight_decay": 0.01},
    "signsgd": {"momentum": 0.0, "weight_decay": 0.01},
    "adamw": {"betas": (0.9, 0.999), "weight_decay": 0.01, "amsgrad": False},
    "adam": {"betas": (0.9, 0.999), "weight_decay": 0, "amsgrad": False},
}


def known_rule(optimizer: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the rule of an optimizer's config, "" if it is unknown, and its settings with the defaults filled in.

    The rule is known by the import path, whatever name a YAML gave it. S3's denominator_beta is always a number.
    """
    rule = RULES.get(optimizer["_target_"], "")
    settings = {**DEFAULTS.get(rule, {}), **optimizer}
    if rule == "s3" and settings["denominator_beta"] is None:
        settings["denominator_beta"] = settings["beta"]
    return rule, settings
