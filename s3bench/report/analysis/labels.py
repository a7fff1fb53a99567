"""Labels of runs: names that tell different settings under one name apart, and are no longer than that needs."""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from s3bench.record import identity


class Named(Protocol):
    """What labels are made from: a run, or anything with these three."""

    @property
    def task(self) -> str:
        """The name of the task's YAML file."""

    @property
    def optimizer(self) -> str:
        """The name of the optimizer's YAML file."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved config."""


class Labels(NamedTuple):
    """The labels of one run."""

    task_label: str
    optimizer_label: str
    ladder: str  # the task's label without the horizon: the same task at several horizons
    setup: str  # the task's label without horizon and schedule, in which a ramp and other runs can agree


def labels(runs: Sequence[Named]) -> list[Labels]:
    """Return labels that tell different settings under one name apart: "s3 (p=2.5)".

    Settings that can change a result, apart from those of the optimizer and its clip, the learning-rate multiplier and
    the seed, make another task. A label lists only the settings that differ from the usual ones. Usual means: for an
    optimizer, the settings found on the most tasks; for a task, those of most undisturbed runs. This keeps one
    ablation, or shocks on a smaller model, from lengthening every other label. The horizon is always listed where there
    are several.

    Ramps are labelled among themselves, as no other run is held against them: "source_bytes" is the name of the only
    ramp on that setup, whatever schedules its other runs have.
    """
    apart = {"code": None, "shock": None}  # other code is refused, and shocked runs have tables of their own
    settings = _without_usual_clips([flat(identity.settings(run.config) | apart) for run in runs])
    tasks = [tuple(item for item in s.items() if not _of_optimizer(item[0])) for s in settings]
    undisturbed = [None if identity.shock(run.config) else index for index, run in enumerate(runs)]
    ramps = {index for index, run in enumerate(runs) if identity.is_ramp(run.config)}
    setups = _labelled({index: run.task for index, run in enumerate(runs)}, settings, _of_setup, undisturbed)
    others = {index: run.task for index, run in enumerate(runs) if index not in ramps}
    of_ramps = _labelled({index: setups[index] for index in ramps}, settings, _of_course, undisturbed)
    task_labels = _labelled(others, settings, lambda key: not _of_optimizer(key), undisturbed)
    ladders = _labelled(others, settings, lambda key: not _of_optimizer(key) and key != "horizon", undisturbed)
    optimizers = _labelled({index: run.optimizer for index, run in enumerate(runs)}, settings, _of_optimizer, tasks)
    task_labels, ladders = task_labels | of_ramps, ladders | of_ramps
    return [
        Labels(task_label=task_labels[i], optimizer_label=optimizers[i], ladder=ladders[i], setup=setups[i])
        for i in range(len(runs))
    ]


def _without_usual_clips(settings: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Leave out what a label need not say of clipping: that there is none, and what all runs of one clip share."""
    values: dict[tuple[str, str], set[str]] = {}
    for own in settings:
        for key, text in own.items():
            values.setdefault((own.get("clip._target_", ""), key), set()).add(text)

    def is_said(own: Mapping[str, str], key: str) -> bool:
        argument = key.startswith("clip.") and key != "clip._target_"
        return key != "clip_norm" and not (argument and len(values[own["clip._target_"], key]) == 1)

    return [{key: text for key, text in own.items() if is_said(own, key)} for own in settings]


def _of_optimizer(key: str) -> bool:
    return key.startswith(("optimizer.", "clip."))


def _of_course(key: str) -> bool:
    """Return whether a setting says how a run goes on, and not what is trained."""
    return key.startswith("schedule.") or key in ("horizon", "eval_every", "measure_every", "stop_diverged")


def _of_setup(key: str) -> bool:
    return not (_of_optimizer(key) or _of_course(key))


def _labelled(
    names: Mapping[int, str],
    settings: Sequence[Mapping[str, str]],
    belongs: Callable[[str], bool],
    seen: Sequence[Hashable],
) -> dict[int, str]:
    """Return a label for each name, by the run's index: "name (details)", from the settings that belong to it."""
    found = dict(names)
    places: dict[str, list[int]] = {}
    for index, name in names.items():
        places.setdefault(name, []).append(index)
    for name, indices in places.items():
        own = [{key: text for key, text in settings[index].items() if belongs(key)} for index in indices]
        details = _details(own, [seen[index] for index in indices])
        for index, detail in zip(indices, details, strict=True):
            found[index] = f"{name} ({detail})" if detail else name
    return found


def _details(own: Sequence[Mapping[str, str]], seen: Sequence[Hashable]) -> list[str]:
    """Return what tells each of these settings, all under one name, apart; `seen`: where each was found."""
    keys = dict.fromkeys(key for s in own for key in s)
    differing = [key for key in keys if _distinct(own, [key]) > 1]
    trained = [key for key in differing if key not in ("eval_every", "measure_every")]
    if _distinct(own, trained) == _distinct(own, differing):  # how often a run was evaluated need not be listed
        differing = trained
    counted = [key for key in differing if key != "horizon"]
    usual = _usual([tuple(s.get(key, "-") for key in counted) for s in own], seen)
    omitted = dict(zip(counted, usual, strict=True)) if usual else {}
    details = [_named(s, differing, omitted) for s in own]
    if len(set(details)) < _distinct(own, differing):
        details = [", ".join(f"{key}={s.get(key, '-')}" for key in differing) for s in own]
    return details


def _distinct(settings: Sequence[Mapping[str, str]], keys: Sequence[str]) -> int:
    """Count the different combinations of values of these keys."""
    return len({tuple(of.get(key) for key in keys) for of in settings})


def _named(settings: Mapping[str, str], keys: Sequence[str], omitted: Mapping[str, str]) -> str:
    """List the keys that are set and differ from `omitted`: "p=2, schedule=constant"."""
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
    """Return the settings found in more places than any others; None if there is a tie."""
    places: dict[tuple[str, ...], set[Hashable]] = {}
    for own, place in zip(settings, seen, strict=True):
        places.setdefault(own, set()).update(() if place is None else (place,))
    first, second = sorted(map(len, places.values()), reverse=True)[:2] if len(places) > 1 else (0, 0)
    return max(places, key=lambda own: len(places[own])) if first > second else None


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Flatten nested settings to {"optimizer.p": "3.0"}, without the axes of a grid."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        elif key not in ("seed", "lr_multiplier"):
            whole = isinstance(value, float) and value.is_integer()  # p=3 and p=3.0 are one run
            found[f"{above}{key}"] = value if isinstance(value, str) else json.dumps(int(value) if whole else value)
    return found
