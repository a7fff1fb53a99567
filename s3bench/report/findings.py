"""Says what the tables of a report show: a short sentence per task for each question that these records answer."""

import math
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import pandas as pd

from s3bench.report.analysis.seen import EARLY
from s3bench.report.formatting import mean_and_sd, short
from s3bench.report.replay_text import listed
from s3bench.report.stats.rates import per_10k, poisson_interval

MOST = 6  # optimizers that a sentence names
ENDS = 3  # where there are more, it names so many at each end
DIFFERS = "differs"  # the verdict of a test that tells two optimizers apart

Tables = Mapping[str, pd.DataFrame]
Row = Mapping[Hashable, Any]
Said = Iterable[tuple[str, str]]  # (task, what is said of it)


class Finding(NamedTuple):
    """A question, and the sentences that answer it."""

    question: str
    sentences: list[str]


def findings(tables: Tables) -> list[Finding]:
    """Return the questions that the tables of make_tables answer, and what they say.

    Tasks of which the same is said share a sentence. Nothing is said of what the tables cannot answer.
    """
    questions: dict[str, Callable[[Tables], Said]] = {
        "Who spikes?": _who,
        "When?": _when,
        "How high?": _how_high,
        "Who stands the largest learning rate?": _ramps if "thresholds" in tables else _without_spike,
        "Who is fastest?": _fastest,
        "Who ends lowest?": _lowest,
        "Who was not told apart?": _not_told_apart,
    }
    found = [Finding(question, _merged(answer(tables))) for question, answer in questions.items()]
    return [finding for finding in found if finding.sentences]


def _merged(said: Said) -> list[str]:
    tasks: dict[str, list[str]] = {}
    for task, text in said:
        tasks.setdefault(text, []).append(task)
    return [f"On {listed(names)}, {text}." for text, names in tasks.items()]


def _by_task(table: pd.DataFrame) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for row in table.to_dict("records"):
        rows.setdefault(row["task"], []).append(row)
    return rows


def _few(entries: Sequence[str], more: str = "") -> str:
    """Return a list of optimizers in order, of which only the ends are named where there are many."""
    if len(entries) <= MOST:
        return listed(entries)
    return f"{listed(entries[:ENDS])}, the first of {len(entries)}{more}; the last are {listed(entries[-ENDS:])}"


def _named(names: Sequence[str]) -> str:
    """Return the names, or how many there are beside the first ones."""
    return listed(names) if len(names) <= MOST else listed([*names[:ENDS], f"{len(names) - ENDS} others"])


def _who(tables: Tables) -> Said:
    """Say in how many runs each optimizer spikes, the highest rate first; and whom a test tells apart."""
    for task, rows in _by_task(tables["cells"]).items():
        over = {name: own for name, own in _spike_sums(rows).items() if own.runs}
        spiky = sorted((name for name in over if over[name].spikes), key=lambda name: -over[name].rate)
        calm = [name for name in over if not over[name].spikes]
        runs, steps = sum(over[name].runs for name in calm), sum(over[name].steps for name in calm)
        if spiky:
            text = _few([f"{name} {over[name].said(first=name == spiky[0])}" for name in spiky])
            text += f"; no spike in {_count(runs, 'run')} of {_named(calm)}" if calm else ""
            yield task, text + _dead(rows) + _rates_tried(rows)
        elif over:
            text = f"no spike in {_count(runs, 'run')} of {_named(calm)}"
            yield (
                task,
                f"{text}, which still allows up to {short(poisson_interval(0, steps)[1])} per 10,000 steps (95%)"
                + _dead(rows),
            )
    yield from _told_apart(tables["spike_rates"].to_dict("records"), _spikes_apart)


class _Spikes(NamedTuple):
    """What an optimizer's runs on a task sum up to."""

    with_spike: int = 0
    runs: int = 0
    spikes: int = 0
    steps: int = 0

    @property
    def rate(self) -> float:
        """Spikes per 10,000 steps."""
        return per_10k(self.spikes, self.steps)

    def said(self, *, first: bool) -> str:
        """Return the counts; with their units where they are the first of a sentence."""
        if first:
            return f"spikes in {self.with_spike} of {_count(self.runs, 'run')} ({short(self.rate)} per 10,000 steps)"
        return f"in {self.with_spike} of {self.runs} ({short(self.rate)})"


