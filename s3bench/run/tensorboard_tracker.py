"""Mirrors a run in TensorBoard's event files: <results_dir>/tensorboard/<run_id>."""

import json
import shutil
from pathlib import Path
from typing import Any

from s3bench.run.mirror import Mirror, Values, flat

FLUSH_EVERY = 10  # seconds after which what was logged is on the disk


class TensorboardTracker(Mirror):
    """Writes event files, which `tensorboard --logdir <results_dir>/tensorboard` shows."""

    name = package = "tensorboard"

    def begin(self, config: dict[str, Any], folder: Path, first_step: int) -> None:
        """Open a file; replace those of an earlier attempt, unless the run resumes it."""
        from torch.utils.tensorboard import SummaryWriter

        place = folder.parent / "tensorboard" / folder.name
        if not first_step:
            shutil.rmtree(place, ignore_errors=True)
        self._writer: Any = SummaryWriter(
            str(place),
            purge_step=first_step or None,  # what an earlier process has logged from there on does not count
            flush_secs=FLUSH_EVERY,
        )
        if not first_step:
            text = json.dumps(flat(config), indent=1)
            self._writer.add_text("config", f"```\n{text}\n```", 0)

    def send(self, values: Values, step: int) -> None:
        """Write scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def tell(self, name: str, text: str, step: int) -> None:
        """Write a text."""
        self._writer.add_text(name, text, step)

    def end(self, how: str) -> None:  # noqa: ARG002 - event files have no state
        """Write what is left."""
        self._writer.close()
