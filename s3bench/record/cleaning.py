"""Finds what a results folder no longer needs: replaced records, leases of dead processes, failed runs' checkpoints."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from s3bench.record import identity, lease
from s3bench.record.files import CONFIG, ERROR, folder_names, lease_place
from s3bench.record.progress import has_result
from s3bench.record.writer import checkpoints, leased

WATCHED_AT_ONCE = 500  # leases of other machines; whether their owners live takes a minute to see


@dataclass(frozen=True)
class Leftover:
    """Something that no run needs.

    Attributes:
        what: names it.
        files: what goes.
        remove: removes it. Raises Busy if a process has begun to train its run meanwhile.
    """

    what: str
    files: list[Path]
    remove: Callable[[], None]


def leftovers(results_dir: str | Path) -> list[Leftover]:
    """Return what can be removed from a results folder. Takes a minute if it has a lease of another machine."""
    folders = [Path(results_dir, name) for name in sorted(folder_names(Path(results_dir)))]
    found = [
        Leftover(f"the record {folder}, which a run of other code replaces", [folder], partial(remove, folder))
        for folder in superseded(results_dir)
    ]
    with_lease = [folder for folder in folders if lease.numbers(lease_place(folder))]
    dead = dict[Path, int]()
    if with_lease:
        with ThreadPoolExecutor(min(len(with_lease), WATCHED_AT_ONCE)) as pool:
            numbers = pool.map(lease.wait_for_death, map(lease_place, with_lease))
        dead = {folder: number for folder, number in zip(with_lease, numbers, strict=True) if number is not None}
    for folder, number in dead.items():
        place = lease_place(folder)
        what = f"the lease on {folder}, whose owner is dead ({lease.owner(place)})"
        found.append(Leftover(what, [lease.file_of(place, number)], partial(_release, folder, number)))
    for folder in folders:
        saved = [*checkpoints(folder), *folder.glob("checkpoint.*.unfit")]
        under_way = folder in with_lease and folder not in dead
        if saved and (folder / ERROR).exists() and not has_result(folder) and not under_way:
            what = f"the checkpoints of {folder}, which failed; it would start again from the beginning"
            found.append(Leftover(what, saved, partial(_remove_checkpoints, folder, dead.get(folder))))
    return found


def superseded(results_dir: str | Path) -> list[Path]:
    """Return the records of a results folder that have nothing and that runs of other code replace.

    They differ from a record with a result, a checkpoint or a lease in code alone, and have none of these themselves. A
    run_id ends with the digest of the code, so that the names of the folders tell all but the state.
    """
    cells: dict[str, list[Path]] = {}
    for name in sorted(folder_names(Path(results_dir))):
        cells.setdefault(identity.without_code(name), []).append(Path(results_dir, name))
    found = []
    for folders in cells.values():
        empty = [folder for folder in folders if _has_nothing(folder)] if len(folders) > 1 else []
        found += empty if len(empty) < len(folders) else []
    return found


def _has_nothing(folder: Path) -> bool:
    """Return whether a record has no result, no checkpoint and no lease, whose owner may live on another machine."""
    kept = has_result(folder) or checkpoints(folder) or lease.numbers(lease_place(folder))
    return (folder / CONFIG).exists() and not kept


def remove(folder: Path) -> None:
    """Delete the record of a run. Raises Busy if a process trains it."""
    with leased(folder):
        shutil.rmtree(folder)


def _release(folder: Path, dead: int) -> None:
    """Take over a lease whose owner is dead, and give it up."""
    if lease.numbers(lease_place(folder)):  # otherwise it has gone with the checkpoints, or with the record
        with leased(folder, dead):
            pass


def _remove_checkpoints(folder: Path, dead: int | None) -> None:
    with leased(folder, dead):
        for file in [*checkpoints(folder), *folder.glob("checkpoint.*.unfit")]:
            file.unlink(missing_ok=True)
