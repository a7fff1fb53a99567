"""Real TensorBoard files and MLflow databases are read back, and training continues whatever these services do."""

import time
import warnings

import numpy as np
import pandas as pd
import pytest

from s3bench import record
from s3bench.curve_files.tensorboard_file import read_scalars
from s3bench.errors import UserError
from s3bench.report.export import export_tables
from s3bench.run import mirror
from s3bench.run.build import build_tracker
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from s3bench.run.export import export_runs
from s3bench.run.one_run import run
from s3bench.spikes import SpikeMonitor
from tests.conftest import mistake
from tests.records import make
from tests.s3bench.run.test_tracking import SPIKES, STEPS, rows_of

PACKAGES = {"tensorboard": "torch.utils.tensorboard", "mlflow": "mlflow"}
SPIKING = ["optimizer=sgd", "task.lr=0.01", "horizon=100", "lr_multiplier=400"]  # blows up, then recovers


@pytest.fixture(params=PACKAGES)
def tracker(request, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages themselves, while they are imported
        pytest.importorskip(PACKAGES[request.param], reason=f"needs s3bench[{request.param}]", exc_type=ImportError)
        if request.param == "mlflow":
            pytest.importorskip("sqlalchemy")
        yield request.param


def points(tracker, results, run_id):
    """Return what the service holds of a run: (step, value) by name, and texts."""
    if tracker == "tensorboard":
        files = sorted((results / "tensorboard" / run_id).glob("events.*"))
        found = {}
        for row in read_scalars(files)[0]:
            ((name, value),) = [(key, value) for key, value in row.items() if key != "step"]
            found.setdefault(name, []).append((row["step"], value))
        return found, b"".join(file.read_bytes() for file in files).decode(errors="replace")
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{results}/mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    assert experiment.name == "adhoc"
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == run_id
    histories = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    texts = str({**found.data.params, **found.data.tags, "status": found.info.status})
    return {name: [(point.step, point.value) for point in history] for name, history in histories.items()}, texts


def test_a_mirror_holds_config_losses_evaluations_spikes_and_summary(tracker, tmp_path):
    config = run_config([f"tracker={tracker}", *SPIKING, f"results_dir={tmp_path}"])
    assert run(config) == "finished"
    check_mirror(tracker, tmp_path, config.run_id)


def check_mirror(tracker, results, run_id):
    folder = results / run_id
    steps, evals = record.load_steps(folder), record.load_evals(folder)
    found, texts = points(tracker, results, run_id)
    tens = steps.loss.groupby(steps.index // 10)
    for name, values in (("loss", tens.mean()), ("loss_min", tens.min()), ("loss_max", tens.max())):
        assert [step for step, _ in found[f"train/{name}"]] == list(range(9, 100, 10))
        assert [value for _, value in found[f"train/{name}"]] == pytest.approx(values.tolist(), rel=1e-6)
    assert {"train/grad_norm", "train/lr", "train/update_max", "eval/distance"} <= found.keys()
    assert [step for step, _ in found["eval/loss"]] == evals.step.tolist()
    ((onset, height),) = found["spike/height"]
    assert found["spike/end"][0][1] > onset
    assert height > 1000
    assert "recovered" in texts
    assert found["summary/spikes"][-1][1] == 1
    assert found["summary/spikes_per_10k"][-1][1] == 100
    for text in ("lr_multiplier", "task.build.dim", record.load_record(folder)["fingerprint"]):
        assert text in texts
    assert "data_dir" not in texts


@pytest.mark.slow
def test_exported_records_are_as_if_they_had_been_tracked(tracker, tmp_path, capsys):
    config = run_config([*SPIKING, f"results_dir={tmp_path}"])
    run(config)
    make(tmp_path, seed=1, state="failed")
    for _ in range(2):  # again, it replaces what is there
        assert export_runs(tmp_path, tracker) == 0
        assert capsys.readouterr().out == "sent 1 runs; 1 are not over\n"
        check_mirror(tracker, tmp_path, config.run_id)


@pytest.mark.slow
@pytest.mark.parametrize("died", [100, 155])
def test_a_run_that_resumes_goes_on_in_the_same_mirror(tracker, tmp_path, died):
    config = run_config([f"tracker={tracker}", f"results_dir={tmp_path}"])
    folder = record.plan(as_dict(config))
    for steps, end in ((range(died), None), (range(100, STEPS), "finish")):
        one, monitor = build_tracker(config), SpikeMonitor(**config.task.spikes)
        monitor.extend(np.array([row["loss"] for row in rows_of(range(steps[0]))]))
        one.start(as_dict(config), folder, steps[0])
        for row in rows_of(steps):
            one.log_steps([row])
            if spike := monitor.add(row["loss"]):
                one.log_spike(spike)
        if end:
            if last := monitor.unfinished():
                one.log_spike(last)
            one.finish({"steps": STEPS, "spikes": len(SPIKES)})
        else:
            one.pause()
    found, _ = points(tracker, tmp_path, config.run_id)
    trained = [step for step, _ in found["train/loss"]]
    assert trained == sorted(set(trained))
    assert {*range(9, STEPS, 10)} - set(trained) == set()
    assert [step for step, _ in found["spike/height"]] == SPIKES


@pytest.mark.parametrize("broken", ["begin", *(pytest.param(when, marks=pytest.mark.slow) for when in ("send", "end"))])
def test_training_survives_whatever_a_mirror_raises(tracker, tmp_path, monkeypatch, caplog, broken):
    config = run_config([f"tracker={tracker}", "horizon=20", f"results_dir={tmp_path}"])

    def fail(*_):
        raise OSError("no\nspace")

    monkeypatch.setattr(type(build_tracker(config)), broken, fail)
    assert run(config) == "finished"
    said = [entry.getMessage() for entry in caplog.records if entry.name == "s3bench.run.mirror"]
    assert said == [f"{tracker}: OSError: no space; the record is not affected"]
    monkeypatch.setattr("s3bench.run.export.run_config", lambda _: config)
    assert export_runs(tmp_path, tracker) == 1


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_one_line(name, monkeypatch):
    monkeypatch.setattr(mirror, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf"tracker {name}: {name} is not installed: pip install 's3bench\[{name}\]'"):
        build_tracker(run_config([f"tracker={name}"]))


def test_a_server_that_does_not_answer_holds_training_up_for_seconds(tmp_path, caplog):
    pytest.importorskip("mlflow")
    nowhere = ["tracker.uri=http://127.0.0.1:9", "tracker.timeout=2"]
    config = run_config(["tracker=mlflow", *nowhere, "horizon=20", f"results_dir={tmp_path}"])
    began = time.monotonic()
    assert run(config) == "finished"
    assert time.monotonic() - began < 60
    assert len([entry for entry in caplog.records if "the record is not affected" in entry.getMessage()]) == 1


@pytest.mark.slow
def test_the_runs_of_a_sweep_share_one_database(s3bench, tmp_path):
    pytest.importorskip("sqlalchemy")
    sweep = s3bench("sweep", "tracker=mlflow", "seed=0,1,2,3", "horizon=20", "results_dir=r", "--jobs", "4")
    assert "4 runs: 4 finished" in sweep.stdout
    assert not list(tmp_path.glob("r/*/log.txt"))
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/r/mlflow.db")
    experiment = client.get_experiment_by_name("adhoc")
    assert [one.info.status for one in client.search_runs([experiment.experiment_id])] == ["FINISHED"] * 4


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_records_are_exported_as_tables(tmp_path, kind):
    folders = [make(tmp_path, spikes=(50, 70)), make(tmp_path, seed=1), make(tmp_path, seed=2, state="missing")]
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet}[kind]
    files = export_tables(tmp_path, kind)
    assert [file.name for file in files] == [f"{name}.{kind}" for name in ("runs", "steps", "evals", "spikes")]
    runs, steps, evals, spikes = map(read, files)
    assert sorted(runs.run_id) == sorted(folder.name for folder in folders)
    assert runs.set_index("run_id").state[folders[2].name] == "missing"
    for folder in folders[:2]:
        pd.testing.assert_series_equal(
            steps[steps.run_id == folder.name].loss.reset_index(drop=True), record.load_steps(folder).loss
        )
        assert (evals.run_id == folder.name).sum() == len(record.load_evals(folder))
    assert spikes.onset.tolist() == [50, 70]
    assert set(spikes.run_id) == {folders[0].name}
    assert len(record.folders(tmp_path)) == 3


def test_a_mistake_in_export_is_one_line(s3bench, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "contains no records" in mistake(s3bench("export", "empty", "--format", "csv"))
    assert "there is no results folder" in mistake(s3bench("export", "nowhere", "--format", "wandb"))
    assert "csv" in mistake(s3bench("export", "empty", "--format", "excel"))
    assert "--format" in mistake(s3bench("export", "empty"))
