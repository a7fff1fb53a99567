"""Tests the completion of the command line, requested as shells request it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import mistake

CLI = Path(sys.executable).with_name("s3bench")
IN_BASH = """\
source <(s3bench completion bash)
for line; do
    COMP_LINE="$line" COMP_POINT=${#line} COMP_TYPE=9
    COMPREPLY=()
    _python_argcomplete s3bench "" "" 2> /dev/null
    echo "${COMPREPLY[*]}"
done
"""
IN_FISH = """\
s3bench completion fish | source
complete -C $argv[1]
"""


def ask(folder, *command):
    environment = {**os.environ, "PATH": f"{CLI.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def folder(tmp_path):
    """Make a folder with a user's optimizer and two results folders."""
    (tmp_path / "configs" / "optimizer").mkdir(parents=True)
    (tmp_path / "configs" / "optimizer" / "sgd_mine.yaml").write_text("# Mine\n_target_: torch.optim.SGD\n")
    for name in ("first", "second"):
        (tmp_path / "results" / name).mkdir(parents=True)
    return tmp_path


COMPLETIONS = {
    "s3bench sw": ["sweep"],
    "s3bench run tas": ["task="],
    "s3bench run --cfg job seed=1 lr_": ["lr_multiplier="],
    "s3bench run task=source_": ["source_bytes", "source_gpt", "source_gpt2", "source_memorise", "source_ngram"],
    "s3bench run optimizer=sgd": ["sgd", "sgd_mine"],
    "s3bench sweep optimizer=s3,sgd": ["s3,sgd", "s3,sgd_mine"],
    "s3bench run schedule=": ["constant", "cosine", "linear", "ramp"],
    "s3bench run clip=a": ["adagc", "agc"],
    "s3bench run tracker=w": ["wandb"],
    "s3bench sweep launcher=": ["local", "ray", "slurm"],
    "s3bench sweep experiment=quick": ["quickstart"],
    "s3bench run no_such_key=": [],
    "s3bench sweep --d": ["--dry-run"],
    "s3bench run --cfg ": ["job", "hydra", "all"],
    "s3bench status ": ["results/first/", "results/second/"],
    "s3bench report results/f": ["results/first/"],
    "s3bench report re": ["results/"],
    "s3bench list opt": ["optimizers"],
    "s3bench tune quadr": ["quadratic"],
    "s3bench completion ": ["bash", "zsh", "fish"],
}


def test_bash_completes_commands_options_names_and_folders(folder):
    answers = ask(folder, "bash", "-c", IN_BASH, "bash", *COMPLETIONS)
    assert {line: text.split() for line, text in zip(COMPLETIONS, answers, strict=True)} == COMPLETIONS


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes_names(folder):
    assert ask(folder, "fish", "-c", IN_FISH, "s3bench run optimizer=sgd") == ["optimizer=sgd", "optimizer=sgd_mine"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_asks_s3bench(s3bench, shell):
    printed = s3bench("completion", shell)
    assert printed.returncode == 0, printed.stderr
    assert "_ARGCOMPLETE" in printed.stdout
    assert "s3bench" in printed.stdout


def test_an_unknown_shell_is_reported_on_one_line(s3bench):
    assert "invalid choice: 'tcsh' (choose from 'bash', 'zsh', 'fish')" in mistake(s3bench("completion", "tcsh"))


def test_two_files_of_one_name_complete_nothing_and_print_nothing(folder):
    (folder / "configs" / "optimizer" / "s3.yaml").write_text("# Not S3\n")
    assert ask(folder, "bash", "-c", IN_BASH, "bash", "s3bench run optimizer=") == [""]


def test_a_completion_imports_neither_torch_nor_hydra(folder):
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": "s3bench run task=", "COMP_POINT": "17"}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(folder / "answer")}
    command = [sys.executable, "-X", "importtime", CLI]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **asked}, stderr=subprocess.PIPE, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "s3bench.catalog" in imported
    assert not imported & {"torch", "hydra", "numpy", "yaml", "rich"}
    assert "task=quadratic" in (folder / "answer").read_text()
