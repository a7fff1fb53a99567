"""s3bench.optim: our optimizers, also where `import optimizers` gives the user's own."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

USE = """
import copy, io, pickle, sys
import torch

def same_steps(make):
    param = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = make([param])
    def step(optimizer):
        (param,) = optimizer.param_groups[0]["params"]
        param.grad = torch.arange(6.0).reshape(3, 2) - 2
        optimizer.step()
        return param.detach().clone()
    step(optimizer)
    copies = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    restored = make([torch.nn.Parameter(param.detach().clone())])
    restored.load_state_dict(torch.load(file, weights_only=True))
    expected = step(optimizer)
    assert all(torch.equal(step(other), expected) for other in (*copies, restored))

assert S3.__mro__[1] is SignSGD.__mro__[1]  # one copy of the package
same_steps(S3)
same_steps(lambda params: SignSGD(params, momentum=0.9))
same_steps(Muon)
assert not {"hydra", "omegaconf", "pandas", "wandb", "tasks"} & set(sys.modules)
"""
OURS_FIRST = "from s3bench.optim import S3, SignSGD, Muon\nimport optimizers\n"
THEIRS_FIRST = "import optimizers\nfrom s3bench.optim import S3, SignSGD, Muon\n"


def run(script, text, *path):
    """Run a script as a user does: its own folder comes first on sys.path, then `path`."""
    script.write_text(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("own", "imports"),
    [
        ("optimizers/__init__.py", OURS_FIRST),
        ("optimizers.py", THEIRS_FIRST),
        pytest.param("optimizers/__init__.py", THEIRS_FIRST, marks=pytest.mark.slow),
        pytest.param("optimizers.py", OURS_FIRST, marks=pytest.mark.slow),
    ],
)
def test_a_users_own_optimizers_beside_the_script_takes_nothing_away(tmp_path, own, imports):
    file = tmp_path / own
    file.parent.mkdir(exist_ok=True)
    file.write_text("WHOSE = 'the user'\n")
    run(tmp_path / "script.py", f"{imports}assert optimizers.WHOSE == 'the user'\n{USE}", ROOT)


def test_a_users_own_optimizers_may_build_on_ours(tmp_path):
    own = tmp_path / "optimizers"
    own.mkdir()
    (own / "__init__.py").write_text("from s3bench.optim import S3\n\nclass Mine(S3):\n    pass\n")
    text = "from optimizers import Mine\nfrom s3bench.optim import S3\nassert issubclass(Mine, S3) and Mine is not S3\n"
    run(tmp_path / "script.py", text, ROOT)


def test_a_script_may_itself_be_called_optimizers(tmp_path):
    run(tmp_path / "optimizers.py", f"from s3bench.optim import S3, SignSGD, Muon\n{USE}", ROOT)


@pytest.mark.parametrize("imports", [pytest.param(OURS_FIRST, marks=pytest.mark.slow), THEIRS_FIRST])
def test_where_optimizers_is_ours_the_classes_are_the_same(tmp_path, imports):
    same = "assert (S3, SignSGD, Muon) == (optimizers.S3, optimizers.SignSGD, optimizers.Muon)\n"
    run(tmp_path / "script.py", f"{imports}{same}{USE}", ROOT)


@pytest.mark.slow
def test_it_works_where_both_packages_were_installed(tmp_path):
    site, own = tmp_path / "site", tmp_path / "own" / "optimizers"
    for package in ("s3bench", "optimizers"):
        shutil.copytree(ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    own.mkdir(parents=True)
    (own / "__init__.py").write_text("")
    where = "import s3bench.optim\nprint(s3bench.optim.__file__)\n"
    assert run(own.parent / "script.py", f"{OURS_FIRST}{USE}{where}", site).strip().startswith(str(site))
    assert run(tmp_path / "script.py", f"{OURS_FIRST}assert S3 is optimizers.S3\n{where}", site).startswith(str(site))


def test_a_pickled_optimizer_is_read_where_no_other_optimizers_is_in_the_way(tmp_path):
    own = tmp_path / "own" / "optimizers"
    own.mkdir(parents=True)
    (own / "__init__.py").write_text("")
    write = (
        "import pickle, torch\nfrom s3bench.optim import S3\n"
        "optimizer = S3([torch.nn.Parameter(torch.ones(2))], beta=0.7)\n"
        f"pickle.dump(optimizer, open({str(tmp_path / 'pickle')!r}, 'wb'))\n"
    )
    run(own.parent / "script.py", write, ROOT)
    read = f"import pickle\nprint(pickle.load(open({str(tmp_path / 'pickle')!r}, 'rb')).defaults['beta'])\n"
    assert run(tmp_path / "script.py", read, ROOT) == "0.7\n"