def _spike_sums(rows: Sequence[Row]) -> dict[str, _Spikes]:
    sums: dict[str, _Spikes] = {}
    for row in rows:
        own = sums.get(row["optimizer"], _Spikes())
        more = (row[column] for column in ("runs_with_spike", "n", "spikes", "steps"))
        sums[row["optimizer"]] = _Spikes(*(one + other for one, other in zip(own, more, strict=True)))
    return sums


def _dead(rows: Sequence[Row]) -> str:
    """Return how many runs end at a guess, where no spikes say little; nothing if none does."""
    runs: dict[str, int] = {}
    for row in rows:
        runs[row["optimizer"]] = runs.get(row["optimizer"], 0) + row["dead"]
    said = [f"{_count(count, 'run')} of {name}" for name, count in runs.items() if count]
    return f"; the loss stays at a guess in {_few(said)}" if said else ""


def _rates_tried(rows: Sequence[Row]) -> str:
    """Return over which learning rates something is counted; nothing if there is only one."""
    grids: dict[str, set[float]] = {}
    for row in rows:
        grids.setdefault(row["optimizer"], set()).add(row["lr_multiplier"])
    tried = set().union(*grids.values())
    if len(tried) == 1:
        return ""
    same = all(grid == tried for grid in grids.values())
    return f"; over the same {len(tried)} learning rates" if same else "; each over its own learning rates"


def _told_apart(rows: Iterable[Row], what: Callable[[Row], str]) -> Said:
    """Say which optimizers a paired test tells apart from the reference."""
    apart: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["verdict"] == DIFFERS:
            apart.setdefault((row["task"], row["baseline"]), []).append(what(row))
    for (task, reference), named in apart.items():
        yield task, f"told apart from {reference}: {_named(named)}"


def _spikes_apart(row: Row) -> str:
    is_less = row["difference"] < 0
    calm, dead = (row["optimizer"], row["dead"]) if is_less else (row["baseline"], row["baseline_dead"])
    guess = f"; the loss of {calm} stays at a guess in {_count(dead, 'run')} there" if dead else ""
    often = "less often" if is_less else "more often"
    return f"{row['optimizer']}, which spikes {often} at ×{row['lr_multiplier']:g} ({_p(row)}{guess})"


def _p(row: Row) -> str:
    return f"{_count(row['n'], 'pair')}, p = {row['p_holm']:.2g}"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _when(tables: Tables) -> Said:
    """Say in which part of their runs spikes began."""
    horizons = {task: rows[0]["horizon"] for task, rows in _by_task(tables["runs"]).items()}
    for task, rows in _by_task(tables["spikes"]).items():
        places, count = [row["onset"] / horizons[task] for row in rows], len(rows)
        early, first = sum(place < EARLY for place in places), sum(place < 0.5 for place in places)
        if count == 1:
            yield task, f"the only spike began at step {rows[0]['onset']:,} of {horizons[task]:,}"
        elif count in (early, count - first):
            yield (
                task,
                f"all {count:,} spikes began in the {f'first {EARLY:.0%}' if early else 'second half'} of the run",
            )
        else:
            parts = {
                f"in the first {EARLY:.0%} of the run": early,
                "later in the first half" if early else "in the first half": first - early,
            }
            parts["in the second half"] = count - first
            said = [f"{inside:,} {where}" for where, inside in parts.items() if inside]
            yield task, f"spikes began: {listed(said)}"


def _how_high(tables: Tables) -> Said:
    """Say how high the highest spike is and whose, and how high the median one."""
    for task, rows in _by_task(tables["spikes"]).items():
        finite = sorted((row for row in rows if math.isfinite(row["height"])), key=lambda row: row["height"])
        parts = []
        if finite:
            top, which = finite[-1], "the only one" if len(rows) == 1 else "the highest"
            where = f"{top['optimizer']}, ×{top['lr_multiplier']:g}, seed {top['seed']}, step {top['peak']:,}"
            parts.append(f"{which} peaks {top['height']:.3g} above its level ({where})")
        if len(finite) > 2:
            parts.append(f"the median of {len(finite):,} is {median(row['height'] for row in finite):.3g}")
        endless = len(rows) - len(finite)
        parts += [f"in {endless:,} of {len(rows):,} the loss is not finite"] * bool(endless)
        yield task, "; ".join(parts)


