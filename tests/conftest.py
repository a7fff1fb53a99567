"""What several tests share."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell does that to what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # sweeps that the tests start and interrupt inherit it

ROOT = Path(__file__).parents[1]
Found = TypeVar("Found")


def until(condition: Callable[[], Found], seconds: float = 240, every: float = 0.1) -> Found:
    """Wait until a condition holds; returns what it gave. Fails the test when the time is up."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain; the condition last gave {found!r}")
        time.sleep(every)
    return found


def mistake(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that a mistake prints."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def flip(file: Path) -> None:
    """One bit of what a file holds becomes another."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.fixture(scope="session", autouse=True)
def _data(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prepared data in one folder for all processes of a test session."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["S3BENCH_DATA"] = str(shared / "data")


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of so many bytes ("64k") in a new folder; skips the test where nobody may mount one."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def image_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Small CIFAR and ImageNet data in their true formats, where tasks look for the real ones."""
    from tests.tasks import image_data as small  # imports torchvision

    draft, data = tmp_path_factory.mktemp("image_data"), Path(os.environ["S3BENCH_DATA"])
    data.mkdir(exist_ok=True)
    small.write_cifar(draft)
    small.write_imagenet(draft)
    for folder in draft.iterdir():
        with contextlib.suppress(OSError):  # another process of this session was faster
            folder.rename(data / folder.name)
    with pytest.MonkeyPatch.context() as patch:
        small.ignore_sums(patch)
        yield


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """Denormal numbers back after a run in this process, which turns them off: hypothesis refuses to draw without."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _safe_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command line sets for the processes that it starts ends with the test that called it here."""
    monkeypatch.setenv("PYTHONSAFEPATH", "")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports with all their figures' captions and with empty pictures: most of a report's time is spent drawing."""

    def save(_: object, file: Path) -> list[Path]:
        files = [file.with_name(f"{file.name}{suffix}") for suffix in (".svg", ".png", ".pdf")]
        for each in files:
            each.write_bytes(b'<svg xmlns="http://www.w3.org/2000/svg"/>')
        return files

    monkeypatch.setattr("s3bench.report.figures.style.save", save)


@pytest.fixture
def s3bench(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line, run in an empty folder: in this process, which has imported everything.

    In a process of its own with process=True, and in slow tests.
    """
    from tests.command_line import in_a_process, in_this_process  # imports s3bench

    apart = request.node.get_closest_marker("slow") is not None

    def run(*arguments: str, process: bool = apart, **environment: str) -> subprocess.CompletedProcess[str]:
        return (in_a_process if process else in_this_process)(tmp_path, *arguments, **environment)

    return run
