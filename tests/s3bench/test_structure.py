"""The house rules that import-linter cannot hold: what is really loaded, and that a newcomer can read the code."""

import ast
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "s3bench"
CODE = [file for name in ("s3bench", "optimizers", "tasks") for file in sorted((ROOT / name).rglob("*.py"))]
WITHOUT_TORCH = ("report", "record", "curve_files", "spikes", "console", "completion", "catalog", "errors", "cli")
TOP_FILES = 8  # at most, at the top of s3bench/
MODULE_LINES, FUNCTION_LINES = 400, 60
NO_VERBS = {
    "A",
    "All",
    "An",
    "And",
    "As",
    "At",
    "Between",
    "By",
    "Each",
    "Every",
    "For",
    "From",
    "How",
    "If",
    "In",
    "It",
    "Its",
    "No",
    "None",
    "Of",
    "On",
    "One",
    "Same",
    "Some",
    "That",
    "The",
    "These",
    "This",
    "Those",
    "To",
    "What",
    "When",
    "Where",
    "Whether",
    "Which",
    "Who",
    "With",
    "Without",
}
EXPLAINED = "# Long"  # begins the comment in a function that says why it is longer


def imports(file):
    """Yield the full names of the modules that a file imports anywhere."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top_level(file):
    return {name.split(".")[0] for name in imports(file)}


def modules(*rooms):
    """Return the import paths of all modules in these rooms of s3bench/."""
    files = [f for room in rooms for f in (PACKAGE / f"{room}.py", *sorted((PACKAGE / room).rglob("*.py")))]
    there = [file.relative_to(ROOT).with_suffix("") for file in files if file.exists()]
    return [".".join(path.parts).removesuffix(".__init__") for path in there]


EACH_IN_TURN = """\
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
    if loaded := {"torch", "hydra", "omegaconf", "wandb", "tensorboard"} & set(sys.modules):
        sys.exit(f"{module} loads {', '.join(sorted(loaded))}")
"""


def test_the_report_side_really_loads_without_torch_hydra_wandb_and_tensorboard():
    found = modules(*WITHOUT_TORCH)
    assert len(found) > 40
    done = subprocess.run([sys.executable, "-c", EACH_IN_TURN, *found], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_reading_runs_does_not_load_matplotlib():
    code = "import sys, s3bench.report.analysis.results_folder; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_top_of_the_package_shows_its_architecture():
    files = list(PACKAGE.glob("*.py"))
    assert len(files) <= TOP_FILES
    folders = {file.parent.name for file in PACKAGE.glob("*/*.py")}
    assert folders == {"run", "report", "record", "spikes", "curve_files", "decide", "callbacks"}


def test_a_callback_loads_nothing_of_the_harness_but_the_detector():
    for file in (PACKAGE / "callbacks").glob("*.py"):
        own = {name for name in imports(file) if name.startswith("s3bench.")}
        assert not [name for name in own if not name.startswith(("s3bench.spikes", "s3bench.callbacks"))]


def test_the_wings_are_entered_without_loading_them():
    for wing in ("run", "report"):
        for file in (PACKAGE / wing).rglob("__init__.py"):
            assert not file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", CODE, ids=lambda file: str(file.relative_to(ROOT)))
def test_modules_and_functions_fit_on_screens(file):
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            body = lines[node.lineno - 1 : node.end_lineno]
            assert length <= FUNCTION_LINES or any(EXPLAINED in line for line in body), f"{node.name}: {length} lines"


@pytest.mark.parametrize("file", CODE, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_of_functions_begin_with_a_verb(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            words = (ast.get_docstring(node) or "").split()
            is_property = any("property" in ast.dump(decorator) for decorator in node.decorator_list)
            assert is_property or not words or words[0] not in NO_VERBS, f"{node.name}: {' '.join(words[:6])} ..."


def test_optimizers_know_torch_alone():
    for file in (ROOT / "optimizers").rglob("*.py"):
        assert top_level(file) <= {"torch", "triton", "optimizers", *sys.stdlib_module_names}  # torch brings triton


def test_tasks_know_nothing_of_the_harness():
    allowed = {"torch", "torchvision", "transformers", "datasets", "tokenizers", "sklearn", "numpy", "tasks"}
    allowed |= {"matplotlib", "PIL", "scipy"}
    for file in (ROOT / "tasks").rglob("*.py"):
        assert top_level(file) <= allowed | set(sys.stdlib_module_names)


def test_the_harness_names_no_optimizer_and_no_task():
    for file in PACKAGE.rglob("*.py"):
        if file != PACKAGE / "optim.py":  # hands them on to users' own code
            assert not top_level(file) & {"optimizers", "tasks"}


def test_only_tracking_knows_wandb_and_only_record_knows_the_records_files():
    for file in PACKAGE.rglob("*.py"):
        if file.stem != "tracking":  # wandb_file.py has wandb's own command read, in a process of its own
            assert "wandb" not in top_level(file)
            assert file.stem == "wandb_file" or '"wandb", "leet"' not in file.read_text(encoding="utf-8")
        if file.stem != "tensorboard_file":
            assert "tensorboard" not in top_level(file)
        if file.parent != PACKAGE / "record":
            code = ast.parse(file.read_text(encoding="utf-8"))
            docs = {id(node.value) for node in ast.walk(code) if isinstance(node, ast.Expr)}
            texts = [n.value for n in ast.walk(code) if isinstance(n, ast.Constant) and id(n) not in docs]
            names = ("config.yaml", "steps.parquet", "evals.parquet", "summary.json", "lease", "log.txt")
            assert not [text for text in texts if isinstance(text, str) and text in names], file


def test_the_run_path_is_under_500_lines():
    path = ["configs/run.yaml", "s3bench/run/one_run.py", "s3bench/run/loop.py", "optimizers/s3.py"]
    path.append("tasks/digits_vit.py")
    assert sum(len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in path) < 500


def test_there_is_no_utils():
    assert not [file for file in ROOT.glob("[!.]*/**/*.py") if file.stem in ("utils", "helpers", "misc")]


def test_everything_is_printed_by_say_which_escapes_control_characters():
    for file in PACKAGE.rglob("*.py"):
        if file.stem in ("console", "questions", "completion"):  # the last two print YAML as it is dumped, and a script
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "print":
                assert ast.unparse(node.args[0]).startswith(("table", "_table(", "_short(")), f"{file}:{node.lineno}"


def test_a_records_files_are_opened_in_one_place():
    for file in (PACKAGE / "record").glob("*.py"):
        if file.stem != "opening":
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"\.read_text\(enc|read_bytes|json\.loads|open\(\"rb|isdigit", text), file
