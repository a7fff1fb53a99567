"""Tells whether a column is the sum of others, as a loss is of its terms."""

import numpy as np
import numpy.typing as npt

from s3bench.curve_files.table import Table, numbers
from s3bench.errors import UserError

WITHIN = 0.005  # of a loss: what its terms' sum may be off by, as they are rounded
ROWS = 10  # for each term: with fewer, weights could be found that fit by chance
SAMPLE = 1000  # rows that weights are found from
MOST_TERMS = 8  # of a weighted sum
LEAST_PART = 0.02  # of a weighted sum in the mean: what has less is no term

Array = npt.NDArray[np.float64]


def sum_of(table: Table, name: str, others: list[str]) -> str:
    """Return what a column is of others in every row that has them all: "the sum", "a weighted sum", or "".

    It is one of at least two terms; of a weighted sum, no weight is negative, and no row may be off.
    """
    whole = ~table.empty[[name, *others]].any(axis=1)
    if len(others) < 2 or whole.sum() < 2:
        return ""
    try:
        total, *terms = (numbers("", table.cells[one][whole], table.empty[one][whole]) for one in (name, *others))
    except UserError:
        return ""
    if np.all(np.abs(np.sum(terms, axis=0) - total) <= WITHIN * np.abs(total)):
        return "the sum"
    return "a weighted sum" if _is_weighted_sum(total, np.array(terms)) else ""


def _is_weighted_sum(total: Array, terms: Array) -> bool:
    """Return whether some weights, none of them negative, make a total of two or more terms, shape (terms, rows)."""
    if len(terms) > MOST_TERMS or len(total) < ROWS * len(terms):
        return False
    if not np.isfinite([total, *terms]).all() or not total.all():
        return False
    from scipy.optimize import nnls  # takes half a second, and few files need it

    parts = (terms / np.abs(total)).T
    every = max(1, len(total) // SAMPLE)
    try:
        weights, _ = nnls(parts[::every], np.sign(total[::every]))
    except RuntimeError:  # none found in as many steps as it takes
        return False
    is_term = np.abs(parts * weights).mean(axis=0) >= LEAST_PART
    return bool(is_term.sum() >= 2 and np.all(np.abs(parts @ weights - np.sign(total)) <= WITHIN))
