"""Turns a monitor's state into plain data and back: numbers, strings, lists, None."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

VERSION = 4
NON_FINITE = ("nan", "inf", "-inf")  # as JSON has no such numbers, their names are saved

State = dict[str, Any]


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: floats that are not finite by their names, sequences as lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, bool | int | str) or value is None:
        return value
    if hasattr(value, "__iter__"):
        return [plain(part) for part in value]
    value = float(value)
    return value if math.isfinite(value) else str(value)


def real(value: Any) -> float:
    """Return a saved float; raise ValueError if it is none."""
    if isinstance(value, str) and value not in NON_FINITE:
        raise ValueError(f"{value!r} is no number")
    return float(value)


def reals(values: Any) -> list[float]:
    """Return saved floats; raise ValueError if one is none."""
    return [real(value) for value in values]


def whole(value: Any) -> int:
    """Return a saved whole number; raise ValueError if it is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no whole number")
    return value


def sealed(state: State) -> State:
    """Return the state in plain data, with its version and a digest that shows damage."""
    state = {"version": VERSION, **plain(state)}
    text = json.dumps(state, sort_keys=True, allow_nan=False)
    return {**state, "digest": hashlib.sha256(text.encode()).hexdigest()}
