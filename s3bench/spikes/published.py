"""Counts and scores of runs under the published definitions of a spike (see published_rules.py)."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.spikes.published_rules import (
    LIGHTNING,
    LLM_FOUNDRY,
    OLMO_2,
    OLMO_CORE_MONITOR,
    OLMO_CORE_SKIP,
    QWEN,
    Counts,
    Definition,
    events,
)
from s3bench.spikes.published_rules import SPAM as SPAM

DEFINITIONS = (OLMO_2, OLMO_CORE_MONITOR, OLMO_CORE_SKIP, QWEN, LIGHTNING, LLM_FOUNDRY)
LOSS, GRADIENT_NORM = "loss", "gradient norm"
OF_RECORDS = tuple(  # each definition with each series of a record that it has a meaning on
    (definition, series)
    for series in (LOSS, GRADIENT_NORM)
    for definition in DEFINITIONS
    if series == LOSS or definition.gradient_norm
)


def counts(loss: npt.ArrayLike, grad_norm: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Count flagged steps, events and steps of one run for each of OF_RECORDS, shape (OF_RECORDS, 3).

    Counts add up over runs. A run too short for a definition has zeros, for its steps as well.
    """
    return np.array([definition.count(loss if series == LOSS else grad_norm) for definition, series in OF_RECORDS])


def no_counts() -> npt.NDArray[np.int64]:
    """Return the `counts` of no run: zeros."""
    return np.zeros((len(OF_RECORDS), len(Counts._fields)), dtype=np.int64)


def scores(
    loss: npt.ArrayLike, grad_norm: npt.ArrayLike | None = None, gradients: npt.ArrayLike | None = None
) -> pd.DataFrame:
    """Score one run under every published definition.

    Args:
        loss: shape (steps,).
        grad_norm: shape (steps,); None if it was not recorded.
        gradients: shape (steps, entries); None if they were not recorded, as in a record.

    Returns:
        One row per definition and series, with the columns definition, series ("loss", "gradient norm" or "gradient
        entries"), score, unit, events, flagged, steps. Where the run is too short for the definition to judge a step,
        the score is NaN and the counts are 0. `pool` adds up several runs.
    """
    rows = []
    for definition, series in OF_RECORDS:
        values = loss if series == LOSS else grad_norm
        if values is not None:
            rows.append(_row(definition, series, definition.count(values)))
    if gradients is not None:
        flags = SPAM.flags(gradients)
        flags = flags.reshape(len(flags), -1)
        found = Counts(flagged=int(flags.sum()), events=len(events(flags.any(axis=1))), steps=flags.size)
        rows.append(_row(SPAM, "gradient entries", found))
    return pd.DataFrame(rows)


def pool(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Merge the `scores` of several runs: counts are added up, and scores computed from the sums.

    A run too short for a definition is left out of that definition's row; the score is NaN if all are.
    """
    both = pd.concat(list(tables), ignore_index=True)
    definitions = {definition.name: definition for definition in (*DEFINITIONS, SPAM)}
    rows = []
    for (name, series), group in both.groupby(["definition", "series"], sort=False):
        found = Counts(**{field: int(group[field].sum()) for field in Counts._fields})
        rows.append(_row(definitions[str(name)], str(series), found))
    return pd.DataFrame(rows)


def _row(definition: Definition, series: str, found: Counts) -> dict[str, Any]:
    return {
        "definition": definition.name,
        "series": series,
        "score": definition.score(found.flagged, found.steps),
        "unit": definition.unit,
        "events": found.events,
        "flagged": found.flagged,
        "steps": found.steps,
    }
