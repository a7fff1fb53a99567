"""What the mirrors of a run in TensorBoard and MLflow have in common: the values that they send, and how they give up.

What is sent is what s3bench/run/tracking.py sends to Weights & Biases, but for the pictures of spikes; docs/tracking.md
lists it.
"""

import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from s3bench.errors import one_line
from s3bench.run.row_buffer import Row
from s3bench.run.tracking import BATCH, MACHINE_KEYS, Tracker, batch_values
from s3bench.spikes import Spike

log = logging.getLogger(__name__)

Values = dict[str, float]


class Mirror(Tracker):
    """Sends a run elsewhere; a kind of mirror has the methods `begin`, `send`, `tell` and `end`.

    Whatever these raise, the mirror is given up with a warning and training continues.

    Attributes:
        name: of the extra, and in warnings.
        package: what it imports.

    Raises:
        ValueError: the package is missing.
    """

    name: ClassVar[str]
    package: ClassVar[str]

    def __init__(self) -> None:
        if find_spec(self.package) is None:
            raise ValueError(f"{self.package} is not installed: pip install 's3bench[{self.name}]'")
        self._alive = False
        self._batch: list[Row] = []

    def begin(self, config: dict[str, Any], folder: Path, first_step: int) -> None:
        """Begin to send, or go on where a run resumes; see Tracker.start."""
        raise NotImplementedError

    def send(self, values: Values, step: int) -> None:
        """Send numbers of a step."""
        raise NotImplementedError

    def tell(self, name: str, text: str, step: int) -> None:
        """Send a text."""
        raise NotImplementedError

    def end(self, how: str) -> None:
        """Send what is left and end: the run is finished, paused or failed."""
        raise NotImplementedError

    def start(self, config: dict[str, Any], folder: Path, first_step: int) -> None:
        self._alive = True
        self._do(lambda: self.begin(config, folder, first_step))

    def log_steps(self, rows: list[Row]) -> None:
        for row in rows:
            self._batch.append(row)
            if (row["step"] + 1) % BATCH == 0:
                self._send_batch()

    def log_eval(self, row: Row) -> None:
        self._send_batch()
        values = {f"eval/{key}": value for key, value in row.items() if key != "step"}
        self._do(lambda: self.send(values, int(row["step"])))

    def log_spike(self, spike: Spike) -> None:
        values = {f"spike/{key}": value for key, value in vars(spike).items() if key != "kind"}
        self._do(lambda: self.send(values, spike.onset))
        self._do(lambda: self.tell(f"spike/{spike.onset}/kind", spike.kind, spike.onset))

    def finish(self, summary: dict[str, Any]) -> None:
        self._send_batch()
        steps, spikes = summary["steps"], summary["spikes"]
        whole = {**summary, "spikes_per_10k": 10_000 * spikes / max(1, steps)}
        for key, value in whole.items():
            if isinstance(value, int | float):
                self._do(lambda key=key, value=value: self.send({f"summary/{key}": float(value)}, steps))  # type: ignore[misc]
            else:
                self._do(lambda key=key, value=value: self.tell(f"summary/{key}", str(value), steps))  # type: ignore[misc]
        self._close("finished")

    def pause(self) -> None:
        self._send_batch()
        self._close("paused")

    def fail(self) -> None:
        self._send_batch()
        self._close("failed")

    def _send_batch(self) -> None:
        rows, self._batch = self._batch, []
        if rows:
            values = {f"train/{key}": value for key, value in batch_values(rows).items() if key != "step"}
            self._do(lambda: self.send(values, int(rows[-1]["step"])))

    def _close(self, how: str) -> None:
        self._do(lambda: self.end(how))
        self._alive = False

    def _do(self, action: Callable[[], None]) -> None:
        """Do something, if the mirror was not given up; give it up if that fails."""
        if self._alive:
            try:
                action()
            except Exception as error:  # whatever the service raises, training continues
                log.warning("%s: %s; the record is not affected", self.name, one_line(error))
                self._alive = False


def flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the values of a config by dotted keys, without those that describe this machine."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if above or key not in MACHINE_KEYS:
            found |= flat(value, f"{above}{key}.") if isinstance(value, dict) and value else {f"{above}{key}": value}
    return found
