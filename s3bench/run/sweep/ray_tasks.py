"""Runs a sweep's packs as tasks of Ray, on this machine or on a running cluster that the sweep joins."""

import os
import signal
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from s3bench.errors import UserError


class Ray:
    """Holds the tasks of one sweep, which live as long as the process of Hydra's launcher. See cluster.Cluster."""

    max_jobs: ClassVar[int] = 10_000

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self._settings, self._folder = settings, folder

    @staticmethod
    def check(settings: dict[str, Any]) -> None:
        """Raise UserError if Ray is not installed, does not answer, or could never start a pack."""
        if find_spec("ray") is None or find_spec("hydra_plugins.hydra_ray_launcher") is None:
            raise UserError("a launcher on Ray needs Hydra's Ray launcher: pip install 's3bench[ray]'")
        if (address := settings["address"]) is None:
            _check_this_machine(settings)
            return
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdecimal():
            raise UserError(f"launcher.address is {address}; it must be HOST:PORT of a running Ray")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, OverflowError, ValueError) as error:
            raise UserError(f"no Ray answers at launcher.address={address}: {error}") from error

    @staticmethod
    def cores(settings: dict[str, Any]) -> int | None:
        """Return how many cores a pack has; None if it has GPUs."""
        return None if settings["remote"]["num_gpus"] else max(1, int(settings["remote"]["num_cpus"]))

    def hydra(self) -> dict[str, Any]:
        """Return the settings of Hydra's launcher."""
        if self._settings["address"] is None:
            init = self._settings["init"]
        else:  # by default the launcher asks for an object store of its own, which a running Ray refuses
            init = {"address": self._settings["address"], "object_store_memory": None}
        return {"ray": {"init": init, "remote": self._settings["remote"]}}

    def gone(self, packs: set[int], submission: subprocess.Popen[bytes], *_: Any) -> dict[int, str]:
        """Return all packs once Ray's process has ended, none before."""
        return {} if submission.poll() is None else dict.fromkeys(packs, "ended")

    def cancel(self, submission: subprocess.Popen[bytes]) -> None:
        """Cancel all tasks; cluster_submit.py waits until they have ended their workers."""
        submission.send_signal(signal.SIGINT)

    def output(self, _: int) -> Path:
        """Return the output of all packs."""
        return self._folder / "launcher.log"


def _check_this_machine(settings: dict[str, Any]) -> None:
    """Raise UserError for a pack that asks for more than this machine has: Ray would wait forever."""
    available = {
        "num_cpus": settings["init"]["num_cpus"] or os.cpu_count() or 1,
        "num_gpus": len(list(Path("/dev").glob("nvidia[0-9]*"))),
    }
    for key, most in available.items():
        if settings["remote"][key] > most:
            raise UserError(f"launcher.remote.{key} is {settings['remote'][key]}; Ray on this machine has {most}")
