"""Simulates the verdicts of claims: how often they are false, and how many blocks they take.

Run `python -m scripts.simulate_inference` (a minute or two on one core). It writes the tables of docs/inference.md to
results/reference/inference/. The verdicts are those of s3bench/report/claims/grades.py, looked at after every block.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from scipy.special import betaln, xlogy

from s3bench.report.claims.allocation import OpenClaim, next_claim
from s3bench.report.claims.grades import (
    BETTER,
    CLAIM_ALPHA,
    CONTRADICTED,
    EQUAL,
    SHARED_BY,
    SUPPORTED,
    Region,
    grade,
)
from s3bench.report.stats.assumptions import dependence, skewness
from s3bench.report.stats.confidence_sequence import blocks_needed, intersected, mean_intervals
from s3bench.report.stats.paired_tests import ALPHA

REFERENCE = Path(__file__).parents[1] / "results" / "reference" / "inference"
LOOKS = 64  # at most, in what is counted as an error: blocks after each of which one may stop
BUDGETS = (30, 60, 120, 240)  # minutes
MOST_LOOKS = 400  # where a verdict is waited for
SAMPLES = 4000
EFFECTS = (0.36, 0.57, 0.94, 1.01, 1.06, 1.29, 1.35, 1.68, 2.34, 3.0)  # from the limit, in standard deviations
# Of each claim: the expected effect in standard deviations of a block, as in configs/claim/; the seconds for choosing
# its learning rates, those that no claim before it has chosen; the seconds of a block. Measured on two slow cores. 0 is
# an endpoint at its limit, which no number of blocks decides
CLAIMS = {
    "C4": (3.0, 130.0, 27.0),
    "C7": (2.5, 0.0, 75.0),
    "C7b": (2.5, 0.0, 56.0),
    "C10": (2.5, 120.0, 16.0),
    "C5": (2.34, 720.0, 40.0),
    "C9": (1.68, 0.0, 90.0),
    "C1": (1.35, 220.0, 30.0),
    "C2": (1.0, 0.0, 60.0),
    "C6": (0.71, 180.0, 30.0),
    "C8": (0.36, 720.0, 40.0),
    "C8b": (0.0, 0.0, 140.0),
}

Array = npt.NDArray[np.float64]
Shape = tuple[int, ...]


def burst_counts(random: np.random.Generator, bursts: float, shape: Shape) -> Array:
    """Draw counts of events that come in `bursts` bursts a block on average, each of three events (geometric)."""
    number = random.poisson(bursts, shape)
    return (number + random.negative_binomial(np.maximum(number, 1), 1 / 3) * (number > 0)).astype(np.float64)


NOISE: dict[str, Callable[[np.random.Generator, Shape], Array]] = {  # mean 0, standard deviation 1, or as skewed
    "normal": lambda random, shape: random.normal(size=shape),
    "t, 3 degrees": lambda random, shape: random.standard_t(3, shape) / math.sqrt(3),
    "exponential": lambda random, shape: random.exponential(size=shape) - 1,
    "mean of 4 exponentials": lambda random, shape: (random.gamma(4, size=shape) - 4) / 2,
    "lognormal": lambda random, shape: (
        (random.lognormal(size=shape) - math.exp(0.5)) / math.sqrt(math.e * (math.e - 1))
    ),
    "bursty counts": lambda random, shape: (burst_counts(random, 1.0, shape) - 3) / math.sqrt(15),
}


def ever(values: Array, region: Region, alpha: float) -> dict[str, float]:
    """Return the share of samples to which each grade was given after any block."""
    paths = intersected(mean_intervals(values, alpha))
    given = [{grade(low, high, region) for low, high in path if math.isfinite(high)} for path in paths.tolist()]
    return {name: float(np.mean([name in of for of in given])) for name in (SUPPORTED, BETTER, EQUAL, CONTRADICTED)}


def errors(samples: int = SAMPLES) -> pd.DataFrame:
    """Return how often each verdict is false with the truth at its limit, one row for each noise.

    `anything` is the share of samples in which any interval misses the truth, so that anything said may be false.
    """
    rows = []
    size, equality = Region(claimed=-0.6), Region(claimed=-0.6, equal=0.6)  # in standard deviations of a block
    for noise, draw in NOISE.items():
        values = draw(np.random.default_rng(0), (samples, LOOKS))
        at_claimed, at_none = ever(values - 0.6, size, CLAIM_ALPHA), ever(values, size, CLAIM_ALPHA)
        row: dict[str, Any] = {"noise": noise, "supported": at_claimed[SUPPORTED]}
        row |= {"contradicted": at_claimed[CONTRADICTED], "better": at_none[BETTER]}
        row |= {"equal": ever(values + 0.6, equality, CLAIM_ALPHA)[EQUAL]}
        for alpha, name in ((CLAIM_ALPHA, "anything"), (ALPHA, "anything_at_5")):
            intervals = mean_intervals(values, alpha)
            holds = (intervals[..., 0] <= 0) & (intervals[..., 1] >= 0)
            row[name] = 1 - holds.all(axis=1).mean()
        rows.append(row | {"misses_16": 1 - holds[:, 15].mean()})
    return pd.DataFrame(rows)


def power(samples: int = SAMPLES) -> pd.DataFrame:
    """Return how many blocks it takes to tell an effect from its limit, one row for each effect.

    `lost_again` is the share of samples whose interval of the blocks so far, without the intersection with earlier
    ones, holds the limit again at some look up to twice the planned number.
    """
    rows = []
    for effect in EFFECTS:
        values = np.random.default_rng(1).normal(-effect, 1, (samples, MOST_LOOKS))
        alone, below = (mean_intervals(values, alpha)[..., 1] < 0 for alpha in (ALPHA, CLAIM_ALPHA))
        first = _first(below)
        planned = int(blocks_needed(effect, 1.0, CLAIM_ALPHA))
        late = (np.arange(1, 2 * planned + 1) >= first[:, None]) & ~below[:, : 2 * planned]
        row: dict[str, Any] = {"effect": effect, "fixed_at_5": fixed_blocks(effect, ALPHA)}
        row |= {"median_at_5": np.median(_first(alone)), "planned": planned, "median": np.median(first)}
        row |= {"four_fifths": np.quantile(first, 0.8, method="higher"), "by_planned": np.mean(first <= planned)}
        row |= {f"by_{n}": np.mean(first <= n) for n in (16, 32, 64)}
        rows.append(row | {"lost_again": np.mean(late.any(axis=1))})
    return pd.DataFrame(rows)


def _first(given: npt.NDArray[np.bool_]) -> Array:
    """Return the first look at which something was given, shape (..., looks) -> (...); infinite if never."""
    return np.where(given.any(axis=-1), given.argmax(axis=-1) + 1.0, np.inf)


def fixed_blocks(effect: float, alpha: float) -> int:
    """Return the blocks with which a two-sided t test at a number fixed before has a power of 0.8."""
    n = np.arange(3, 2000)
    found = stats.nct.sf(stats.t.ppf(1 - alpha / 2, n - 1), n - 1, effect * np.sqrt(n))
    return int(n[np.argmax(found >= 0.8)])


RULES = ("each at 5%", "Bonferroni", "Holm", "e-BH")


def family(samples: int = SAMPLES) -> pd.DataFrame:
    """Return how often a verdict on any claim is false, and what they cost, one row for each rule of the family.

    Either all endpoints are at their limit, or five of them are and the others lie two standard deviations away, or
    all lie one away. All claims are looked at after each of 64 blocks. Blocks of different claims correlate where they
    share runs. What was said at any look counts.
    """
    found: dict[str, dict[str, float]] = {rule: {} for rule in RULES}
    for correlation in (0.0, 0.5):
        for at_limit, effect in ((SHARED_BY, 0.0), (5, -2.0), (0, -1.0)):
            random = np.random.default_rng(2)
            own, shared = random.normal(size=(samples, SHARED_BY, LOOKS)), random.normal(size=(samples, 1, LOOKS))
            effects = np.where(np.arange(SHARED_BY) < at_limit, 0.0, effect)[:, None]
            values = effects + math.sqrt(1 - correlation) * own + math.sqrt(correlation) * shared
            for rule, rejected in rejections(e_paths(values)).items():
                first = _first(rejected)
                if at_limit:
                    false = np.isfinite(first[:, :at_limit]).any(axis=1)
                    found[rule][f"{at_limit} at their limit, correlation {correlation:g}"] = float(false.mean())
                elif not correlation:
                    found[rule]["median blocks of a claim"] = float(np.median(first))
                    found[rule]["of the last"] = float(np.median(first.max(axis=1)))
    return pd.DataFrame([{"rule": rule} | of for rule, of in found.items()])


def e_paths(values: Array) -> Array:
    """Return the e-values against a mean of 0 after each block, shape (..., blocks)."""
    n = np.arange(1, values.shape[-1] + 1)
    k, sums, squares = 1.0 + n, values.cumsum(axis=-1), (values**2).cumsum(axis=-1)
    squared = sums**2 / n / np.maximum(squares - sums**2 / n, 1e-300)  # t² / (n - 1)
    logs = (n * (np.log1p(squared) - np.log1p(squared / k)) - np.log(k)) / 2
    return np.where(n > 1, np.exp(np.minimum(logs, 700)), 1.0)


def rejections(e_values: Array) -> dict[str, npt.NDArray[np.bool_]]:
    """Return by rule which limits are excluded at each look, shape (samples, claims, looks)."""
    claims = e_values.shape[1]
    ranks = np.arange(1, claims + 1)[:, None]
    largest = np.maximum.accumulate(e_values, axis=-1)  # its inverse is a p-value at all looks at once
    ordered = np.sort(largest, axis=1)[:, ::-1]
    steps_down = np.logical_and.accumulate(ordered >= (claims + 1 - ranks) / ALPHA, axis=1).sum(axis=1, keepdims=True)
    now = np.sort(e_values, axis=1)[:, ::-1]
    self_consistent = np.where(now >= claims / (ALPHA * ranks), now, np.inf).min(axis=1, keepdims=True)
    return {
        "each at 5%": largest >= 1 / ALPHA,
        "Bonferroni": largest >= claims / ALPHA,
        "Holm": _ranks(largest) <= steps_down,
        "e-BH": e_values >= self_consistent,
    }


def _ranks(values: Array) -> Array:
    """Return the ranks of the claims at each look, 1 for the largest."""
    return np.argsort(np.argsort(-values, axis=1), axis=1).astype(np.float64) + 1


def counts(samples: int = SAMPLES) -> pd.DataFrame:
    """Return how often intervals of shares and ratios of rates ever miss the truth, in 64 blocks."""
    random = np.random.default_rng(3)
    rows = []

    def add(what: str, hits: Array, misses: Array, share: float) -> None:
        given, against = hits.cumsum(axis=1), misses.cumsum(axis=1)
        logs = betaln(1 + given, 1 + against) - xlogy(given, share) - xlogy(against, 1 - share)
        row: dict[str, Any] = {"what": what}
        rows.append(row | {f"at {100 * a:.2g}%": float((logs >= -math.log(a)).any(axis=1).mean()) for a in ALPHAS})

    shape = (samples, LOOKS)
    for share in (0.5, 0.1):
        hits = (random.random(shape) < share).astype(np.float64)
        add(f"share {share:g}, one outcome a block", hits, 1 - hits, share)
    alike = random.beta(0.5, 0.5, shape)  # what the four outcomes of a block share
    four = random.binomial(4, alike).astype(np.float64)
    add("share 0.5, four outcomes a block that are alike, each counted", four, 4 - four, 0.5)
    add("the same, one share a block", four / 4, 1 - four / 4, 0.5)
    own, other = (random.poisson(rate, shape).astype(np.float64) for rate in (0.5, 2.0))
    add("ratio of rates 1/4, independent events", own, other, 0.2)
    own, other = burst_counts(random, 0.25, shape), burst_counts(random, 1.0, shape)
    add("ratio of rates 1/4, events in bursts, each counted", own, other, 0.2)
    total = np.maximum(own + other, 1)
    add("the same, one share a block", own / total, other / total, 0.2)
    return pd.DataFrame(rows)


ALPHAS = (ALPHA, CLAIM_ALPHA)


def checks(samples: int = 500) -> pd.DataFrame:
    """Return how often the blocks of a noise are called skewed, or dependent, one row for each noise."""
    rows = []
    for noise, draw in [*NOISE.items(), ("normal, each 0.5 × the last + new", _autocorrelated)]:
        row: dict[str, Any] = {"noise": noise}
        for n in (12, 32):
            values = draw(np.random.default_rng(4), (samples, n))
            values = values[np.ptp(values, axis=1) > 0]
            row[f"skewed_{n}"] = float(np.mean([skewness(sample)[1] <= ALPHA for sample in values]))
            row[f"dependent_{n}"] = float(np.mean([dependence(sample)[1] <= ALPHA for sample in values]))
        rows.append(row)
    return pd.DataFrame(rows)


def _autocorrelated(random: np.random.Generator, shape: Shape) -> Array:
    values = random.normal(size=shape)
    for place in range(1, shape[1]):
        values[:, place] += 0.5 * values[:, place - 1]
    return values


def budget(samples: int = 150) -> pd.DataFrame:
    """Return how many claims are decided within a budget on average, and what of it is spent."""
    rows = []
    for scale in (1.0, 0.5):
        for order, chosen in (("least cost left", next_claim), ("in turn", in_turn)):
            for alpha in (CLAIM_ALPHA, ALPHA) if chosen is next_claim else (CLAIM_ALPHA,):
                row: dict[str, Any] = {"effects": scale, "next_block": order, "allowed": alpha}
                for minutes in BUDGETS:
                    found = [spend(seed, scale, 60.0 * minutes, alpha, chosen) for seed in range(samples)]
                    row[f"decided_{minutes}"] = np.mean([len(decided) for decided, _ in found])
                    row[f"spent_{minutes}"] = np.mean([spent for _, spent in found]) / 60
                rows.append(row)
    return pd.DataFrame(rows)


def in_turn(claims: list[OpenClaim], left: float) -> str | None:
    """Return the claim with the fewest blocks, whatever it costs."""
    affordable = [claim for claim in claims if claim.block_seconds <= left]
    return min(affordable, key=lambda claim: claim.n).id if affordable else None


def spend(
    seed: int, scale: float, seconds: float, alpha: float, chosen: Callable[[list[OpenClaim], float], str | None]
) -> tuple[set[str], float]:
    """Return the claims that one simulated budget decides, and the seconds that it spends, as s3bench decide does.

    With `in_turn` all claims begin before the first block.
    """
    region, random = Region(claimed=0.0), np.random.default_rng([5, seed])
    values = {name: random.normal(-scale * effect, 1, MOST_LOOKS) for name, (effect, _, _) in CLAIMS.items()}
    means = {name: of.cumsum() / np.arange(1, MOST_LOOKS + 1) for name, of in values.items()}
    sds = {name: list(_running_sds(of)) for name, of in values.items()}
    paths = {name: intersected(mean_intervals(of, alpha)) for name, of in values.items()}
    claims: dict[str, OpenClaim] = {}
    new, decided, left = list(CLAIMS), set(), seconds
    while left > 0:
        name = chosen(list(claims.values()), left) if claims and not (new and chosen is in_turn) else None
        if name is None:
            if not new:
                break
            name = new.pop(0)
            _, tuning, cost = CLAIMS[name]
            left -= tuning
            claims[name] = OpenClaim(id=name, region=region, n=0, block_seconds=cost, alpha=alpha)
            if chosen is in_turn:
                continue
        n, cost = claims[name].n + 1, claims[name].block_seconds
        if cost > left:
            continue
        left -= cost
        if grade(paths[name][n - 1, 0], paths[name][n - 1, 1], region) in (SUPPORTED, CONTRADICTED):
            decided.add(name)
            del claims[name]
        else:
            mean, sd = float(means[name][n - 1]), sds[name][n - 1]
            claims[name] = OpenClaim(id=name, region=region, n=n, mean=mean, sd=sd, block_seconds=cost, alpha=alpha)
    return decided, seconds - max(left, 0.0)


def _running_sds(values: Array) -> Iterator[float]:
    """Yield the standard deviation of the first 1, 2, ... values."""
    mean, squares = 0.0, 0.0
    for n, value in enumerate(values.tolist(), 1):
        step = value - mean
        mean += step / n
        squares += step * (value - mean)
        yield math.sqrt(squares / (n - 1)) if n > 1 else math.nan


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "errors": errors,
    "counts": counts,
    "power": power,
    "family": family,
    "checks": checks,
    "budget": budget,
}


HEADERS = {
    "anything_at_5": "anything, 5% allowed",
    "misses_16": "misses after 16, 5% allowed",
    "fixed_at_5": "t test, number fixed, 5%",
    "median_at_5": "median, 5%",
    "four_fifths": "80%",
    "next_block": "next block",
} | {f"{what}_{n}": f"{what}, {n} blocks" for what in ("skewed", "dependent") for n in (12, 32)}
COUNTED = ("effect", "effects", "fixed_at_5", "median_at_5", "planned", "median", "four_fifths", "of the last")


def table(name: str) -> str:
    """Return a committed table in Markdown: shares in percent, and budgets as claims decided (minutes spent)."""
    rows = pd.read_csv(REFERENCE / f"{name}.csv")
    shown = {}
    for column in map(str, rows.columns):
        values = rows[column].tolist()
        if column.startswith("spent_"):
            minutes = column.removeprefix("spent_")
            pairs = zip(rows[f"decided_{minutes}"], values, strict=True)
            shown[f"decided in {minutes} min (spent)"] = [f"{decided:.1f} ({spent:.0f})" for decided, spent in pairs]
        elif column in COUNTED or "median" in column:
            shown[HEADERS.get(column, column)] = [f"{value:g}" for value in values]
        elif not column.startswith("decided_"):
            header = HEADERS.get(column, column.replace("_", " "))
            shown[header] = [value if isinstance(value, str) else _percent(value) for value in values]
    lines = [list(shown), ["---"] * len(shown), *zip(*shown.values(), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 0.1 else f"{100 * share:.0f}%"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="table", help=f"of {', '.join(TABLES)}; all by default")
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for chosen_table in parser.parse_args().tables or TABLES:
        TABLES[chosen_table]().to_csv(REFERENCE / f"{chosen_table}.csv", index=False, float_format="%.5g")
