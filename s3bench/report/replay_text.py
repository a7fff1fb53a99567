"""Says in words which arms of replays prevented the spikes, from the table of arms."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from s3bench import catalog
from s3bench.report.analysis.replays import PLACEBO, SAME
from s3bench.report.figures.captions import count


def sentences(table: pd.DataFrame) -> list[str]:
    """Return what the table of arms says, a text for each task and optimizer."""
    groups = table.groupby(["task", "optimizer"], sort=False)
    return [_text(str(task), str(optimizer), group.to_dict("records")) for (task, optimizer), group in groups]


def _text(task: str, optimizer: str, arms: Sequence[dict[Any, Any]]) -> str:
    """Return the text of one task and optimizer; arms that are alike in what they did are named together."""
    changed = [arm for arm in arms if arm["arm"] not in (SAME, PLACEBO)]
    spikes, runs = max(arm["n"] for arm in arms), max(arm["runs"] for arm in arms)
    every = [arm for arm in changed if arm["vanished"] == arm["n"]]
    some = [arm for arm in changed if 0 < arm["vanished"] < arm["n"]]
    milder = [arm for arm in changed if not arm["vanished"] and arm["smaller"] + arm["delayed"]]
    none = [arm for arm in changed if arm["persisted"] == arm["n"]]
    parts = [f"{task} with {optimizer}, {count(spikes, 'spike')} of {count(runs, 'run')}."]
    if every:
        parts.append(f"Every spike vanished with {listed([arm['arm'] for arm in every])}.")
    if some:
        parts.append(f"Some vanished with {listed([_share(arm, arm['vanished']) for arm in some])}.")
    if milder:
        shares = [_share(arm, arm["smaller"] + arm["delayed"]) for arm in milder]
        parts.append(f"None vanished, but some became smaller or came later, with {listed(shares)}.")
    if none:
        parts.append(f"Every spike persisted with {listed([arm['arm'] for arm in none])}.")
    for arm in arms:
        if arm["arm"] == PLACEBO:
            parts.append(f"With the placebo, a change that means nothing, {arm['vanished']} of {arm['n']} vanished.")
        if arm["arm"] == SAME:
            parts.append(f"With nothing changed, {arm['exact']} of {arm['n']} came again bit for bit.")
    return " ".join(parts)


def _share(arm: dict[Any, Any], part: int) -> str:
    return f"{arm['arm']} ({part} of {arm['n']})"


def listed(names: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def changes(table: pd.DataFrame) -> dict[str, str]:
    """Return what each arm of the table changes, as far as its YAML file is at hand and says so."""
    files = catalog.choices("arm")
    found = {name: catalog.about(files[name]) for name in dict.fromkeys(table["arm"]) if name in files}
    return {name: text for name, text in found.items() if text}