def _ramps(tables: Tables) -> Said:
    """Say at which learning rate the losses of ramps left, the largest first."""
    for task, rows in _by_task(tables["thresholds"]).items():
        known = [row for row in rows if row["threshold_least"] > 0 or math.isfinite(row["threshold_most"])]
        known.sort(key=lambda row: (row["threshold_least"], row["threshold_most"]), reverse=True)
        said = [f"{row['optimizer']} {_threshold(row)} (n = {row['n']})" for row in known]
        if said:
            yield task, f"the learning rate at which the loss of a ramp leaves, largest first: {_few(said)}"


def _threshold(row: Row) -> str:
    least, most = row["threshold_least"], row["threshold_most"]
    if math.isinf(most):
        return f"above ×{least:.3g}"
    if least == 0:
        return f"below ×{most:.3g}"
    return f"×{least:.3g}" if f"{least:.3g}" == f"{most:.3g}" else f"×{least:.3g} to {most:.3g}"


def _without_spike(tables: Tables) -> Said:
    """Say up to which learning rate no run spiked, diverged or was dead, the largest first."""
    grids = {(row["task"], row["optimizer"]): row["grid"].split(", ") for row in tables["tuned"].to_dict("records")}
    for task, rows in _by_task(tables["field"]).items():
        groups: dict[tuple[float, bool], list[Row]] = {}
        for row in rows:
            largest = row["largest_without_spike"]
            last = largest == float(grids[task, row["optimizer"]][-1])
            groups.setdefault((0.0 if math.isnan(largest) else largest, last), []).append(row)
        none = groups.pop((0.0, False), [])
        said = [
            f"up to ×{largest:g}{', the largest tried,' * last} with {_of(own)}"
            for (largest, last), own in sorted(groups.items(), reverse=True)
        ]
        does = "spikes, diverges or stays at a guess"
        parts = [f"no run {does} {listed(said)}"] if said else []
        parts += [f"even at the smallest rate tried a run {does} with {_of(none)}"] if none else []
        yield task, "; ".join(parts)


def _of(rows: Sequence[Row]) -> str:
    """Return the optimizers of rows, and over how many seeds they are."""
    seeds = sorted({row["n"] for row in rows})
    n = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{_named([row['optimizer'] for row in rows])} (n = {n})"


def _fastest(tables: Tables) -> Said:
    """Say in how many steps each optimizer reaches the task's main target, the fewest first."""
    for task, rows in _by_task(tables["overview"]).items():
        held = [row for row in rows if row["target_n"] > 0]
        if not held:
            continue
        target = held[0]["target"]
        most = sorted((row for row in held if row["target_reached"]), key=lambda row: row["target_median_steps"])
        none = [row["optimizer"] for row in held if not row["target_reached"]]
        said = [
            f"{row['optimizer']} {_steps(row)}{row['target_reached']:g} of {row['target_n']:g} runs)" for row in most
        ]
        if not said:
            yield task, f"no run of {sum(row['target_n'] for row in held):g} reaches {target} at its best learning rate"
        else:
            text = f"{target} is reached by {_few(said)}"
            yield task, text + (f"; never by {_named(none)}" if none else "")
    main = {(row["task"], row["target"]) for row in tables["overview"].to_dict("records")}
    of_main = [row for row in tables["speedups"].to_dict("records") if (row["task"], row["target"]) in main]
    yield from _told_apart(of_main, _speed_apart)


def _steps(row: Row) -> str:
    steps = row["target_median_steps"]
    return f"in {steps:,.0f} steps (median, " if math.isfinite(steps) else "in too few runs for a median ("


def _speed_apart(row: Row) -> str:
    faster = row["faster"] > row["slower"]
    pairs = row["faster"] if faster else row["slower"]
    return f"{row['optimizer']}, {'faster' if faster else 'slower'} in {pairs} of {_p(row)}"


