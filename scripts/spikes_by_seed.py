"""Prints the spikes of every run of one task in an experiment's committed tables, as docs/natural.md shows them.

Run `python -m scripts.spikes_by_seed natural digits_deep` after `make reference EXPERIMENT=natural`.
"""

import argparse
from pathlib import Path

import pandas as pd

REFERENCE = Path(__file__).parents[1] / "results" / "reference"
LATE = 300  # the step from which on a spike is late


def table(experiment: str, task: str) -> str:
    """Return one row for each optimizer and learning rate of a task, the largest rate first.

    Heights are in nats, areas in nats × steps: the sum of the losses' excess over the level during late spikes.
    """
    tables = REFERENCE / experiment / "tables"
    runs, spikes = (pd.read_csv(tables / f"{name}.csv") for name in ("runs", "spikes"))
    runs, spikes = runs[runs.task == task], spikes[spikes.task == task]
    lines = [
        "| × | optimizer | late spikes in each run | runs with one | highest | area per run | final loss |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for multiplier, optimizer in sorted(set(zip(-runs.lr_multiplier, runs.optimizer, strict=True))):
        multiplier = -multiplier
        cell = runs[(runs.lr_multiplier == multiplier) & (runs.optimizer == optimizer)]
        found = spikes[(spikes.lr_multiplier == multiplier) & (spikes.optimizer == optimizer)]
        late = found[found.onset >= LATE]
        counts = ", ".join(str(int((late.seed == seed).sum())) for seed in sorted(cell.seed))
        highest = f"{late.height.max():.3g}" if len(late) else "-"
        in_runs = f"{late.seed.nunique()} of {len(cell)}"
        end = f"{cell.final_loss.median():.3g}"
        area = f"{late.area.sum() / len(cell):.3g}"
        lines.append(f"| {multiplier:g} | {optimizer} | {counts} | {in_runs} | {highest} | {area} | {end} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment")
    parser.add_argument("task")
    chosen = parser.parse_args()
    print(table(chosen.experiment, chosen.task))
