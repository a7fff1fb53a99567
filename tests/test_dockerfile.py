"""Tests the Dockerfile: built and run where Docker is there; elsewhere, that what it copies is enough for the wheel."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from tests.conftest import ROOT

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COPIED = [source for line in re.findall(r"^COPY (.*)$", TEXT, flags=re.M) for source in line.split()[:-1]]


def test_what_is_copied_is_sent_and_enough_for_the_wheel(tmp_path):
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == set(COPIED)
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", tmp_path]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"s3bench/cli.py", "s3bench/configs/run.yaml", "s3bench/report/templates/report.html"} <= set(names)


def test_its_extras_exist_and_its_python_is_supported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"'\.\[(.*)\]'", TEXT)
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    (minor,) = re.findall(r"BASE=python:3\.(\d+)", TEXT)
    assert project["requires-python"] == ">=3.11,<3.14"
    assert 11 <= int(minor) < 14


@pytest.mark.slow
def test_the_image_is_built_and_trains():
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker answers here")
    build = [docker, "build", "--quiet", ROOT]
    image = subprocess.run(build, capture_output=True, text=True, check=True).stdout.strip()
    run = [docker, "run", "--rm", image, "run", "task=quadratic", "horizon=20"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout
