"""Preparing data: interrupted, damaged, on a full disk, and by two processes at once."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.data.prepare import CHECKSUMS, prepare
from tasks.text_gpt2 import TextGPT2
from tests.conftest import ROOT, flip, until
from tests.tasks.language import text

SMALL = {"width": 16, "depth": 1, "heads": 2, "context": 16, "vocab_size": 300}

# Encodes a few documents at a time, slowly, and prints where it began.
SLOW = """
import os, sys, time
import tasks.data.encoding, tasks.text_gpt2 as text
tasks.data.encoding.CHUNK = 3000
real = tasks.data.encoding.encode
def encode(draft, tokenizer, read, *rest, **more):
    def spoken(place):
        print("begins at", *place, flush=True)
        return read(place)
    real(draft, tokenizer, spoken, *rest, **more)
text.encode = encode
if sys.argv[3] == "slow":
    os.fsync = lambda _: time.sleep(0.02)
text.TextGPT2(0, data_dir=sys.argv[1], files=[sys.argv[2]], width=16, depth=1, heads=2, context=16, vocab_size=300)
"""

# Notes each time the data are made. Making them takes until all processes have begun, and a second more.
COUNTED = """
import os, sys, time
from pathlib import Path
from tasks.data.prepare import prepare
place = Path(sys.argv[1])
(place / f"begun-{os.getpid()}").touch()
def make(draft):
    with (place / "made").open("a") as log:
        log.write("once\\n")
    while len(list(place.glob("begun-*"))) < int(sys.argv[2]):
        time.sleep(0.01)
    time.sleep(1)
    (draft / "data").write_bytes(b"1")
print(prepare(place / "data", make, description="the data", needed_bytes=1))
"""

# Prepares the data in a folder for each of several limits on the size of files, in bytes.
LIMITED = """
import resource, sys
from tasks.text_gpt2 import TextGPT2
place, files, *limits = sys.argv[1:]
for limit in limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    data = f"{place}/{limit}"
    try:
        TextGPT2(0, data_dir=data, files=[files], width=16, depth=1, heads=2, context=16, vocab_size=300)
    except ValueError as error:
        print(error)
"""


def start(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return a folder of 300 documents."""
    folder = tmp_path_factory.mktemp("corpus")
    for seed in range(300):
        (folder / f"{seed:03d}.txt").write_text(text(seed, 60), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, corpus):
    """Return a folder with the data that were prepared from these documents."""
    folder = tmp_path_factory.mktemp("prepared")
    TextGPT2(0, data_dir=str(folder), files=[str(corpus)], **SMALL)
    return folder


@pytest.fixture
def rows(tmp_path):
    """Return a file with the same documents as rows."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": text(seed, 60)}) + "\n" for seed in range(300)), encoding="utf-8")
    return file


def contents(data_dir):
    (folder,) = data_dir.glob("text-*")
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_ends_with_the_same_files(tmp_path, rows):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(SLOW, whole, rows, "quick"))
    places = []

    def encoded():
        return [json.loads(file.read_text())["place"][1] for file in killed.glob(".text-*.draft/progress.json")]

    for documents in (20, 150):
        process = start(SLOW, killed, rows, "slow")
        until(lambda least=documents: any(done >= least for done in encoded()), 60, every=0.005)
        process.send_signal(signal.SIGKILL)
        places.append(process.communicate()[0].split()[-1])
        assert not list(killed.glob("text-*"))  # nothing that could be taken for complete data
    (draft,) = killed.glob(".text-*.draft")
    with (draft / "train.bin").open("ab") as file:
        file.write(b"half a chunk")
    (draft / ".facts.json.17").write_bytes(b"half a file")
    out = finish(start(SLOW, killed, rows, "quick"))
    places.append(out.split()[3])
    assert places[0] == "0"
    assert int(places[1]) >= 20
    assert int(places[2]) >= 150
    assert contents(killed) == contents(whole)


def test_two_processes_at_once_prepare_it_once(tmp_path):
    processes = [start(COUNTED, tmp_path, 2) for _ in range(2)]
    errors = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert (tmp_path / "made").read_text() == "once\n"
    assert sum("waiting for another process" in error for _, error in errors) == 1
    assert sum("preparing the data: about 1 kB" in error for _, error in errors) == 1


def test_a_process_that_is_killed_releases_the_others(tmp_path):
    first = start(COUNTED, tmp_path, 2)
    until((tmp_path / "made").exists, 60, every=0.01)
    second = start(COUNTED, tmp_path, 2)
    until(lambda: len(list(tmp_path.glob("begun-*"))) == 2, 60, every=0.01)
    first.kill()
    first.communicate()
    finish(second)
    assert (tmp_path / "data" / "data").read_bytes() == b"1"


def truncate(file):
    os.truncate(file, file.stat().st_size - 1)


@pytest.mark.parametrize("name", ["train.bin", "held_out.bin", "facts.json", "tokenizer.json", CHECKSUMS])
@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
def test_damaged_data_are_refused_in_one_line(tmp_path, corpus, prepared, damage, name):
    shutil.copytree(prepared, tmp_path / "data")
    (folder,) = (tmp_path / "data").glob("text-*")
    damage(folder / name)
    with pytest.raises(ValueError, match=r"is damaged .*; delete .* and run again") as raised:
        TextGPT2(0, data_dir=str(tmp_path / "data"), files=[str(corpus)], **SMALL)
    assert "\n" not in str(raised.value)
    if (damage, name) == (flip, "train.bin"):
        shutil.rmtree(folder)
        TextGPT2(0, data_dir=str(tmp_path / "data"), files=[str(corpus)], **SMALL)


def test_a_full_disk_leaves_nothing_that_is_taken_for_whole(tmp_path, corpus, prepared):
    limits = (10, 3000, 8000, 20000)
    lines = finish(start(LIMITED, tmp_path, corpus, *limits)).splitlines()
    whole = TextGPT2(0, data_dir=str(prepared), files=[str(corpus)], **SMALL).fingerprint()
    for limit, line in zip(limits, lines, strict=True):
        data = tmp_path / str(limit)
        assert f"cannot be prepared in {data}" in line
        assert "File too large" in line
        assert not list(data.glob("text-*"))
        assert TextGPT2(0, data_dir=str(data), files=[str(corpus)], **SMALL).fingerprint() == whole


def test_too_little_disk_is_said_before(tmp_path):
    with pytest.raises(ValueError, match=r"the data needs 1000000.0 GB in .*; .* are free"):
        prepare(tmp_path / "data", lambda _: None, description="the data", needed_bytes=10**15)


def test_what_an_interrupted_preparation_left_counts_as_room(tmp_path, monkeypatch):
    draft = tmp_path / ".data.draft"
    draft.mkdir()
    (draft / "part").write_bytes(bytes(600))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=500))
    assert prepare(tmp_path / "data", lambda _: None, description="the data", needed_bytes=1000) == tmp_path / "data"
    with pytest.raises(ValueError, match="needs 1 kB"):
        prepare(tmp_path / "other", lambda _: None, description="the data", needed_bytes=1000)


def test_prepared_data_need_no_right_to_write(tmp_path, corpus, prepared):
    shutil.copytree(prepared, tmp_path / "data")
    before = sorted(file.name for file in (tmp_path / "data").iterdir())
    lock = next((tmp_path / "data").glob(".*.lock"))
    lock.unlink()
    TextGPT2(0, data_dir=str(tmp_path / "data"), files=[str(corpus)], **SMALL)
    assert sorted(file.name for file in (tmp_path / "data").iterdir()) == [name for name in before if name != lock.name]


def test_a_place_that_cannot_be_written_is_named(corpus):
    with pytest.raises(ValueError, match="cannot be prepared in /proc/none"):
        TextGPT2(0, data_dir="/proc/none", files=[str(corpus)], **SMALL)
