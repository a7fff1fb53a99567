"""The error for mistakes that the user can fix, errors on one line, and foreign text that is safe to print."""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

LONGEST = 4000  # characters of a message


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
    """Return the error's message on one line, after its type unless it is a UserError, whose message says enough.

    If the current folder was deleted meanwhile, that is the message. What is longer than a screen loses its middle.
    """
    try:
        refuse_deleted_folder()
    except UserError as gone:
        error = gone
    while not str(error) and error.__cause__ is not None:
        error = error.__cause__
    text = printable(" ".join(str(error).split()))
    text = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".rstrip(": ")
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"


def printable(text: str) -> str:
    r"""Return a text with its control characters escaped, as \x1b: they would steer the terminal that shows them."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def refuse_deleted_folder() -> None:
    """Raise UserError if the current folder was deleted."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        here = Path("/proc/self/cwd")  # Linux tells where it was
        name = str(here.readlink()).removesuffix(" (deleted)") if here.is_symlink() else os.environ.get("PWD", "")
        raise UserError(f"the current folder {name} was deleted; change to another one") from error
