"""Types of the command line's options. Each raises argparse.ArgumentTypeError for a text that is none."""

import argparse
import math

LONGEST = 19  # digits of a count
MOST_PORT = 65_535


def count(text: str) -> int:
    """Return a positive integer."""
    if not (text.isdecimal() and len(text) < LONGEST) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def port(text: str) -> int:
    """Return a port's number; 0 for any that is free."""
    if not (text.isdecimal() and len(text) < LONGEST) or int(text) > MOST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, an integer from 0 to {MOST_PORT}")
    return int(text)


def keys(text: str) -> list[str]:
    """Return several keys that commas separate, such as task,horizon."""
    found = [key.strip() for key in text.split(",")]
    if len(found) < 2 or not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} does not name several keys, such as task,horizon")
    return found


def time_span(text: str) -> float:
    """Return the seconds of a text such as 90s, 20m or 1.5h."""
    number, unit = text[:-1], {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    try:
        value = float(number) * (unit or math.nan)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e8:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 20m or 1.5h")
    return value


def seconds(text: str) -> float:
    """Return a number of seconds, at least 0.1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds (at least 0.1)")
    return value
