"""Reads configs/claim/: the claims whose endpoints, limits, tasks and arms were fixed before their runs.

An *arm expression* in a comparison names an arm and its learning rate: "s3" is the arm s3 at its own best rate, which
was found on the tuning seeds; "s3 second" at its second best; "s3 at 3" at three times the task's rate; "s3 at 3 x
adamw" at three times the best rate of the arm adamw. "10 x adamw" alone is a rate.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from s3bench import catalog
from s3bench.errors import UserError, unknown
from s3bench.report.claims.grades import CLAIM_ALPHA, Region
from s3bench.report.stats.paired_tests import ALPHA

GRID = (0.3, 1.0, 3.0)  # multipliers of the task's rate that are tried first
NUMBER = r"\d+(?:\.\d+)?"
AT = re.compile(rf"(?P<name>.+?) at (?P<factor>{NUMBER})(?: x (?P<of>.+))?")
RATE = re.compile(rf"(?P<factor>{NUMBER}) x (?P<of>.+)")
SECOND = " second"
OWN_QUESTIONS = ("stability", "steps", "spikes")  # ids of the questions on an optimizer of one's own
PAPER = re.compile(r"C(\d+)([a-z]?)")  # ids of the paper's claims; C7b is the second endpoint of C7
HORIZON = re.compile(r"(\d*)T(?:/(\d+))?")
NEEDED = {"statement", "effect", "measure", "limits"}
KEYS = NEEDED | {"scales", "arms", "grids", "primary", "control", "secondary", "expected", "first_seed"}
FIRST_BLOCK = 300  # the seed of the first block; experiments report on seeds below

RATIOS = ("loss", "steps", "threshold", "burden")  # measures in logarithms of ratios
MEASURES = (*RATIOS, "gap", "survival", "slope", "bound")  # see measures.py; bound is a check of every record

Expressions = Any  # of one comparison: arm expressions, or lists of them


@dataclass(frozen=True, kw_only=True)
class ArmAt:
    """An arm and its learning rate: `factor` times the task's, or times the best one of the arm `of`.

    Without a factor it is the arm's own best rate, or its second best if `second`.
    """

    name: str
    factor: float | None = None
    of: str | None = None
    second: bool = False


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a claim trains at one scale.

    Attributes:
        tasks: names of tasks.
        horizon: T, the steps of its runs; None: the task's.
        settings: overrides of all runs.
        run_minutes: what a run is expected to take on one device, for a plan on paper.
    """

    tasks: Sequence[str]
    horizon: int | None = None
    settings: Sequence[str] = ()
    run_minutes: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A claim, as it was fixed before its runs.

    Attributes:
        id: the name of its YAML file: C1.
        statement: the paper's, in one sentence.
        effect: what the number is, in words; low values support the claim.
        measure: how a block gives the number, see measures.py.
        region: what its values mean; of a measure in RATIOS in logarithms.
        scales: tasks and settings by scale.
        arms: the overrides of each arm's runs, without task, seed and learning rate.
        grids: multipliers of the task's rate that are tried first, of arms whose grid is not GRID.
        primary: the comparisons that decide, by name: the one that supports the claim least counts.
        control: comparisons that are trained with every block and say what the primary ones are worth.
        secondary: comparisons that are shown and decide nothing, trained in time that no claim needs.
        first_seed: of its blocks; a later one where seeds were seen before the endpoint was fixed.
        expected: the distance from the limit, in standard deviations of a block, that earlier runs let expect.
        words: what took the place of OWN and OTHER in the file.
        digest: of the file's content, with these words.
    """

    id: str
    statement: str
    effect: str
    measure: str
    region: Region
    scales: Mapping[str, Scale] = field(default_factory=dict)
    arms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    grids: Mapping[str, Sequence[float]] = field(default_factory=dict)
    primary: Mapping[str, Expressions] = field(default_factory=dict)
    control: Mapping[str, Expressions] = field(default_factory=dict)
    secondary: Mapping[str, Expressions] = field(default_factory=dict)
    expected: float = math.nan
    first_seed: int = FIRST_BLOCK
    words: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""

    @property
    def alpha(self) -> float:
        """The probability that anything said of it is false: the paper's claims share ALPHA, and so do the questions
        on an optimizer of one's own.
        """
        if PAPER.fullmatch(self.id):
            return CLAIM_ALPHA
        return ALPHA / len(OWN_QUESTIONS) if self.words else ALPHA

    @property
    def shares(self) -> bool:
        """Whether its numbers are shares, each task's of its own; else a block has the mean over its tasks."""
        return self.measure == "survival"

    def in_block(self) -> dict[str, Expressions]:
        """Return the comparisons that every block has."""
        return {**self.primary, **self.control}

    def comparisons(self) -> dict[str, Expressions]:
        """Return all comparisons, the primary ones first."""
        return {**self.in_block(), **self.secondary}

    def trained(self, comparisons: Mapping[str, Expressions]) -> list[str]:
        """Return every arm expression whose run these comparisons need, once."""
        found = dict.fromkeys(text for one in comparisons.values() for text in _flat(self._runs(one)))
        return [text for text in found if not RATE.fullmatch(text)]

    def is_trend(self, comparison: Expressions) -> bool:
        """Return whether a comparison is a list of those of steps, whose trend the claim's limits do not judge."""
        return self.measure == "steps" and not isinstance(comparison[0], str)

    def _runs(self, comparison: Expressions) -> Expressions:
        """Return a comparison without what is only tuned, or replayed."""
        if self.measure == "steps":
            if self.is_trend(comparison):
                return [self._runs(one) for one in comparison]
            return comparison[:2]
        return comparison[:1] if self.shares else comparison

    def replayed(self, comparisons: Mapping[str, Expressions]) -> list[str]:
        """Return the arms of replays whose spikes these comparisons count."""
        return list(dict.fromkeys(arm for _, arm in comparisons.values())) if self.shares else []

    def tuned(self, comparisons: Mapping[str, Expressions]) -> list[str]:
        """Return the arms whose best learning rates these comparisons need."""
        names: dict[str, None] = {}
        for text in dict.fromkeys(text for one in comparisons.values() for text in _flat(one)):
            if text in self.replayed(comparisons):
                continue
            fixed, arm = rate(text), arm_at(text)
            of = fixed[1] if fixed else arm.of
            if of is not None or arm.factor is None:
                names.setdefault(of or arm.name)
        return list(names)

    def overrides(self, arm: str, scale: str, task: str) -> list[str]:
        """Return the overrides of an arm's runs on a task, without seed and learning rate.

        Unless it is said otherwise a run is evaluated only at its end: more tells a claim nothing.
        """
        chosen = self.scales[scale]
        own = [_horizon(text, chosen.horizon) for text in self.arms[arm]]
        given = [f"task={task}", "task.targets=[]", *chosen.settings]
        if chosen.horizon is not None and not any(text.startswith("horizon=") for text in own):
            own.append(f"horizon={chosen.horizon}")
        if not any(text.startswith("eval_every=") for text in (*given, *own)):
            own += [text.replace("horizon=", "eval_every=") for text in own if text.startswith("horizon=")]
        return [*given, *own]


