"""The parser of the command line: whatever is wrong with a line is a UserError that says what is allowed."""

import argparse
from typing import Any, NoReturn

from s3bench.errors import UserError, unknown


class Parser(argparse.ArgumentParser):
    """Reports mistakes on one line."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse arguments as argparse does, which does so once more for a command's own; what is left are overrides.

        argparse finds overrides only in one place; here they may come before and after options.

        Raises UserError for options that do not exist, and for anything left where there are no overrides.
        """
        found, left = super().parse_known_args(args, namespace)
        for text in left:
            if text.startswith("-"):
                shown = [option for option, of in self._option_string_actions.items() if of.help != argparse.SUPPRESS]
                raise unknown(f"option of {self.prog}", text.partition("=")[0], shown)
            if not hasattr(found, "overrides"):
                raise UserError(f"unexpected argument {text!r}; {' '.join(self.format_usage().split())}")
        return found, left
