"""Completes the command line in bash, zsh and fish: which names, keys and folders can come next.

argcomplete does the work. It is imported only to answer a shell or to print a shell's script.
"""

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from s3bench import catalog
from s3bench.errors import UserError

SHELLS = ("bash", "zsh", "fish")
KEY = re.compile(r"^(\w+):", re.MULTILINE)  # at the top level of a YAML file


def complete_with(argument: argparse.Action, completer: Callable[..., list[str]]) -> None:
    """Have argcomplete call `completer` for the values of an argument."""
    completed: Any = argument  # argcomplete looks for an attribute that argparse does not declare
    completed.completer = completer


def answer_shell(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for completions and end the process; do nothing otherwise."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser, always_complete_options=False)


def script(shell: str) -> str:
    """Return the code that makes a shell complete `s3bench`."""
    from argcomplete.shell_integration import shellcode

    return shellcode(["s3bench"], shell=shell)


def add_command(commands: Any) -> None:
    """Add the command `completion` to the subparsers of a command line."""
    command = commands.add_parser(
        "completion",
        help="print the script that completes this command line in a shell",
        description=(
            'bash: eval "$(s3bench completion bash)"; zsh, after compinit: eval "$(s3bench completion zsh)"; '
            "fish: s3bench completion fish | source"
        ),
    )
    command.add_argument("shell", choices=SHELLS)
    command.set_defaults(command=_print_script)


def _print_script(chosen: argparse.Namespace) -> int:
    print(script(chosen.shell), end="")
    return 0


def overrides(prefix: str, **_: Any) -> list[str]:
    """Complete KEY=VALUE: the keys of configs/run.yaml, and the names in a config group, also after a comma."""
    key, equals, value = prefix.partition("=")
    if not equals:
        return [f"{name}=" for name in _keys()]
    before, comma, _typed = value.rpartition(",")
    return [f"{key}={before}{comma}{name}" for name in _names(key)]


def tasks(**_: Any) -> list[str]:
    """Complete the name of a task."""
    return _names("task")


def results(prefix: str, **_: Any) -> list[str]:
    """Complete a folder; where nothing is typed yet, one in results/."""
    folder = Path(prefix).parent if not prefix.endswith("/") else Path(prefix)
    if not prefix and Path("results").is_dir():
        folder = Path("results")
    try:
        return sorted(f"{place}/" for place in folder.iterdir() if place.is_dir())
    except OSError:
        return []


def _keys() -> list[str]:
    text = (catalog.config_dirs()[0] / "run.yaml").read_text(encoding="utf-8")
    return sorted({*catalog.GROUPS, *KEY.findall(text)} - {"defaults"})


def _names(group: str) -> list[str]:
    """Return the names in a config group: none if there is no such group, or if two of its files clash."""
    try:
        return list(catalog.choices(group)) if group in catalog.GROUPS else []
    except UserError:
        return []
