"""Labels of runs: names that tell different settings under one name apart, and say no more than that needs."""

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from s3bench.record import identity


def label(rows: Sequence[dict[str, Any]]) -> None:
    """Give rows of load_record labels that tell different settings under one name apart: "s3 (p=2.5)".

    What else than the optimizer, the learning rate's multiplier and the seed can change a result makes another task.
    The `ladder` is the task's label without the horizon: the same task at several horizons. A label names what differs
    from the usual settings of that name, so that an ablation, or shocks on a smaller model, give the rest no longer
    names: of an optimizer those that stand in more tasks than any others, of a task those of most undisturbed runs. A
    horizon is always named where there are several.
    """
    apart = {"code": None, "shock": None}  # other code is refused, and shocked runs stand in tables of their own
    settings = [flat(identity.settings(row["config"]) | apart) for row in rows]
    tasks = [tuple(item for item in s.items() if not item[0].startswith("optimizer.")) for s in settings]
    lone = [None if identity.shock(row["config"]) else index for index, row in enumerate(rows)]
    for row in rows:
        row["ladder"] = row["task"]
    for column, belongs in (
        ("optimizer", lambda key: key.startswith("optimizer.")),
        ("ladder", lambda key: not key.startswith("optimizer.") and key != "horizon"),
        ("task", lambda key: not key.startswith("optimizer.")),
    ):
        named: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            named.setdefault(row[column], []).append(index)
        for name, indices in named.items():
            own = [{key: text for key, text in settings[index].items() if belongs(key)} for index in indices]
            places = [tasks[index] if column == "optimizer" else lone[index] for index in indices]
            for index, detail in zip(indices, _details(own, places), strict=True):
                rows[index][column] = f"{name} ({detail})" if detail else name


def _details(own: Sequence[Mapping[str, str]], places: Sequence[Hashable]) -> list[str]:
    """What is said of each of these settings under one name, which are seen in these places."""
    keys = dict.fromkeys(key for s in own for key in s)
    differing = [key for key in keys if _distinct(own, [key]) > 1]
    trained = [key for key in differing if key not in ("eval_every", "measure_every")]
    if _distinct(own, trained) == _distinct(own, differing):  # how often one looked need not be said
        differing = trained
    counted = [key for key in differing if key != "horizon"]
    usual = _usual([tuple(s.get(key, "-") for key in counted) for s in own], places)
    omitted = dict(zip(counted, usual, strict=True)) if usual else {}
    details = [_named(s, differing, omitted) for s in own]
    if len(set(details)) < _distinct(own, differing):
        details = [", ".join(f"{key}={s.get(key, '-')}" for key in differing) for s in own]
    return details


def _distinct(settings: Sequence[Mapping[str, str]], keys: Sequence[str]) -> int:
    """How many different values these keys have together."""
    return len({tuple(of.get(key) for key in keys) for of in settings})


def _named(settings: Mapping[str, str], keys: Sequence[str], omitted: Mapping[str, str]) -> str:
    """Of these keys those that are there and are not as omitted: "p=2, schedule=constant"."""
    parts = []
    for key in keys:
        node, _, name = key.rpartition(".")
        if key in settings and settings[key] != omitted.get(key):
            is_code = name == "_target_"
            parts.append(
                f"{node if is_code else name}={settings[key].rpartition('.')[2] if is_code else settings[key]}"
            )
    return ", ".join(parts)


def _usual(settings: Sequence[tuple[str, ...]], seen: Sequence[Hashable]) -> tuple[str, ...] | None:
    """Of different settings those that are `seen` in more places than any others; None if none are."""
    places: dict[tuple[str, ...], set[Hashable]] = {}
    for own, place in zip(settings, seen, strict=True):
        places.setdefault(own, set()).update(() if place is None else (place,))
    first, second = sorted(map(len, places.values()), reverse=True)[:2] if len(places) > 1 else (0, 0)
    return max(places, key=lambda own: len(places[own])) if first > second else None


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested settings as {"optimizer.p": "3.0"}, without the axes of a grid."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        elif key not in ("seed", "lr_multiplier"):
            whole = isinstance(value, float) and value.is_integer()  # p=3 and p=3.0 are one run
            found[f"{above}{key}"] = value if isinstance(value, str) else json.dumps(int(value) if whole else value)
    return found
