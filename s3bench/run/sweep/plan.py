"""Plans a sweep: which runs it consists of, and which of them are still to be trained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3bench import record
from s3bench.run.config.grid import run_configs
from s3bench.run.config.schema import RunConfig


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep."""

    configs: list[RunConfig]
    folders: list[Path]  # of their records, in the same order
    todo: list[RunConfig]  # those without a result
    over: dict[Path, str]  # the states of the others, by folder: they do not change any more

    @property
    def summary(self) -> str:
        """How many runs there are, where, and how many of them are over."""
        results = ", ".join(sorted({config.results_dir for config in self.configs}))
        over = len(self.configs) - len(self.todo)
        return f"{len(self.configs):,} runs in {results}, {over:,} of them already over"


def plan_sweep(overrides: list[str], max_runs: float = math.inf, zipped: Sequence[Sequence[str]] = ()) -> Plan:
    """Return the runs that the overrides ask for.

    Raises:
        UserError: a mistake in the overrides, more than `max_runs` runs, or a results folder with records of another
            version.
    """
    configs = run_configs(overrides, max_runs, zipped)
    folders = [record.folder_of(vars(config)) for config in configs]
    record.refuse_other_version({folder.parent for folder in folders})
    states = {folder: record.state(folder) for folder in folders}
    over = {folder: state for folder, state in states.items() if state in record.OVER}
    todo = [config for config, folder in zip(configs, folders, strict=True) if folder not in over]
    return Plan(configs=configs, folders=folders, todo=todo, over=over)
