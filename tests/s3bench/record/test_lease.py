"""Leases: one process trains a run, whatever dies, sleeps, or has another clock."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from s3bench import record
from s3bench.record import lease
from s3bench.record.lease import Busy, Lease, Watch
from tests.conftest import ROOT, until
from tests.records import config, rows

HOLD = "import sys, time; from pathlib import Path; from s3bench.record.lease import Lease; Lease(Path(sys.argv[1])); "
HOLD += "print('held', flush=True); time.sleep(600)"


def hold(place, *before):
    """Start another process that holds the lease at a place."""
    command = [*before, sys.executable, "-c", HOLD, str(place)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "held\n"
    return process


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_lease_is_held_until_it_is_released(tmp_path):
    place = tmp_path / "lease"
    held = Lease(place)
    assert lease.is_held(place)
    with pytest.raises(Busy):
        Lease(place)
    held.check()
    held.release()
    assert not lease.is_held(place)
    assert not list(tmp_path.iterdir())
    Lease(place).release()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_lease_whose_process_died_here_is_taken_over_at_once(tmp_path, number):
    place = tmp_path / "lease"
    process = hold(place)
    with pytest.raises(Busy):
        Lease(place)
    assert str(process.pid) in lease.owner(place)
    process.send_signal(number)
    until(lambda: not lease.is_held(place), 20, every=0.02)  # even while it is a zombie, which no parent has waited for
    taken = Lease(place)
    assert taken.number == 1
    assert lease.numbers(place) == [1]
    taken.release()
    end(process)


def test_a_stopped_process_keeps_its_lease(tmp_path):
    process = hold(tmp_path / "lease")
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(Busy):
        Lease(tmp_path / "lease")
    assert Watch().dead(tmp_path / "lease") is None
    end(process)


def test_another_process_with_the_number_of_the_dead_owner_is_not_taken_for_it(tmp_path):
    place = tmp_path / "lease"
    content = {**lease._this_process(), "started": 0.01, "beats": "000000001"}  # this number, but another start
    (tmp_path / "lease.4").write_text(json.dumps(content))
    assert not lease.is_held(place)
    taken = Lease(place)
    assert taken.number == 5
    taken.release()


def check_that_it_lives_until_its_heart_stops(place, monkeypatch):
    """Check that an owner that cannot be seen is dead after a time without a heartbeat, and not before."""
    watch = Watch()
    assert lease.is_held(place)
    with pytest.raises(Busy):
        Lease(place)
    assert watch.dead(place) is None
    monkeypatch.setattr(lease, "DEAD_AFTER", 0.1)
    time.sleep(0.2)
    assert watch.dead(place) == lease.numbers(place)[-1]
    assert not lease.is_held(place)


@pytest.mark.parametrize("started", ["1", None])
def test_a_lease_of_version_0_1_0_is_watched_like_one_elsewhere(tmp_path, monkeypatch, started):
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    where = f"{boot} {Path('/proc/self/ns/pid').readlink()}"  # "started" counted the kernel's ticks
    content = {"host": "h", "where": where, "pid": os.getpid(), "started": started, "beats": "000000001"}
    (tmp_path / "lease.0").write_text(json.dumps(content))
    assert lease.owner(tmp_path / "lease") == f"process {os.getpid()} on h"
    check_that_it_lives_until_its_heart_stops(tmp_path / "lease", monkeypatch)


def test_a_lease_of_a_system_that_cannot_tell_processes_apart_is_kept_by_its_heart(tmp_path, monkeypatch):
    def refuse():
        raise PermissionError("/proc/stat")

    with monkeypatch.context() as patch:
        patch.setattr(psutil, "boot_time", refuse)
        held = Lease(tmp_path / "lease")
    check_that_it_lives_until_its_heart_stops(tmp_path / "lease", monkeypatch)
    held.release()


@pytest.mark.parametrize(("error", "gone"), [(PermissionError, False), (None, False), (ProcessLookupError, True)])
def test_a_process_that_is_hidden_is_not_taken_for_dead(tmp_path, monkeypatch, error, gone):
    def hide(pid):
        raise psutil.NoSuchProcess(pid)

    def kill(*_):
        if error:
            raise error

    place = tmp_path / "lease"
    held = Lease(place)
    monkeypatch.setattr(psutil, "Process", hide)  # as where /proc is mounted with hidepid
    monkeypatch.setattr(os, "kill", kill)
    assert Watch().dead(place) == (0 if gone else None)
    if not gone:
        check_that_it_lives_until_its_heart_stops(place, monkeypatch)
    held.release()


def test_a_process_that_may_not_be_asked_is_not_taken_for_dead(tmp_path, monkeypatch):
    def refuse(pid):
        raise psutil.AccessDenied(pid)

    held = Lease(tmp_path / "lease")
    monkeypatch.setattr(psutil, "Process", refuse)
    check_that_it_lives_until_its_heart_stops(tmp_path / "lease", monkeypatch)
    held.release()


@pytest.fixture
def not_linux(monkeypatch):
    """Let leases take this system for one without boot_id and process namespaces."""
    monkeypatch.setattr(psutil, "LINUX", False)


@pytest.mark.usefixtures("not_linux")
def test_a_dead_owner_is_seen_at_once_off_linux_too(tmp_path, monkeypatch):
    place = tmp_path / "lease"
    taken = Lease(place)
    assert json.loads((tmp_path / "lease.0").read_text())["where"].startswith("host ")
    assert lease.wait_for_death(place) is None
    taken.release()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    content = {**lease._this_process(), "pid": ended.pid, "beats": "000000001"}
    (tmp_path / "lease.4").write_text(json.dumps(content))
    assert Watch().dead(place) == 4
    assert not lease.is_held(place)
    # The same number with another start proves nothing there: the clock may have been set.
    (tmp_path / "lease.4").write_text(json.dumps({**lease._this_process(), "started": 0.01, "beats": "000000001"}))
    check_that_it_lives_until_its_heart_stops(place, monkeypatch)


@pytest.mark.parametrize("jumps", [[-1e9], [1e9], [0, 1, 1, 3600, 3600]])
@pytest.mark.parametrize("linux", [True, False])
def test_a_living_owner_outlives_a_jump_of_the_clock_from_which_psutil_counts(tmp_path, monkeypatch, jumps, linux):
    monkeypatch.setattr(psutil, "LINUX", linux)
    place = tmp_path / "lease"
    held = Lease(place)
    boot, left = psutil._pslinux.boot_time, [*jumps]
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot() + (left.pop(0) if len(left) > 1 else left[0]))
    for _ in range(3):
        assert lease.is_held(place)
        assert Watch().dead(place) is None
        with pytest.raises(Busy):
            Lease(place)
    held.release()


@pytest.fixture
def elsewhere(tmp_path):
    """Start the owner of a lease in another container, so that its process number means nothing here."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system does not allow new process namespaces")
    process = hold(tmp_path / "lease", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    yield process
    end(process)


@pytest.mark.usefixtures("elsewhere")
def test_a_process_elsewhere_keeps_its_lease_as_long_as_its_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "DEAD_AFTER", 0.5)  # the owner's heart beats every 5 s, which is too rarely for this
    place, watch = tmp_path / "lease", Watch()
    with pytest.raises(Busy):
        Lease(place)
    assert watch.dead(place) is None
    content = json.loads((tmp_path / "lease.0").read_text())
    for beat in range(3):
        time.sleep(0.6)
        (tmp_path / "lease.0").write_text(json.dumps({**content, "beats": f"x{beat}"}))
        assert watch.dead(place) is None
    time.sleep(0.6)
    (tmp_path / "lease.0").write_text(json.dumps({**content, "beats": "x2"}))
    assert watch.dead(place) == 0


