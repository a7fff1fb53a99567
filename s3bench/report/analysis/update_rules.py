"""The largest step that an update rule can take on one coordinate, over the learning rate, whatever the gradients.

Derived here from each rule's weights; weight decay and ε are left out. With averages n = Σ w_i g_i above and
b = (Σ u_i |g_i|^p)^{1/p} below, Hölder's inequality gives |n / b| ≤ (Σ (w_i / u_i^{1/p})^q)^{1/q}, 1/p + 1/q = 1, and
some sequence of gradients reaches it.
"""

import math
from collections.abc import Mapping
from typing import Any


def worst_step(optimizer: Mapping[str, Any], updates: float = math.inf) -> float | None:
    """The bound of a record's optimizer at its update number `updates`, from 1 on; without a number, of them all.

    None where none is known.
    """
    rule, settings = known_rule(optimizer)
    if rule in ("adam", "adamw"):
        beta1, beta2 = settings["betas"]
        return adam(beta1, beta2, updates)
    if rule == "s3" and settings["denominator_beta"] == settings["beta"]:
        return s3(settings["beta"], settings["p"], updates, nesterov=settings["nesterov"])
    return 1.0 if rule == "signsgd" else None


def adam(beta1: float, beta2: float, updates: float = math.inf) -> float:
    """Adam's, p = 2: w_i = (1-β1) β1^i / (1-β1^t) and u_i likewise of β2, i = 0 .. t-1.

    In the limit (1-β1) / sqrt((1-β2) (1-β1²/β2)); without bound there if β1² is not below β2.
    """
    ratio = beta1**2 / beta2 if beta2 else math.inf if beta1 else 0.0
    if ratio < 1:
        series = (1 - ratio**updates) / (1 - ratio)
    else:
        series = math.fsum(ratio**i for i in range(int(updates))) if updates < math.inf else math.inf
    below = (1 - beta2) / (1 - beta2**updates)
    return float((1 - beta1) / (1 - beta1**updates) * math.sqrt(series / below))


def s3(beta: float, p: float, updates: float = math.inf, *, nesterov: bool = True) -> float:
    """S3's with one β: w = u, so that the bound is W^{1-1/p}; W = 1-β^{t+1}, without the look-ahead 1-β^t."""
    weights: float = 1 - beta ** (updates + nesterov)
    return math.pow(weights, 1 - 1 / p)


RULES = {
    "optimizers.S3": "s3",
    "optimizers.s3.S3": "s3",
    "optimizers.SignSGD": "signsgd",
    "optimizers.signsgd.SignSGD": "signsgd",
    "torch.optim.AdamW": "adamw",
    "torch.optim.adamw.AdamW": "adamw",
    "torch.optim.Adam": "adam",
    "torch.optim.adam.Adam": "adam",
}
DEFAULTS: dict[str, dict[str, Any]] = {  # of the classes, for what a YAML leaves out
    "s3": {"beta": 0.95, "p": 3.0, "nesterov": True, "denominator_beta": None, "weight_decay": 0.01},
    "signsgd": {"momentum": 0.0, "weight_decay": 0.01},
    "adamw": {"betas": (0.9, 0.999), "weight_decay": 0.01, "amsgrad": False},
    "adam": {"betas": (0.9, 0.999), "weight_decay": 0, "amsgrad": False},
}


def known_rule(optimizer: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The rule of a record's optimizer, and its settings with the defaults; ("", its settings) if it is none of these.

    S3's denominator_beta is a number in any case.
    """
    rule = RULES.get(optimizer["_target_"], "")
    settings = {**DEFAULTS.get(rule, {}), **optimizer}
    if rule == "s3" and settings["denominator_beta"] is None:
        settings["denominator_beta"] = settings["beta"]
    return rule, settings
