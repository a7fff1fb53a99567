"""The house rules: who imports whom, and that a newcomer can read the run path in one sitting."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT

REPORT_SIDE = [
    "report",
    "page",
    "curve_data",
    "score",
    "spikes",
    "excursion",
    "baseline",
    "noise",
    "published",
    "figures",
    "record",
    "identity",
    "lease",
    "status",
    "curves",
    "catalog",
    "errors",
    "wandb_file",
    "tensorboard_file",
    "censored",
    "targets",
    "inference",
    "across",
    "horizons",
    "runs",
    "labels",
    "tables",
    "comparisons",
    "shown",
    "calibrate",
    "claims",
    "evidence",
    "verdicts",
    "onset",
    "response",
    "bounds",
    "rules",
    "shocks",
    "drawing",
    "drawings",
    "paper_drawings",
]
RUN_SIDE = ["run", "train", "block", "groups", "measure", "build", "config", "environment", "schedule", "track"]
RUN_SIDE += ["source", "grid", "dryrun", "shock", "optim"]
RUN_SIDE += ["rows", "checkpoint", "stop", "sweep", "local", "workers", "warm", "learner", "processes", "tune"]
RUN_SIDE += ["cluster", "on_slurm", "on_ray", "pack", "submit"]


def imports(file):
    """The modules that a file imports anywhere, by their full names."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:  # a relative import stays in its package
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top_level(file):
    return {name.split(".")[0] for name in imports(file)}


def test_every_module_is_on_one_side():
    modules = {file.stem for file in (ROOT / "s3bench").glob("*.py")} - {"__init__", "cli"}
    assert modules == {*REPORT_SIDE, *RUN_SIDE}


@pytest.mark.parametrize("module", REPORT_SIDE)
def test_the_report_side_imports_nothing_of_the_run_side(module):
    file = ROOT / "s3bench" / f"{module}.py"
    assert not top_level(file) & {"torch", "hydra", "omegaconf", "wandb", "optimizers", "tasks"}
    assert not {f"s3bench.{name}" for name in RUN_SIDE} & set(imports(file))


EACH_IN_TURN = """\
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(f"s3bench.{module}")
    if loaded := {"torch", "hydra", "wandb", "tensorboard"} & set(sys.modules):
        sys.exit(f"{module} loads {', '.join(sorted(loaded))}")
"""


def test_the_report_side_really_loads_without_torch_hydra_wandb_and_tensorboard():
    done = subprocess.run(
        [sys.executable, "-c", EACH_IN_TURN, *REPORT_SIDE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_optimizers_know_torch_alone():
    for file in (ROOT / "optimizers").rglob("*.py"):
        assert top_level(file) <= {"torch", "triton", "optimizers", *sys.stdlib_module_names}  # torch brings triton


def test_tasks_know_nothing_of_the_harness():
    allowed = {
        "torch",
        "torchvision",
        "transformers",
        "datasets",
        "tokenizers",
        "sklearn",
        "numpy",
        "tasks",
        "matplotlib",
        "PIL",
        "scipy",
    }
    for file in (ROOT / "tasks").rglob("*.py"):
        assert top_level(file) <= allowed | set(sys.stdlib_module_names)


def test_the_harness_names_no_optimizer_and_no_task():
    for file in (ROOT / "s3bench").glob("*.py"):
        assert not top_level(file) & {"optimizers", "tasks"} or file.stem == "optim"  # hands them on, trains nothing


def test_only_track_knows_wandb_and_only_record_knows_the_records_files():
    for file in (ROOT / "s3bench").glob("*.py"):
        if file.stem != "track":  # wandb_file.py has wandb's own command read, in a process of its own
            assert "wandb" not in top_level(file)
            assert file.stem == "wandb_file" or '"wandb", "leet"' not in file.read_text(encoding="utf-8")
        if file.stem != "tensorboard_file":
            assert "tensorboard" not in top_level(file)
        if file.stem != "record":
            code = ast.parse(file.read_text(encoding="utf-8"))
            docs = {id(node.value) for node in ast.walk(code) if isinstance(node, ast.Expr)}
            texts = [n.value for n in ast.walk(code) if isinstance(n, ast.Constant) and id(n) not in docs]
            names = ("config.yaml", "steps.parquet", "evals.parquet", "summary.json", "lease", "log.txt")
            assert not [text for text in texts if isinstance(text, str) and text in names]


def test_the_run_path_is_under_500_lines():
    path = ["configs/run.yaml", "s3bench/run.py", "s3bench/train.py", "optimizers/s3.py", "tasks/digits_vit.py"]
    assert sum(len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in path) < 500


def test_there_is_no_utils():
    assert not [file for file in ROOT.glob("[!.]*/**/*.py") if file.stem in ("utils", "helpers", "misc")]
