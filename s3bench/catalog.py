"""Where the YAML files are and what they are called: the package's own, and those of the folder one stands in."""

from pathlib import Path

from s3bench.errors import UserError

GROUPS = ("task", "optimizer", "schedule", "tracker", "launcher", "experiment")


def config_dirs() -> list[Path]:
    """The package's configs folder, then ./configs where it exists: there users put YAMLs of their own."""
    package = Path(__file__).parent
    inside, beside = package / "configs", package.parent / "configs"  # in a wheel; in a checkout
    own = inside if inside.is_dir() else beside
    here = Path.cwd() / "configs"
    return [own] if here.resolve() == own.resolve() or not here.is_dir() else [own, here]


def choices(group: str) -> dict[str, Path]:
    """The YAML file of each name in a config group, sorted by name. Raises UserError: two files of one name differ."""
    files: dict[str, Path] = {}
    for folder in config_dirs():
        for file in (folder / group).glob("*.yaml"):
            first = files.setdefault(file.stem, file)
            if first.read_bytes() != file.read_bytes():
                raise UserError(f"{file} has the name of one of s3bench's own {group} files; give it another")
    return dict(sorted(files.items()))


def about(file: Path) -> str:
    """What a YAML file says of itself: its first comment that is no Hydra directive and no command."""
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.lstrip("# ").strip()
        if line.startswith("#") and not text.startswith(("@package", "s3bench ")):
            return text
    return ""
