"""How often each command opens the files of a record: once, however many records there are."""

from collections import Counter
from pathlib import Path

import pytest

from s3bench.report.analysis.results import read_results
from s3bench.report.status import snapshot
from s3bench.run.sweep.sweep import sweep
from tests.records import make, write

FILES = ("config.yaml", "summary.json", "steps.parquet", "evals.parquet")


@pytest.fixture
def opens(monkeypatch):
    """How often each file was opened, by its folder's name and its own."""
    counts, true_open = Counter(), Path.open

    def counted(file, *rest, **named):
        counts[file.parent.name, file.name] += 1
        return true_open(file, *rest, **named)

    monkeypatch.setattr(Path, "open", counted)
    return counts


def test_a_report_opens_each_file_of_a_record_once(tmp_path, opens):
    folders = [make(tmp_path, seed=seed, spikes=[60]) for seed in range(3)]
    opens.clear()
    read_results(tmp_path)
    assert opens == {(folder.name, file): 1 for folder in folders for file in FILES}


def test_status_opens_the_config_and_the_summary_of_a_record_that_is_over_and_no_table(tmp_path, opens):
    folders = [make(tmp_path, seed=seed) for seed in range(3)]
    opens.clear()
    snapshot(tmp_path)
    of_first = {(folders[0].name, "config.yaml"): 1}  # the whole of it, which tells an arm of a replay from a run
    assert opens - Counter(of_first) == {(folder.name, file): 1 for folder in folders for file in FILES[:2]}


def test_a_sweep_that_is_over_opens_each_summary_once_and_nothing_else(tmp_path, opens):
    folders = [write(tmp_path, f"seed={seed}") for seed in range(3)]
    opens.clear()
    assert sweep([f"results_dir={tmp_path}", "seed=0,1,2"]) == 0
    of_records = {key: count for key, count in opens.items() if key[0] in {folder.name for folder in folders}}
    assert of_records == {(folder.name, "summary.json"): 1 for folder in folders}
