"""Identity: what makes another run, that a cell is trained once, and which records a report refuses to mix."""

import json
import shutil
import subprocess
import sys

import pytest

from s3bench import record
from s3bench.errors import UserError
from s3bench.record import identity
from s3bench.report.analysis.results_folder import read_runs
from s3bench.run.config import code_digest
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from tests.conftest import ROOT
from tests.records import make

TASK = """\
# A comment
from helping import STRENGTH
from tasks.quadratic import Quadratic


class Mine(Quadratic):
    '''A docstring.'''

    def loss(self, model, batch):
        return STRENGTH * super().loss(model, batch)
"""


def code_of(folder, *overrides):
    """Return a run_id and its digests of code as a new process in that folder computes them, importing none of it."""
    program = (
        "import json, sys; sys.path.append('.'); from s3bench.run.config.compose import run_config; "
        "config = run_config(sys.argv[1:]); print(json.dumps([config.run_id, config.code])); "
        "assert not {'torch', 'tasks', 'optimizers', 'mine'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", program, *overrides]
    return json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)


def test_a_changed_task_file_makes_another_run_and_comments_do_not(tmp_path):
    own = ["task.build._target_=mine.Mine"]
    (tmp_path / "mine.py").write_text(TASK)
    (tmp_path / "helping.py").write_text("import math\nSTRENGTH = 1.0\n")
    run_id, code = code_of(tmp_path, *own)
    assert set(code) == {"task", "optimizer", "schedule"}
    assert all(code.values())

    said_otherwise = (
        TASK.replace("# A comment\n", "\n\n").replace("A docstring", "Another").replace("* super", "*super")
    )
    (tmp_path / "mine.py").write_text(said_otherwise)
    assert code_of(tmp_path, *own)[0] == run_id

    (tmp_path / "helping.py").write_text("import math\nSTRENGTH = 2.0\n")  # a file that the task's file imports
    other, of_it = code_of(tmp_path, *own)
    assert other != run_id
    assert identity.without_code(other) == identity.without_code(run_id)
    assert (of_it["optimizer"], of_it["schedule"]) == (code["optimizer"], code["schedule"])
    (tmp_path / "helping.py").write_text("import math\nSTRENGTH = 1.0\n")
    assert code_of(tmp_path, *own)[0] == run_id


CHANGED = {  # parts of a run of S3 on the quadratic that are other code once a file is
    "tasks/quadratic.py": ["task"],
    "optimizers/s3.py": ["optimizer"],
    "optimizers/engine/roots.py": ["optimizer"],  # s3.py imports it
    "optimizers/muon.py": [],  # another optimizer of the same package
    "tasks/models/vit.py": [],
    "optimizers/clipping.py": [],  # nothing is clipped
    "s3bench/schedule.py": ["schedule"],
    "s3bench/run/ramp.py": [],  # another schedule
    "s3bench/record/writer.py": [],
}
EACH_CHANGED = """\
import json, sys
from pathlib import Path
from s3bench.run.config import code_digest
from s3bench.run.config.compose import run_config

def code():
    code_digest.forget()
    return run_config(["task=quadratic", "optimizer=s3"]).code

before, changed = code(), {}
for file in map(Path, sys.argv[1:]):
    text = file.read_text()
    file.write_text(text + "\\nCHANGED = True\\n")
    changed[str(file)] = [part for part, digest in code().items() if digest != before[part]]
    file.write_text(text)
print(json.dumps(changed))
"""


