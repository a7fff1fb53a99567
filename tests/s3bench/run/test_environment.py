"""What a record says of where its run was trained."""

import json
import os
import subprocess
import sys

from s3bench.run import environment
from s3bench.run.environment import git_commit, versions


def test_versions_do_not_depend_on_what_the_process_has_loaded():
    code = (
        "import json, sys; {}from s3bench.run.environment import versions; print(json.dumps(versions(['torch.optim'])))"
    )
    found = [
        json.loads(subprocess.run([sys.executable, "-c", code.format(first)], capture_output=True, check=True).stdout)
        for first in ("", "import sklearn; ")
    ]
    assert found[0] == found[1]
    assert {"python", "s3bench", "torch", "numpy", "scikit-learn"} <= found[0].keys()


def test_a_library_that_is_not_installed_has_no_version():
    assert "no_such_library" not in versions(["no_such_library.Adam"])
    assert "pytest" in versions(["pytest.Adam"])


def test_the_commit_is_asked_for_without_writing_to_the_checkout(tmp_path, monkeypatch):
    """Git refreshes its index where it may; killed meanwhile with a sweep, it would leave a lock behind."""
    (tmp_path / "s3bench" / "run").mkdir(parents=True)
    file = tmp_path / "s3bench" / "__init__.py"
    file.write_text("")
    me = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*me, "commit", "--quiet", "--message=m"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    os.utime(file, (1, 1))  # so that the index is no longer fresh
    before = (tmp_path / ".git" / "index").read_bytes()
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "s3bench" / "run" / "environment.py"))
    git_commit.cache_clear()
    try:
        found = git_commit()
    finally:
        git_commit.cache_clear()
    assert found is not None
    assert len(found) == 40
    assert (tmp_path / ".git" / "index").read_bytes() == before
