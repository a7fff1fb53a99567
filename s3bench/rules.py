"""Update rules of which something is known, told by a record's settings, whatever name a YAML gave them."""

from collections.abc import Mapping
from typing import Any

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