def test_only_the_code_of_the_parts_of_a_run_counts(tmp_path):
    for package in ("s3bench", "optimizers", "tasks", "configs"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", EACH_CHANGED, *CHANGED]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == CHANGED


def test_the_code_of_a_library_does_not_count_and_missing_code_has_no_digest():
    assert run_config(["optimizer=adamw"]).code["optimizer"] == ""
    for target in ("no_such_module.X", "tasks", "json.loads", "__main__.X", "..", "s3bench.record.plan"):
        assert isinstance(code_digest.digest(target), str)
    assert (
        code_digest.digest("s3bench.record.plan")
        == code_digest.digest("json.loads")
        == code_digest.digest("no_such.X")
        == ""
    )


def test_the_code_of_a_clip_counts():
    assert set(run_config(["clip=agc"]).code) == {"task", "optimizer", "schedule", "clip"}
    assert run_config(["clip=agc"]).code["clip"] == code_digest.digest("optimizers.clipping.AGC") != ""


def test_a_run_that_is_not_clipped_has_the_digest_that_it_had_before_there_were_clips():
    assert identity.without_code(run_config(["task=quadratic"]).run_id) == "quadratic-s3-x1-s0-506f956318"
    config = as_dict(run_config(["task=quadratic"]))
    del config["clip"], config["names"]["clip"]
    for clip_norm, clip in ((None, "none"), (1.0, "global_norm")):
        now = as_dict(run_config(["task=quadratic", f"clip={clip}"]))
        assert identity.settings(config | {"clip_norm": clip_norm, "code": now["code"]}) == identity.settings(now)


@pytest.mark.slow
def test_an_optimizer_named_through_s3bench_optim_has_the_code_of_the_optimizer():
    assert code_digest.digest("s3bench.optim.S3") == code_digest.digest("optimizers.S3") != ""


@pytest.mark.slow
def test_a_cell_of_two_experiments_that_share_a_folder_is_trained_once(s3bench, tmp_path):
    folder = tmp_path / "configs" / "experiment"
    folder.mkdir(parents=True)
    for name, seeds in (("first", "0,1"), ("second", "1,2")):
        grid = f"hydra:\n  sweeper:\n    params:\n      seed: {seeds}\n"
        (folder / f"{name}.yaml").write_text(f"# @package _global_\n{grid}horizon: 20\nresults_dir: results/shared\n")
    assert "2 runs: 2 finished" in s3bench("sweep", "experiment=first").stdout
    second = s3bench("sweep", "experiment=second").stdout
    assert "2 runs in results/shared, 1 of them already over" in second
    assert "2 runs: 2 finished" in second
    assert sorted(record.load_records(tmp_path / "results/shared").seed) == [0, 1, 2]


@pytest.mark.slow
def test_a_sweep_removes_nothing_and_clean_what_other_code_replaced(s3bench, tmp_path):
    text = "from tasks.quadratic import Quadratic\n\nclass Mine(Quadratic):\n    def loss(self, model, batch):\n"
    fails = f"{text}        if self.seed: raise RuntimeError('no')\n        return super().loss(model, batch)\n"
    (tmp_path / "mine.py").write_text(fails)
    command = ["sweep", "task.build._target_=mine.Mine", "horizon=20", "results_dir=r"]
    assert "3 runs: 1 finished, 2 failed" in s3bench(*command, "seed=0,1,2").stdout
    before = set(record.folders(tmp_path / "r"))
    (tmp_path / "mine.py").write_text(f"{text}        return super().loss(model, batch)\n")
    assert "2 runs: 2 finished" in s3bench(*command, "seed=1,2").stdout
    assert before < set(record.folders(tmp_path / "r"))
    assert "runs that also exist with different code: 2;" in s3bench("status", "r").stdout
    listed = s3bench("clean", "r").stdout.splitlines()
    failed = {folder for folder in before if record.state(folder) == "failed"}
    assert [line.split()[5] for line in listed[:-1]] == sorted(f"r/{folder.name}," for folder in failed)
    assert before < set(record.folders(tmp_path / "r"))
    assert "removed 2 of 2, " in s3bench("clean", "r", "--yes").stdout
    assert before - set(record.folders(tmp_path / "r")) == failed
    assert "nothing to remove" in s3bench("clean", "r", "--yes").stdout


def test_only_records_that_have_nothing_are_replaced_by_other_code(tmp_path, capsys):
    of_old, of_new = make(tmp_path), make(tmp_path, seed=1)
    renamed = of_new.with_name(f"{of_old.name.rpartition('-')[0]}-abcdef")  # the same cell with other code
    of_new.rename(renamed)
    assert record.superseded(tmp_path) == []  # both have a result
    (renamed / "summary.json").unlink()
    assert record.superseded(tmp_path) == [renamed]
    for kept in ("checkpoint.000000000010.pt", "lease.3"):
        (renamed / kept).touch()
        assert record.superseded(tmp_path) == []
        (renamed / kept).unlink()
    (renamed / "error.txt").write_text("no\n")
    assert len(read_runs(tmp_path)) == 1
    assert capsys.readouterr().err == "left out: 1 records without a result, which runs of other code replace\n"
    (of_old / "summary.json").unlink()
    assert record.superseded(tmp_path) == []  # neither got far: both stay


def with_code(folder, **parts):
    """Give a record other digests of its code."""
    text = (folder / "config.yaml").read_text()
    for part, digest in parts.items():
        old = record.load_config(folder)["code"][part]
        text = text.replace(f"  {part}: {old or repr(old)}\n", f"  {part}: {digest}\n")
    (folder / "config.yaml").write_text(text)


def with_versions(folder, **versions):
    """Give a record other versions."""
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"versions": versions}))


