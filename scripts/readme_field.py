"""Prints the short table of the field, from the committed tables of experiment=field.

Run `python -m scripts.readme_field` after `make reference EXPERIMENT=field`. docs/field.md has all rows, the README
those of SHOWN.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from s3bench import catalog

TABLES = Path(__file__).parents[1] / "results" / "reference" / "field" / "tables"
MAIN = {"digits_deep": "loss ≤ 0.485", "source_ngram": "loss ≤ 0.0757"}  # each task's main target, see its YAML
COLUMNS = {  # of the table `field`, and `running_time` of `targets`, by their heads in the README
    "spikes per 10,000 steps": "per_10k_best",
    "at 3 × its best rate": "per_10k_x3",
    "burden": "burden_best",
    "largest stable rate, ×": "threshold",
    "final loss": "loss_best",
    "steps to target": "running_time",
    "time of a step": "step_time",
}
SHOWN = ["adamw", "adamw_95", "adamw_same", "adamw (clip=GlobalNorm)", "s3", "signum", "lion", "muon", "adan"]
SHOWN += ["adopt", "spam", "stableadamw"]  # in the README: the best known, one of each kind


def table(names: Sequence[str] | None = None) -> str:
    """Return one row per optimizer, those with the fewest spikes first; a cell has digits_deep / source_ngram.

    `names`: the optimizers; None for all.
    """
    field = measured()
    spikes = field.groupby("optimizer")[["spikes_best", "spikes_x3", "burden_best"]].sum()
    heads = ["optimizer", *COLUMNS, "n"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name in spikes.sort_values(list(spikes.columns)).index:
        if names is not None and name not in names:
            continue
        own = field.loc[name]
        cells = [" / ".join(map(_number, own.loc[list(MAIN), column])) for column in COLUMNS.values()]
        lines.append(f"| {' | '.join([_label(name), *cells, str(own.n.min())])} |")
    return "\n".join(lines)


def measured() -> pd.DataFrame:
    """Return the table `field` by optimizer and task, with `running_time` to the main target at its best rate."""
    field, targets = (pd.read_csv(TABLES / f"{name}.csv") for name in ("field", "targets"))
    targets = targets[targets.target == targets.task.map(MAIN)].rename(columns={"lr_multiplier": "best_multiplier"})
    keys = ["task", "optimizer", "best_multiplier"]
    return field.merge(targets[[*keys, "running_time"]], on=keys).set_index(["optimizer", "task"]).sort_index()


def _label(name: str) -> str:
    """Return an optimizer's label, with its clip as a command names it."""
    clips = {clip.replace("_", ""): clip for clip in catalog.choices("clip")}
    return re.sub(r"clip=(\w+)", lambda clip: f"clip={clips[clip[1].lower()]}", name)


def _number(value: float) -> str:
    """Return two digits of a number; "-" where there is none."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


if __name__ == "__main__":
    print(table())