def test_a_lease_of_a_process_that_died_elsewhere_is_taken_over_in_time(tmp_path, monkeypatch, elsewhere):
    place, watch = tmp_path / "lease", Watch()
    end(elsewhere)
    monkeypatch.setattr(lease, "DEAD_AFTER", 1.0)
    assert watch.dead(place) is None  # seen for the first time
    with pytest.raises(Busy):
        Lease(place)
    time.sleep(1.2)
    assert watch.dead(place) == 0
    Lease(place, dead=0).release()


@pytest.mark.parametrize("jump", [-1e9, 1e9])
@pytest.mark.usefixtures("elsewhere")
def test_clocks_that_jump_change_nothing(tmp_path, monkeypatch, jump):
    place, watch = tmp_path / "lease", Watch()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    os.utime(tmp_path / "lease.0", (now - jump, now - jump))
    assert watch.dead(place) is None
    assert watch.dead(place) is None
    with pytest.raises(Busy):
        Lease(place)


def test_an_owner_that_was_taken_over_finds_out(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    asleep = Lease(tmp_path / "lease")
    woken = Lease(tmp_path / "lease", dead=0)  # by a process that saw no heartbeat for a minute
    with pytest.raises(Busy):
        asleep.check()
    time.sleep(0.2)  # its heartbeat does not create the file again
    assert lease.numbers(tmp_path / "lease") == [1]
    woken.check()
    asleep.release()
    woken.check()
    woken.release()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_lease_that_cannot_be_read_is_watched_like_one_elsewhere(tmp_path, monkeypatch, content):
    monkeypatch.setattr(lease, "DEAD_AFTER", 0.1)
    (tmp_path / "lease.0").write_text(content)
    with pytest.raises(Busy):
        Lease(tmp_path / "lease")
    watch = Watch()
    assert watch.dead(tmp_path / "lease") is None
    time.sleep(0.2)
    assert watch.dead(tmp_path / "lease") == 0


def test_a_second_process_writes_its_own_rows_and_late_rows_of_the_first_do_not_count(tmp_path):
    folder = record.plan(config(tmp_path))
    first = record.Writer(folder, config(tmp_path), 0)
    first.add_steps(rows(0, 50))
    second = record.Writer(folder, config(tmp_path), 1, first_step=30)
    first.add_steps(rows(50, 80))  # it was only asleep
    second.add_steps(rows(30, 40))
    assert record.load_steps(folder).step.tolist() == list(range(40))
    assert record.resumed(folder) == [30]
    with pytest.raises(Busy):
        record.Writer(folder, config(tmp_path), 1)
    first.__exit__()
    second.__exit__()


@pytest.mark.parametrize("when", ["before the tables", "between the tables", "before the summary"])
def test_a_process_that_slept_while_it_ended_a_record_leaves_nothing_in_it(tmp_path, monkeypatch, when):
    folder = record.plan(config(tmp_path))
    place = record.lease_place(folder)
    looks, check = itertools.count(), lease.check_held

    def taken_over_meanwhile(looked_at):
        if next(looks) == ("before the tables", "between the tables", "before the summary").index(when):
            (folder / "lease.1").touch()  # as another process does once it has seen no heartbeat for a minute
            (folder / "lease.0").unlink()
        check(looked_at)

    with record.leased(folder) as held, record.Writer(folder, config(tmp_path), held.number) as writer:
        writer.add_steps(rows(0, 3))
        writer.add_eval({"step": 3, "loss": 1.0})
        monkeypatch.setattr("s3bench.record.files.check_held", taken_over_meanwhile)
        with pytest.raises(Busy):
            writer.finish({"state": "finished", "steps": 3})
        with pytest.raises(Busy):
            writer.fail("late", "")
    assert not record.has_result(folder)
    assert not list(folder.glob(".*.draft"))
    assert lease.numbers(place) == [1]
    assert not (folder / "error.txt").exists()
    assert len(record.load_steps(folder)) == 3  # the rows are still there


def refusing(number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("links", [True, False])
def test_a_lease_that_does_not_fit_on_the_disk_is_not_left_behind(tmp_path, monkeypatch, links):
    if links:
        monkeypatch.setattr(Path, "write_bytes", refusing(errno.ENOSPC))
    else:
        monkeypatch.setattr(Path, "hardlink_to", refusing(errno.EPERM))
        monkeypatch.setattr(os, "pwrite", refusing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        Lease(tmp_path / "lease")
    assert not list(tmp_path.iterdir())


def test_where_a_file_system_has_no_links_leases_are_exclusive_too(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "hardlink_to", refusing(errno.EPERM))
    held = Lease(tmp_path / "lease")
    assert [file.name for file in tmp_path.iterdir()] == ["lease.0"]
    assert lease.is_held(tmp_path / "lease")
    monkeypatch.setattr(lease, "numbers", lambda _: [])  # both looked before there was one
    with pytest.raises(Busy):
        Lease(tmp_path / "lease")
    held.release()
    assert not list(tmp_path.iterdir())


def test_of_two_processes_that_see_no_lease_one_gets_it(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(lease, "numbers", lambda _: [])
        held = Lease(tmp_path / "lease")
        with pytest.raises(Busy):
            Lease(tmp_path / "lease")
    assert [file.name for file in tmp_path.iterdir()] == ["lease.0"]
    held.release()


KILLED = """\
import os, signal, sys
from pathlib import Path
from s3bench.record.lease import Lease
def take_until(operation):
    def look(event, arguments):
        nonlocal operation
        if event in ("open", "os.link", "os.remove", "os.rename") and "lease" in str(arguments[0]):
            operation -= 1
            if not operation:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(look)
    Lease(Path("lease"))
    os._exit(0)
for operation in range(1, 9):
    child = os.fork()
    if not child:
        take_until(operation)
    _, status = os.waitpid(child, 0)
    Lease(Path("lease")).release()  # raises nothing
    assert not list(Path().iterdir())
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        break
print(operation)
"""


def test_a_process_killed_while_it_takes_a_lease_keeps_nobody_waiting(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 2


def test_only_numbered_files_of_that_place_are_leases(tmp_path):
    for name in ("lease", "lease.x", "lease.1.2", "leases.3", "other.4"):
        (Path(tmp_path) / name).touch()
    assert lease.numbers(tmp_path / "lease") == []
