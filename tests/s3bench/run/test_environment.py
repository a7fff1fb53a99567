"""What a record says of where its run was trained."""

import json
import subprocess
import sys

from s3bench.run.environment import versions


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
