"""The one error that is the user's to mend."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in what the user asked for; its message is one line that says what is allowed. Exit code 2."""


def unknown(what: str, name: str, allowed: Iterable[str]) -> UserError:
    """The error for a name that does not exist: names the nearest one that does, and all that do."""
    names = sorted(allowed)
    near = get_close_matches(name, names, n=1)
    question = f" Did you mean {near[0]}?" if near else ""
    return UserError(f"unknown {what} {name!r}.{question} There is: {', '.join(names) or 'nothing'}")


def one_line(error: BaseException) -> str:
    """The error's message on one line, with its type where the message alone says too little."""
    while not str(error) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".rstrip(": ")
