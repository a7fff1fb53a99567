"""`s3bench spikes --follow` on logs that a real process writes."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time

import pytest

WRITER = """
import json, sys, time
file, form, first = sys.argv[1:]
with open(file, "a") as log:
    for step in range(int(first), int(first) + 200):
        loss = 2 + 0.01 * (step % 3) + (2 if 100 <= step < 106 else 0)
        line = {"csv": f"{step},{loss}", "jsonl": json.dumps({"step": step, "loss": loss}),
                "log": f"step {step}: loss {loss:.4f}, lr 0.001"}[form]
        if step == 0 and form == "csv":
            log.write("step,loss\\n")
        log.write(line[:-2])
        log.flush()
        if step % 50 == 3:
            time.sleep(1)  # a line is half written for longer than a look
        log.write(line[-2:] + "\\n")
        log.flush()
"""


class Followed:
    """The command, and its lines as they come."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "s3bench.cli", "spikes", "--follow", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(command, **pipes, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def until(self, text, seconds=120):
        """Return the lines up to the first with this text."""
        seen = []
        while not seen or text not in seen[-1]:
            line = self.lines.get(timeout=seconds)
            assert line is not None, seen
            seen.append(line)
        return seen

    def end(self):
        """Press Ctrl-C; return the other lines and the exit code."""
        self.process.send_signal(signal.SIGINT)
        rest = []
        while (line := self.lines.get(timeout=120)) is not None:
            rest.append(line)
        return rest, self.process.wait()


@pytest.fixture
def followed():
    started = []

    def start(*arguments):
        started.append(Followed(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        one.reader.join()
        one.process.stdout.close()


def write(file, form, first=0):
    subprocess.run([sys.executable, "-c", WRITER, str(file), form, str(first)], check=True)


@pytest.mark.parametrize("form", ["csv", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("jsonl", "log"))])
def test_spikes_are_printed_while_the_log_is_written(tmp_path, followed, form):
    file = tmp_path / f"train.{form}"
    file.touch()
    command = followed(file)
    assert "is empty" in command.until("waiting for more")[-1]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(file), form, "0"])
    seen = command.until("spike: onset")
    assert seen[-1] == "spike: onset 100, peak 101, end 106, height 2.01, recovered"
    assert "spike under way: onset 100" in seen[-2]
    assert sum("following" in line for line in seen) == 1
    assert writer.wait() == 0
    rest, code = command.end()
    assert code == 0
    assert "loss: 1 spike in 200 steps, 50.00 per 10,000 steps" in rest


@pytest.mark.slow
def test_a_truncated_and_a_replaced_log_are_read_anew(tmp_path, followed):
    file = tmp_path / "train.csv"
    write(file, "csv")
    command = followed(file, "--json", "--fail-on", "spike")
    assert json.loads(command.until('"end"')[-1])["onset"] == 100
    file.write_text("")
    command.until("was truncated; it is read from its beginning")
    write(file, "csv")
    assert json.loads(command.until('"event": "end"')[-1])["onset"] == 100
    file.unlink()
    command.until("is gone; waiting for a new one")
    other = tmp_path / "other"
    write(other, "csv")
    other.rename(file)
    command.until("was replaced")
    assert json.loads(command.until('"event": "end"')[-1])["kind"] == "recovered"
    rest, code = command.end()
    assert code == 1
    assert any(line.startswith('{"file"') for line in rest)


@pytest.mark.slow
def test_a_resumed_run_is_read_anew_and_its_spikes_are_not_said_twice(tmp_path, followed):
    file = tmp_path / "train.csv"
    write(file, "csv")
    command = followed(file)
    command.until("spike: onset 100")
    with file.open("a") as log:
        log.writelines(f"{step},2.0\n" for step in range(180, 260))
    seen = command.until("earlier rows of")
    assert "taken as a resumed run" in seen[-1]
    time.sleep(1)
    rest, _ = command.end()
    assert not [line for line in rest if line.startswith("spike")]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", b'{\n "log_history": []\n}\n', "a JSON document"),
        ("a.json", b'{"log_history": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 2.0}]}\n', "trainer_state.json"),
        ("a.csv.gz", b"\x1f\x8b\x08", "a binary file"),
        ("a.parquet", b"PAR1", "a binary file"),
    ],
)
def test_other_kinds_are_refused(tmp_path, s3bench, name, content, told):
    (tmp_path / name).write_bytes(content)
    done = s3bench("spikes", "--follow", str(tmp_path / name))
    assert done.returncode == 2
    assert f"{name}, {told}: it must be one of these: a table, JSON lines" in done.stderr


def test_several_runs_are_refused_as_no_more_rows_make_them_one(tmp_path, s3bench):
    (tmp_path / "two.csv").write_text("step,loss\n0,2.5\n1,2.4\n2,2.3\n0,2.6\n1,2.1\n2,1.9\n")
    done = s3bench("spikes", "--follow", str(tmp_path / "two.csv"))
    assert done.returncode == 2
    assert "as in several runs" in done.stderr


def test_a_log_without_a_whole_line_is_waited_for(tmp_path, followed):
    (tmp_path / "log").write_text("step 1 loss 2.5")
    command = followed(tmp_path / "log")
    assert "log has no whole line yet; waiting for more" in command.until("waiting for more")[-1]


def test_only_one_file_that_is_there_can_be_followed(tmp_path, s3bench):
    for arguments, told in (
        (["none.csv"], "there is no file none.csv"),
        (["-"], "there is no file -"),
        ([tmp_path], "it must be a file"),
        (["a", "b"], "--follow watches one file"),
    ):
        done = s3bench("spikes", "--follow", *map(str, arguments))
        assert (done.returncode, told in done.stderr) == (2, True)
