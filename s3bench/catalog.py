"""Finds the YAML files that can be named on the command line: the package's own, and those in ./configs."""

from pathlib import Path

from s3bench.errors import UserError

GROUPS = ("task", "optimizer", "clip", "schedule", "tracker", "launcher", "experiment")


def config_dirs() -> list[Path]:
    """Return the package's configs folder, then ./configs if it exists, where users put YAML files of their own."""
    package = Path(__file__).parent
    in_wheel, in_checkout = package / "configs", package.parent / "configs"
    own = in_wheel if in_wheel.is_dir() else in_checkout
    here = Path.cwd() / "configs"
    return [own] if here.resolve() == own.resolve() or not here.is_dir() else [own, here]


def choices(group: str) -> dict[str, Path]:
    """Return the YAML file of each name in a config group, sorted by name.

    Raises:
        UserError: a file in ./configs has the name of one of the package's own, but other content.
    """
    files: dict[str, Path] = {}
    for folder in config_dirs():
        for file in (folder / group).glob("*.yaml"):
            first = files.setdefault(file.stem, file)
            if first.read_bytes() != file.read_bytes():
                raise UserError(f"{file} has the name of one of s3bench's own {group} files; give it another name")
    return dict(sorted(files.items()))


def about(file: Path) -> str:
    """Return a YAML file's description: its first comment that is neither a Hydra directive nor a command."""
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.lstrip("# ").strip()
        if line.startswith("#") and not text.startswith(("@package", "s3bench ")):
            return text
    return ""
