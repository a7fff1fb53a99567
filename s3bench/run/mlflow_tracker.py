"""Mirrors a run in MLflow: on a server, or in a database in the results folder."""

import logging
import os
import time
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from s3bench.run.mirror import Mirror, Values, flat

SEND_EVERY = 5.0  # seconds between two requests, which take longer than many a step
AT_ONCE = 1000, 100  # metrics and params of a request, at most
WAIT = 60.0  # seconds for other processes that open the database
LONGEST = 5000  # characters of a param or a tag
STATUS = {"finished": "FINISHED", "paused": "SCHEDULED", "failed": "FAILED"}  # by the end of this process


class MlflowTracker(Mirror):
    """Sends a run to MLflow, in an experiment of the same name.

    Args:
        uri: a tracking server or a database; None for MLFLOW_TRACKING_URI or, without it, a database in the results
            folder.
        timeout: how long, in seconds, a request to a server may take. After one that fails the run is mirrored no more.

    Raises:
        ValueError: mlflow is missing.
    """

    name = package = "mlflow"

    def __init__(self, uri: str | None, timeout: float) -> None:
        super().__init__()
        self._uri = uri
        self._timeout = timeout
        self._metrics: list[Any] = []
        self._sent = 0.0  # time.monotonic()
        self._logged: dict[str, int] = {}  # the last steps of train, eval and spike that an earlier process has logged

    def begin(self, config: dict[str, Any], folder: Path, first_step: int) -> None:
        """Create the run; go on with that of an earlier process if it resumes it, else delete that."""
        _quiet(self._timeout)
        from mlflow import MlflowClient
        from mlflow.entities import Param

        own = f"sqlite:///{folder.parent.absolute()}/mlflow.db"
        uri = self._uri or os.environ.get("MLFLOW_TRACKING_URI") or own
        if uri.startswith("sqlite:") and find_spec("sqlalchemy") is None:
            raise ValueError("a database needs sqlalchemy and alembic: pip install 's3bench[mlflow]'")
        with _only_one(uri):
            self._client: Any = MlflowClient(uri)
            experiment = _experiment(self._client, config["names"]["experiment"], folder.parent / "mlflow")
        earlier = self._client.search_runs([experiment], f"tags.`s3bench.run_id` = '{folder.name}'", max_results=1)
        if earlier and first_step:
            self._run_id = earlier[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
            for kind, of_all in (("train", "loss"), ("eval", "loss"), ("spike", "height")):
                history = self._client.get_metric_history(self._run_id, f"{kind}/{of_all}")
                self._logged[kind] = max((point.step for point in history), default=-1)
            return
        for run in earlier:
            self._client.delete_run(run.info.run_id)
        names = config["names"]
        tags = {"s3bench.run_id": folder.name, "task": names["task"], "optimizer": names["optimizer"]}
        self._run_id = self._client.create_run(experiment, run_name=folder.name, tags=tags).info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in flat(config).items()]
        for start in range(0, len(params), AT_ONCE[1]):
            self._client.log_batch(self._run_id, params=params[start : start + AT_ONCE[1]])

    def send(self, values: Values, step: int) -> None:
        """Keep metrics for the next request, unless an earlier process has logged the step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._metrics += [
            Metric(name, value, now, step)
            for name, value in values.items()
            if step > self._logged.get(name.partition("/")[0], -1)
        ]
        if time.monotonic() - self._sent > SEND_EVERY:
            self._flush()

    def tell(self, name: str, text: str, step: int) -> None:  # noqa: ARG002 - a tag has no step
        """Set a tag."""
        self._client.set_tag(self._run_id, name, text[:LONGEST])

    def end(self, how: str) -> None:
        """Send what is left, and how the run ended."""
        self._flush()
        if how == "paused":
            self._client.update_run(self._run_id, status=STATUS[how])
        else:
            self._client.set_terminated(self._run_id, STATUS[how])

    def _flush(self) -> None:
        metrics, self._metrics = self._metrics, []
        for start in range(0, len(metrics), AT_ONCE[0]):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + AT_ONCE[0]])
        self._sent = time.monotonic()


def _experiment(client: Any, name: str, artifacts: Path) -> str:
    """Return the id of an experiment, which is created if it does not exist."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts.absolute().as_uri()))
        except MlflowException:  # on a server, another run was faster
            found = client.get_experiment_by_name(name)
    return str(found.experiment_id)


def _only_one(uri: str) -> AbstractContextManager[Any]:
    """Keep other processes from a database meanwhile: two that create its tables at once both fail."""
    if not uri.startswith("sqlite:///"):
        return nullcontext()
    from filelock import FileLock

    return FileLock(f"{uri.removeprefix('sqlite:///')}.lock", timeout=WAIT)


def _quiet(timeout: float) -> None:
    """Have MLflow send no statistics of its own, print only warnings, and not wait long."""
    for key, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, round(timeout))),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    }.items():
        os.environ.setdefault(key, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