def _flat(expressions: Expressions) -> Iterator[str]:
    for item in expressions:
        if isinstance(item, str):
            yield item
        else:
            yield from _flat(item)


def arm_at(text: str) -> ArmAt:
    """Return what an arm expression means."""
    if found := AT.fullmatch(text):
        return ArmAt(name=found["name"], factor=float(found["factor"]), of=found["of"])
    if text.endswith(SECOND):
        return ArmAt(name=text.removesuffix(SECOND), second=True)
    return ArmAt(name=text)


def rate(text: str) -> tuple[float, str] | None:
    """Return factor and arm of an expression such as "10 x adamw"; None of an arm expression."""
    found = RATE.fullmatch(text)
    return (float(found["factor"]), found["of"]) if found else None


def _horizon(override: str, horizon: int | None) -> str:
    """Return an override with a horizon such as 2T or T/4 made a number of steps."""
    key, _, value = override.partition("=")
    found = HORIZON.fullmatch(value)
    if key != "horizon" or not found or horizon is None:
        return override
    return f"horizon={horizon * int(found[1] or 1) // int(found[2] or 1)}"


def load_claims(ids: Sequence[str] = (), replace: Mapping[str, str] | None = None) -> list[Registered]:
    """Return claims by id, all of the paper's if none is named.

    Args:
        ids: names of files in configs/claim/.
        replace: words of the overrides, such as OWN, and what takes their place.

    Raises:
        UserError: an unknown id, or a file that is not a claim.
    """
    files = catalog.choices("claim")
    for name in ids:
        if name not in files:
            raise unknown("claim", name, files)
    paper = sorted((name for name in files if PAPER.fullmatch(name)), key=_place)
    return [_load(name, files[name], replace or {}) for name in (ids or paper)]


def _place(name: str) -> tuple[int, str]:
    """Return the place of a claim of the paper among them: C7b comes after C7."""
    found = PAPER.fullmatch(name)
    return (int(found[1]), found[2]) if found else (0, name)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _region(measure: str, *, claimed: float, none: float | None = None, equal: float | None = None) -> Region:
    """Return what the limits of a YAML file mean. Of ratios `equal` is a factor, such as 1.05. Raises ValueError."""
    if measure not in RATIOS:
        return Region(claimed=claimed, none=0.0 if none is None else none, equal=equal or 0.0)
    if min(claimed, none or 1.0, equal or 1.0) <= 0:
        raise ValueError(f"the limits of a ratio ({measure}) must be above 0")
    return Region(claimed=math.log(claimed), none=math.log(none or 1.0), equal=math.log(equal or 1.0), ratio=True)


def _load(name: str, file: Path, replace: Mapping[str, str]) -> Registered:
    """Return the claim in a file. Raises UserError."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.keys() - KEYS or NEEDED - content.keys():
            raise ValueError(f"its keys must be among {', '.join(sorted(KEYS))}, with {', '.join(sorted(NEEDED))}")
        if content["measure"] not in MEASURES:
            raise ValueError(f"its measure must be one of {', '.join(MEASURES)}")
        text = json.dumps(content)
        for word, other in replace.items():
            text = re.sub(rf"\b{word}\b", other, text)
        content = json.loads(text)
        given: dict[str, Any] = {**content, "region": _region(content["measure"], **content["limits"])}
        del given["limits"]
        given["scales"] = {scale: Scale(**of) for scale, of in content.get("scales", {}).items()}
        claim = Registered(id=name, words=replace, digest=_digest(content), **given)
        every = claim.comparisons()
        for arm in (*(arm_at(text).name for text in claim.trained(every)), *claim.tuned(every)):
            if arm not in claim.arms:
                raise ValueError(f"{arm!r} is not an arm; those are {', '.join(claim.arms)}")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file} is not a claim: {' '.join(str(error).split())}") from error
    return claim
