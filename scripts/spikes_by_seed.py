"""Prints the spikes of every run in an experiment's committed tables, as the table that docs/tasks.md shows.

Run `python -m scripts.spikes_by_seed spikes_language` after `make reference EXPERIMENT=spikes_language`.
"""

import argparse
from pathlib import Path

import pandas as pd

REFERENCE = Path(__file__).parents[1] / "results" / "reference"
WARMED_UP = 0.04  # in parts of the horizon: twice the schedules' warm-up


def table(experiment: str) -> str:
    """Return one row for each optimizer and learning rate of the experiment's one task, the largest rate first.

    Heights are in nats.
    """
    tables = REFERENCE / experiment / "tables"
    runs, spikes = (pd.read_csv(tables / f"{name}.csv") for name in ("runs", "spikes"))
    lines = [
        "| × | optimizer | spikes in each run | of them after the warm-up | runs with one of those | highest |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for multiplier, optimizer in sorted(set(zip(-runs.lr_multiplier, runs.optimizer, strict=True))):
        multiplier = -multiplier
        cell = runs[(runs.lr_multiplier == multiplier) & (runs.optimizer == optimizer)]
        found = spikes[(spikes.lr_multiplier == multiplier) & (spikes.optimizer == optimizer)]
        late = found[found.onset >= WARMED_UP * cell.horizon.iloc[0]]
        counts = ", ".join(str(int((found.seed == seed).sum())) for seed in sorted(cell.seed))
        highest = f"{found.height.max():.3g}" if len(found) else "-"
        in_runs = f"{late.seed.nunique()} of {len(cell)}"
        lines.append(f"| {multiplier:g} | {optimizer} | {counts} | {len(late)} | {in_runs} | {highest} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment")
    print(table(parser.parse_args().experiment))
