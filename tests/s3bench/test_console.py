"""Output that cannot be written ends nothing, and what others wrote steers no terminal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from s3bench import record
from s3bench.console import say
from s3bench.errors import UserError, one_line, printable

CLI = Path(sys.executable).with_name("s3bench")
MAIN = f"{sys.executable} -c 'import sys; from s3bench.cli import main; sys.exit(main())'"
TALK = "import sys; from s3bench import console; console.outlast_readers(); print('x' * {length}); "
TALK += "print('lived', file=sys.stderr); sys.exit(0 if console.lost_output() is None else 1)"


def shell(folder, line):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain σ × text", "plain σ × text"),
        ("\x1b]0;t\x07\x1b[2J", "\\x1b]0;t\\x07\\x1b[2J"),
        ("a\nb\r\x9b", "a\\nb\\r\\x9b"),
        ("\ud800\u202e\u2028", "\\ud800\\u202e\\u2028"),
    ],
)
def test_control_characters_are_shown_escaped(text, shown, capsys):
    assert printable(text) == shown
    say(text, "next")
    assert capsys.readouterr().out == f"{shown}\nnext\n"
    assert one_line(UserError(f"no {text}")).startswith("no ")
    assert one_line(UserError(text)).isprintable()


@pytest.mark.parametrize("length", [1, 10_000_000])
@pytest.mark.parametrize(("where", "code"), [("", 0), ("> /dev/full", 1), (">&-", 1), ("| head -c 1", 0)])
def test_output_that_cannot_be_written_is_told_by_the_exit_code(tmp_path, length, where, code):
    talk = TALK.format(length=length)
    told = shell(tmp_path, f'set -o pipefail; {sys.executable} -c "{talk}" {where}')
    assert (told.returncode, told.stderr) == (code, "lived\n")


def test_closed_streams_lend_their_numbers_to_no_file(tmp_path):
    code = "import os; from s3bench import console; console.outlast_readers(); file = open('made', 'w'); "
    code += "os.write(file.fileno(), b'own'); print('not mine'); os._exit(file.fileno())"
    told = shell(tmp_path, f'{sys.executable} -c "{code}" <&- >&- 2>&-')
    assert told.returncode > 2
    assert (tmp_path / "made").read_text() == "own"


@pytest.mark.parametrize("closed", ["<&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lend_their_numbers_to_no_file_of_a_child(tmp_path, closed):
    child = "import os; open('made', 'w').write(str(os.pipe()[0]))"
    code = "import subprocess, sys; from s3bench import console; console.outlast_readers(); "
    code += f"subprocess.run([sys.executable, '-c', {child!r}])"
    (tmp_path / "parent.py").write_text(code)
    shell(tmp_path, f"{sys.executable} parent.py {closed}")
    assert int((tmp_path / "made").read_text()) > 2


@pytest.mark.slow
@pytest.mark.parametrize("where", ["> /dev/full", ">&-", "> /dev/full 2>&1", ">&- 2>&-"])
def test_a_sweep_that_cannot_print_trains_all_the_same(tmp_path, where):
    told = shell(tmp_path, f"{MAIN} sweep seed=0,1,2 horizon=20 results_dir=r {where}")
    assert told.returncode == 1
    assert record.load_records(tmp_path / "r").state.tolist() == ["finished"] * 3
    assert "Traceback" not in told.stderr
    if "2>" not in where:
        assert told.stderr.startswith("s3bench: output could not be written: ")
    assert shell(tmp_path, f"{MAIN} run seed=3 horizon=20 results_dir=r {where}").returncode == 1
    assert record.load_records(tmp_path / "r").state.tolist() == ["finished"] * 4


def test_a_command_whose_output_is_lost_has_not_done_what_was_asked(tmp_path):
    for arguments in ("list tasks", "spikes x.csv", "--watch"):
        assert shell(tmp_path, f"{MAIN} {arguments} > /dev/full").returncode in (1, 2)


@pytest.mark.parametrize("arguments", ["list tasks", "status r", "spikes loss.csv", "run horizon=5", "figure r"])
def test_a_folder_that_was_deleted_is_named_on_one_line(tmp_path, arguments):
    told = shell(tmp_path, f"mkdir gone; cd gone; rmdir ../gone; {MAIN} {arguments}")
    assert told.returncode == 2
    assert told.stderr == f"s3bench: the current folder {tmp_path / 'gone'} was deleted; change to another one\n"


def test_a_folder_that_is_deleted_while_a_command_runs_is_named(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert one_line(FileNotFoundError(2, "No such file")) == (
        f"the current folder {tmp_path / 'gone'} was deleted; change to another one"
    )
