"""Where the YAML files are and what they are called: the package's own, and those of the folder one stands in."""

from pathlib import Path

GROUPS = ("task", "optimizer", "schedule", "tracker", "experiment")


def config_dirs() -> list[Path]:
    """The package's configs folder, then ./configs where it exists: there users put YAMLs of their own."""
    package = Path(__file__).parent
    inside, beside = package / "configs", package.parent / "configs"  # in a wheel; in a checkout
    own = inside if inside.is_dir() else beside
    here = Path.cwd() / "configs"
    return [own] if here.resolve() == own.resolve() or not here.is_dir() else [own, here]


def choices(group: str) -> dict[str, Path]:
    """The YAML file of each name in a config group, sorted by name."""
    files = {file.stem: file for folder in config_dirs() for file in (folder / group).glob("*.yaml")}
    return dict(sorted(files.items()))


def about(file: Path) -> str:
    """What a YAML file says of itself: its first comment that is no Hydra directive and no command."""
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.lstrip("# ").strip()
        if line.startswith("#") and not text.startswith(("@package", "s3bench ")):
            return text
    return ""