@pytest.mark.parametrize("part", ["task", "optimizer", "schedule"])
def test_a_report_refuses_records_of_one_task_made_with_different_code(tmp_path, part):
    make(tmp_path)
    with_code(make(tmp_path, seed=1), **{part: "abc"})
    with pytest.raises(UserError, match=rf"the records of quadratic.* differ in their {part}'s code \(.*abc") as caught:
        read_runs(tmp_path)
    assert "sweep into another results_dir, or delete those of one kind" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_optimizers_have_code_of_their_own_in_one_report(tmp_path):
    make(tmp_path, "s3")
    make(tmp_path, "adamw")
    make(tmp_path, "signsgd")
    assert [run.optimizer_label for run in read_runs(tmp_path)] == ["adamw", "s3", "signsgd"]


def test_a_report_refuses_other_versions_of_torch_and_of_the_optimizers_library(tmp_path):
    lion = make(tmp_path, "lion")
    other = make(tmp_path, "lion", seed=1)
    with_versions(lion, torch="2.6.0", numpy="1", pytorch_optimizer="3.1")
    with_versions(other, torch="2.6.0+cu124", numpy="2", pytorch_optimizer="3.1")
    assert len(read_runs(tmp_path)) == 2  # another build of torch, for another device; numpy computes no update
    with_versions(other, torch="2.6.0", pytorch_optimizer="3.2")
    with pytest.raises(UserError, match=r"optimizer's library .*pytorch_optimizer 3.1.* and .*pytorch_optimizer 3.2"):
        read_runs(tmp_path)
    with_versions(other, torch="2.7.0", pytorch_optimizer="3.1")
    with pytest.raises(UserError, match=r'differ in their torch \("2.6.0" and "2.7.0"\)'):
        read_runs(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_another_commit_alone_is_shown_and_not_refused(tmp_path):
    for seed, commit in ((0, "a" * 40), (1, "b" * 40)):
        folder = make(tmp_path, seed=seed)
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(summary | {"commit": commit}))
    from s3bench.report.write import write_report

    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "a" * 40 in page
    assert "b" * 40 in page


def test_a_results_folder_of_another_version_is_one_line(s3bench, tmp_path):
    config = as_dict(run_config(["horizon=20", f"results_dir={tmp_path / 'r'}"]))
    folder = record.plan(config)
    text = "".join((folder / "config.yaml").read_text().splitlines(keepends=True)[1:])  # older ones have no such line
    old = folder.with_name(identity.without_code(folder.name))  # nor a digest of the code, in the name or in the config
    text = text.replace(folder.name, old.name)
    (folder / "config.yaml").write_text(text[: text.index("code:")] + text[text.index("run_id:") :])
    folder.rename(old)
    for command in (
        ["status", "r"],
        ["report", "r"],
        ["sweep", "results_dir=r"],
        ["sweep", "--dry-run", "results_dir=r"],
    ):
        result = s3bench(*command)
        assert result.returncode == 2, result.stdout + result.stderr
        assert result.stderr.count("\n") == 1
        assert f"the record r/{old.name} was made by another version of s3bench" in result.stderr
    assert [file.name for file in (tmp_path / "r").iterdir()] == [old.name]
