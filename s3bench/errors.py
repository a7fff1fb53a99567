"""The error for mistakes that the user can fix, and errors on one line."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in what the user asked for. Its message is one line: what is wrong and what is allowed. Exit code 2."""


def unknown(what: str, name: str, allowed: Iterable[str]) -> UserError:
    """Return the error for a name that does not exist; it lists the names that do, and suggests the nearest one.

    Args:
        what: the kind of thing that the name should be, such as "task".
        name: the unknown name.
        allowed: the names that exist.
    """
    names = sorted(allowed)
    near = get_close_matches(name, names, n=1)
    question = f" Did you mean {near[0]}?" if near else ""
    choice = f"Choose from: {', '.join(names)}" if names else "There is none to choose from"
    return UserError(f"unknown {what} {name!r}.{question} {choice}")


def one_line(error: BaseException) -> str:
    """Return the error's message on one line, after its type unless it is a UserError, whose message says enough."""
    while not str(error) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".rstrip(": ")
