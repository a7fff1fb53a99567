"""Replays spikes: trains a run again to shortly before a spike, and from there once per arm, with one thing changed."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from s3bench import record
from s3bench.console import patient_console, say
from s3bench.errors import UserError, one_line, unknown
from s3bench.run.build import build_parts, find_device
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import RunConfig, as_dict
from s3bench.run.replay.arms import FOLDER, arm_config, find_arms
from s3bench.run.replay.departure import Arm, NotReproduced, check_state, depart, is_unready
from s3bench.run.replay.source import Source, find_sources
from s3bench.run.sweep.local import Launcher
from s3bench.run.sweep.workers import Workers

SAME = "same"  # the arm in which nothing is changed


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `s3bench replay` was asked for.

    Attributes:
        results: the results folder.
        run: a run_id, its beginning or a pattern; None takes the run with the highest spike.
        spike: the number of a spike, or "all"; None takes the highest one of each run.
        arms: names of arms; None takes all that suit the run.
        device: where it trains; None takes the device of the run's config.
        jobs: how many arms train at once; None: one per core.
    """

    results: Path
    run: str | None = None
    spike: str | None = None
    arms: Sequence[str] | None = None
    device: str | None = None
    jobs: int | None = None


def asked(results: str, overrides: Sequence[str], *, run: str | None, spike: str | None, jobs: int | None) -> Asked:
    """Return what a command line asks for. Raises UserError for an override that is neither arm nor device."""
    given = dict(text.partition("=")[::2] for text in overrides)
    for key in given:
        if key not in ("arm", "device"):
            raise unknown("key", key, ("arm", "device"))
    arms = given["arm"].split(",") if "arm" in given else None
    return Asked(results=Path(results), run=run, spike=spike, arms=arms, device=given.get("device"), jobs=jobs)


def replay(order: Asked, console: Console | None = None) -> int:
    """Train the arms that are not over yet, and return the exit code: 1 if one failed, or `same` was not the same.

    Args:
        order: what to replay.
        console: where progress is printed; None prints it to stdout.

    Raises:
        UserError: there is nothing to replay, or an arm that was named does not suit the run.
    """
    console = console or patient_console()
    sources = [_moved(source, order) for source in find_sources(order.results, order.run, order.spike)]
    told: set[str] = set()
    planned = {id(source): _arms(source, order, told) for source in sources}
    for source in sources:
        for episode in source.episodes:
            spike = episode.spike
            begins = f"spike {episode.number} begins at step {spike.onset}, height {spike.height:.3g}, {spike.kind}"
            say(f"{source.folder.name}: {begins}", console=console)
    record.tidy(arm.folder for arms in planned.values() for arm in arms)
    todo = {key: [arm for arm in arms if not record.has_result(arm.folder)] for key, arms in planned.items()}
    waiting = [arm for arms in todo.values() for arm in arms]
    arms = f"{sum(map(len, planned.values()))} arms in {order.results / FOLDER}"
    say(f"{arms}, {len(waiting)} to be trained", console=console)
    reproduced = _train(sources, todo, console) if waiting else sources
    code = _close(reproduced, planned)
    return code if len(reproduced) == len(sources) else 1


def _moved(source: Source, order: Asked) -> Source:
    """Return a source whose arms train where they were asked to, on this machine."""
    jobs = [] if order.jobs is None else [f"launcher.jobs={order.jobs}"]
    here = run_config(["launcher=local", *jobs])
    data_dir = source.config.data_dir if Path(source.config.data_dir).is_dir() else here.data_dir
    build = source.config.task.build
    if build.get("data_dir") == source.config.data_dir:
        build = {**build, "data_dir": data_dir}
    config = replace(
        source.config,
        device=order.device or source.config.device,
        launcher=here.launcher,
        tracker=here.tracker,
        data_dir=data_dir,
        task=replace(source.config.task, build=build),
        names=replace(source.config.names, launcher=here.names.launcher, tracker=here.names.tracker),
    )
    return replace(source, config=config)


def _arms(source: Source, order: Asked, told: set[str]) -> list[Arm]:
    """Return the arms of all episodes of a source; without named arms, those that do not suit the run are left out.

    `told` holds what was said about arms of other runs, which is not said again.
    """
    arms, unsuited = [], {}
    parts = build_parts(source.config)
    for episode in source.episodes:
        for name, file in find_arms(list(order.arms) if order.arms is not None else None).items():
            try:
                config = arm_config(source, episode, name, file)
                check_state(config, build_parts(config), source.config, parts)
            except UserError as error:
                if order.arms is not None:
                    raise
                unsuited[name] = one_line(error)
                continue
            arms.append(Arm(config=config, folder=record.folder_of(as_dict(config))))
    for line in sorted(
        {f"arm {name} does not suit this run and is left out ({cause})" for name, cause in unsuited.items()} - told
    ):
        say(line, file=sys.stderr)
        told.add(line)
    return arms


def _train(sources: Sequence[Source], todo: dict[int, list[Arm]], console: Console) -> list[Source]:
    """Train arms; return the sources that could be trained again up to their arms."""
    workers = Workers([arm.config for arms in todo.values() for arm in arms])
    reproduced, ready = [], []
    for source in sources:
        arms = todo[id(source)]
        for arm in arms:
            record.plan(as_dict(arm.config))
        unready = [arm for arm in arms if is_unready(arm)]
        try:
            if unready:
                depart(source, unready)
        except NotReproduced as error:
            say(f"s3bench: {error}", file=sys.stderr)
            continue
        reproduced.append(source)
        ready += arms
    if ready:
        Launcher(workers, console, [(arm.config, arm.folder) for arm in ready]).launch()
    return reproduced


def _close(sources: Sequence[Source], planned: dict[int, list[Arm]]) -> int:
    """Say which arms failed, and where `same` was not the same; return the exit code."""
    code = 0
    for source in sources:
        for arm in planned[id(source)]:
            if not record.has_result(arm.folder):
                say(f"{arm.folder.name} {record.outcome(arm.folder)}", file=sys.stderr)
                code = 1
            elif arm.config.replay.arm == SAME and (step := _differs(source, arm.config, arm.folder)) is not None:
                say(f"{arm.folder.name}: its loss differs from the run's from step {step} on", file=sys.stderr)
                code = 1 if find_device(arm.config.device).type == "cpu" else code  # a GPU rounds as it likes
    return code


def _differs(source: Source, config: RunConfig, folder: Path) -> int | None:
    """Return the first step at which the unchanged arm has another loss than the run; None if all are equal."""
    mine = record.step_arrays(folder, ["loss"])["loss"]
    own = source.steps["loss"][: config.replay.until]
    if len(mine) != len(own):
        return min(len(mine), len(own))
    different = np.flatnonzero(~((mine == own) | (np.isnan(mine) & np.isnan(own))))
    return int(different[0]) if len(different) else None
