"""Installed as a wheel into another environment, the command works from any folder and finds its configs."""

import subprocess
import sys
import sysconfig
import venv

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_wheel_works_on_its_own(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("s3bench-*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # this environment's, without its s3bench
    elsewhere = tmp_path / "an empty folder"
    elsewhere.mkdir()

    def run(*command):
        return subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)

    where = run(python, "-c", "import s3bench, optimizers, tasks; print(s3bench.__file__, optimizers.S3)")
    assert str(packages) in where.stdout, where.stderr
    command = tmp_path / "env" / "bin" / "s3bench"
    assert "source_gpt" in run(command, "list", "tasks").stdout
    sweep = run(command, "sweep", "task=quadratic", "optimizer=s3,adamw", "horizon=20")
    assert "2 runs: 2 finished" in sweep.stdout, sweep.stdout + sweep.stderr
    report = run(command, "report", "results/adhoc")
    assert report.returncode == 0, report.stderr
    assert (elsewhere / "results" / "adhoc" / "report" / "index.html").exists()