def _lowest(tables: Tables) -> Said:
    """Say at which final loss each optimizer ends at its best learning rate, the lowest first."""
    tests = _by_task(tables["final_losses"])
    for task, rows in _by_task(tables["overview"]).items():
        ended = sorted((row for row in rows if row["n"]), key=lambda row: row["final_loss_mean"])
        said = [f"{row['optimizer']} {_loss(row)}" for row in ended]
        grids = {row["grid"] for row in ended}
        alone = len(grids) == 1 and "," not in min(grids)
        where = f"at ×{min(grids)}, the only learning rate tried" if alone else "at each one's best learning rate"
        if said:
            not_tested = len(said) > 1 and not any(row["p"] == row["p"] for row in tests.get(task, []))
            yield task, f"final losses {where}: {_few(said)}{'; no test compares them' * not_tested}"
    yield from _told_apart(tables["final_losses"].to_dict("records"), _loss_apart)


def _loss(row: Row) -> str:
    if math.isinf(row["final_loss_mean"]):
        return f"with a run that diverged (n = {row['n']})"
    return f"{mean_and_sd(row['final_loss_mean'], row['final_loss_sd'])} (n = {row['n']})"


def _loss_apart(row: Row) -> str:
    lower = "lower" if row["difference"] < 0 else "higher"
    return f"{row['optimizer']}, {lower} ({_p(row)})"


def _not_told_apart(tables: Tables) -> Said:
    """Say whom no paired test tells apart from the reference, and on how many pairs of seeds it rests."""
    parts: dict[tuple[str, str], dict[str, dict[str, list[str]]]] = {}  # by task and reference, measure, and reason
    for what, row, reason in _undecided(tables):
        measures = parts.setdefault((row["task"], row["baseline"]), {})
        measures.setdefault(what, {}).setdefault(reason, []).append(row["optimizer"])
    for (task, reference), measures in parts.items():
        said = [
            f"by {what} {listed([f'{_named(names)} ({reason})' for reason, names in reasons.items()])}"
            for what, reasons in measures.items()
        ]
        yield task, f"not told apart from {reference}: {'; '.join(said)}"


def _undecided(tables: Tables) -> Iterator[tuple[str, Row, str]]:
    """Yield what was measured, whose row it is, and the reason, for each comparison that was tested and left open."""
    main = {(row["task"], row["target"]) for row in tables["overview"].to_dict("records")}
    for row in tables["final_losses"].to_dict("records"):
        yield from _open("final loss", row)
    for row in tables["speedups"].to_dict("records"):
        if (row["task"], row["target"]) in main:
            yield from _open(f"steps to {row['target']}", row)
    for rates, where, reason in _open_rates(tables["spike_rates"]):
        yield f"spikes at {listed(rates)}", where, reason
    ramps = tables["thresholds"].to_dict("records") if "thresholds" in tables else []
    for row in ramps:
        if row["ratio_low"] <= 1 <= row["ratio_high"]:
            yield (
                "the learning rate at which ramps leave",
                row | {"baseline": row["reference"]},
                _count(int(row["pairs"]), "pair"),  # floats, as the reference's row has none
            )


def _open_rates(table: pd.DataFrame) -> Iterator[tuple[list[str], Row, str]]:
    """Yield for each optimizer the learning rates at which its spikes are not told apart, if there are any spikes."""
    found: dict[tuple[str, ...], tuple[list[str], Row]] = {}
    for row in table[(table.spikes > 0) | (table.baseline_spikes > 0)].to_dict("records"):
        for rate, _, reason in _open(f"×{row['lr_multiplier']:g}", row):
            found.setdefault((row["task"], row["optimizer"], reason), ([], row))[0].append(rate)
    for (*_, reason), (rates, where) in found.items():
        yield rates, where, reason


def _open(what: str, row: Row) -> Iterator[tuple[str, Row, str]]:
    """Yield a comparison whose test does not tell apart; nothing if there was none."""
    pairs, verdict = _count(row["n"], "pair"), row["verdict"]
    needed = re.search(r"(\d+) needed", verdict)
    if needed:
        yield what, row, f"{pairs}, too few: {needed[1]} needed"
    elif verdict == "not told apart":
        yield what, row, pairs
    elif verdict.startswith("no difference known"):
        yield what, row, f"no difference known in {pairs}"
