"""Prints what the quickstart gave where numbers are rounded otherwise, as docs/quickstart.md shows it.

Run `python -m scripts.quickstart_cpus`. Each folder of results/reference/cpus has the tables `cells` and `spikes` of
one such run; docs/quickstart.md has the commands.
"""

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parents[1] / "results" / "reference" / "cpus"
RUNS = 4  # of a task and an optimizer


def measured() -> pd.DataFrame:
    """Return one row per folder, task and optimizer: runs with a spike, the highest spike, final losses."""
    frames = []
    for place in sorted(FOLDER.iterdir()):
        cells, spikes = (pd.read_csv(place / f"{name}.csv") for name in ("cells", "spikes"))
        highest = spikes.groupby(["task", "optimizer"]).height.max().rename("highest")
        cells = cells.merge(highest, on=["task", "optimizer"], how="left").assign(rounding=place.name)
        frames.append(cells.fillna({"highest": 0.0}))
    losses = [f"final_loss_{part}" for part in ("mean", "min", "max")]
    columns = ["rounding", "task", "optimizer", "n", "runs_with_spike", "highest", *losses]
    return pd.concat(frames, ignore_index=True)[columns]


def table() -> str:
    """Return one row per task and optimizer: the least and the most of each number over the folders."""
    lines = ["| task | optimizer | runs with a spike | highest spike | final loss |", "| --- | --- | --- | --- | --- |"]
    for (task, optimizer), rows in measured().groupby(["task", "optimizer"]):
        runs = f"{_range(rows.runs_with_spike, '.0f')} of {RUNS}"
        cells = [task, optimizer, runs, _range(rows.highest, ".3g"), _range(rows.final_loss_mean, ".2g")]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _range(values: pd.Series, digits: str) -> str:
    low, high = f"{values.min():{digits}}", f"{values.max():{digits}}"
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    print(table())
