"""The kinds of shocks, with what a run and a report must know of each. docs/shocks.md says what they do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Kind:
    """One kind of shock.

    Attributes:
        has_dose: whether the shock has a strength, the key `dose`.
        in_batch: whether the batch is disturbed: the loss of such a batch tells nothing about the model.
        memory: the optimizer's state at the shock: "kept", "lost", or "old", as it was `length` steps before.
    """

    has_dose: bool = False
    in_batch: bool = False
    memory: Literal["kept", "lost", "old"] = "kept"

    def hits(self, length: int) -> int:
        """Return how many steps a shock of this length disturbs; an old state is put in place once."""
        return 1 if self.memory == "old" else length


KINDS = {
    "gradient": Kind(has_dose=True),
    "coordinate": Kind(has_dose=True),
    "layer": Kind(has_dose=True),
    "lr": Kind(has_dose=True),
    "noise": Kind(in_batch=True),
    "labels": Kind(in_batch=True),
    "token": Kind(in_batch=True),
    "reset": Kind(memory="lost"),
    "stale": Kind(memory="old"),
    "bf16": Kind(),
}
DOSED = [name for name, kind in KINDS.items() if kind.has_dose]


def either(names: list[str]) -> str:
    """Return "a, b or c", the names in their order."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def shock_label(shock: Mapping[str, Any] | None) -> str:
    """Return "none", "noise at 70", or with a dose "gradient × 100 at 110"; with its length if it is not one step."""
    if shock is None:
        return "none"
    dose = f" × {shock['dose']:g}" if KINDS[shock["kind"]].has_dose else ""
    length = f", length {shock['length']}" if shock["length"] != 1 else ""
    return f"{shock['kind']}{dose} at {shock['step']}{length}"


def updates_remembered(shock: Mapping[str, Any]) -> int:
    """Return how many updates the optimizer's state has seen when the shock's first step begins."""
    step, length = int(shock["step"]), int(shock["length"])
    return {"kept": step, "lost": 0, "old": step - length}[KINDS[shock["kind"]].memory]
