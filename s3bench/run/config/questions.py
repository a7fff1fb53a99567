"""What the command line answers without training: options that print a config, as Hydra's own applications have them,
and the command `list`.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from s3bench import catalog
from s3bench.console import say
from s3bench.errors import UserError

KINDS = {
    f"{group}s": group for group in ("task", "optimizer", "clip", "schedule", "launcher", "experiment", "arm", "claim")
}
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")  # Hydra's names


def add_questions(command: argparse.ArgumentParser, which: str) -> argparse._MutuallyExclusiveGroup:
    """Add Hydra's options that print a config and train nothing; return the group of those that exclude each other."""
    group = command.add_mutually_exclusive_group()
    text = (
        f"print the config of {which} as YAML and exit: job (the run's), hydra (Hydra's own) or all; "
        "interpolations are printed as they are written"
    )
    group.add_argument("--cfg", "-c", choices=("job", "hydra", "all"), help=text)
    text = "print where the config comes from and exit: Hydra's search path, defaults list, ... (default: all)"
    group.add_argument("--info", "-i", nargs="?", const="all", choices=INFO, help=text)
    text = "with --cfg: resolve interpolations; the config is then as the record's config.yaml will hold it"
    command.add_argument("--resolve", action="store_true", help=text)
    command.add_argument("--package", "-p", metavar="KEY", help="with --cfg: print this part alone, such as task.build")
    return group


def answer(chosen: argparse.Namespace, overrides: list[str], zipped: Sequence[Sequence[str]] | None = None) -> bool:
    """Print what --cfg or --info asks for; return whether one of them was given.

    Args:
        chosen: the parsed command line.
        overrides: the run's, or the sweep's.
        zipped: of a sweep, the keys whose lists are zipped; None for a run.

    Raises:
        UserError: a mistake.
    """
    if chosen.cfg is None and (chosen.resolve or chosen.package is not None):
        raise UserError("--resolve and --package only change what --cfg prints: add --cfg job")
    if chosen.cfg is None and chosen.info is None:
        return False
    from s3bench.run.config import show

    asked = show.asked_settings(overrides, zipped)
    if chosen.cfg is not None:
        print(show.config_yaml(asked, chosen.cfg, chosen.package, resolve=chosen.resolve), end="")
    else:
        show.print_info(asked, chosen.info)
    return True


def add_list(commands: Any) -> None:
    """Add the command `list` to the subparsers of a command line."""
    listing = commands.add_parser(
        "list", help="list the names that task=, optimizer=, clip=, schedule=, launcher= and experiment= accept"
    )
    listing.add_argument("kind", choices=list(KINDS))
    listing.set_defaults(command=_list)


def _list(chosen: argparse.Namespace) -> int:
    files = catalog.choices(KINDS[chosen.kind])
    width = max(map(len, files), default=0)
    for name, file in files.items():
        say(f"{name:<{width}}  {catalog.about(file)}")
    return 0
