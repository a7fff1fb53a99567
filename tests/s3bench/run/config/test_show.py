"""Tests --cfg and --info, which print the config of a run and train and write nothing."""

import pytest
import yaml

from s3bench import record
from tests.conftest import mistake

RUN = ["run", "task=quadratic", "optimizer=adamw", "horizon=30", "eval_every=${task.eval_every}", "results_dir=r"]


def printed(s3bench, *arguments):
    done = s3bench(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_resolved_config_is_the_one_that_the_record_holds(s3bench, tmp_path):
    shown = printed(s3bench, *RUN, "--cfg", "job", "--resolve")
    assert not list(tmp_path.iterdir())
    assert s3bench(*RUN).returncode == 0
    (folder,) = record.folders(tmp_path / "r")
    assert yaml.safe_load(shown) == record.load_config(folder)


def test_the_config_keeps_its_interpolations_unless_they_are_to_be_resolved(s3bench):
    unresolved = yaml.safe_load(printed(s3bench, *RUN, "--cfg", "job"))
    resolved = yaml.safe_load(printed(s3bench, *RUN, "-c", "job", "--resolve"))
    assert unresolved["eval_every"] == "${task.eval_every}"
    assert unresolved["task"]["build"]["seed"] == "${seed}"
    assert (resolved["eval_every"], resolved["task"]["build"]["seed"]) == (20, 0)
    assert list(unresolved) == list(resolved)
    for key in ("names", "code", "run_id"):
        assert unresolved[key] == resolved[key]


def test_one_part_of_the_config_can_be_printed(s3bench):
    shown = printed(s3bench, *RUN, "--cfg", "job", "--package", "task.build")
    assert shown.startswith("# @package task.build\n_target_: tasks.quadratic.Quadratic\nseed: ${seed}\n")
    assert printed(s3bench, *RUN, "--cfg", "job", "-p", "horizon") == "30\n"
    assert printed(s3bench, *RUN, "--cfg", "job", "-p", "stop_diverged") == "None\n"
    assert "Did you mean lr_multiplier?" in mistake(s3bench(*RUN, "--cfg", "job", "--package", "lr_multiplir"))


def test_hydras_own_config_is_printed_beside_the_runs(s3bench):
    own = yaml.safe_load(printed(s3bench, *RUN, "+task.download=true", "--cfg", "hydra"))
    assert list(own) == ["hydra"]
    assert own["hydra"]["runtime"]["choices"]["optimizer"] == "adamw"
    both = yaml.safe_load(printed(s3bench, *RUN, "task.download=true", "--cfg", "all", "--resolve"))
    assert {"hydra", "task", "run_id"} <= set(both)


def test_a_sweep_shows_the_config_of_its_first_run(s3bench, tmp_path):
    shown = yaml.safe_load(printed(s3bench, "sweep", "experiment=quickstart", "seed=7,8", "--cfg", "job", "--resolve"))
    assert (shown["names"]["task"], shown["names"]["optimizer"]) == ("digits_deep", "adamw")
    assert (shown["lr_multiplier"], shown["seed"]) == (1, 7)
    assert not list(tmp_path.iterdir())


def test_info_tells_where_the_config_comes_from(s3bench, tmp_path):
    (tmp_path / "configs" / "optimizer").mkdir(parents=True)
    (tmp_path / "configs" / "optimizer" / "mine.yaml").write_text("# Mine\n_target_: torch.optim.SGD\n")
    run = ["run", "optimizer=mine", "seed=3"]
    tree = printed(s3bench, *run, "--info", "defaults-tree")
    assert "    optimizer: mine\n    clip: none\n    schedule: cosine\n" in tree
    assert "optimizer/mine" in printed(s3bench, *run, "--info", "defaults")
    assert f"file://{tmp_path}/configs" in printed(s3bench, *run, "-i", "searchpath")
    everything = printed(s3bench, *run, "--info")
    assert "Installed Hydra Plugins" in everything
    assert "\nseed: 3\n" in everything
    assert (
        "experiment: quickstart\n" in s3bench("sweep", "experiment=quickstart", "--info", "defaults-tree").stdout + "\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--cfg", "yaml"], "invalid choice: 'yaml' (choose from 'job', 'hydra', 'all')"),
        (["run", "--info", "tree"], "invalid choice: 'tree' (choose from 'all', 'config', 'defaults', "),
        (["run", "--cfg", "job", "--info"], "not allowed with argument"),
        (["run", "--resolve"], "--resolve and --package only change what --cfg prints"),
        (["run", "seed=0", "--package", "task"], "--resolve and --package only change what --cfg prints"),
        (["run", "horizon=0", "--cfg", "job"], "horizon is 0; it must be at least 1"),
        (["run", "optimizr=s3", "--info"], "unknown key 'optimizr'"),
        (["run", "experiment=quickstart", "--cfg", "job"], "s3bench sweep trains those"),
        (["sweep", "seed=range(0,0)", "--cfg", "job"], "the grid is empty"),
        (["run", "-m", "seed=0,1"], "for several (--multirun) use s3bench sweep"),
        (["run", "seed=0,1", "--multirun"], "for several (--multirun) use s3bench sweep"),
    ],
)
def test_a_mistake_is_reported_on_one_line(s3bench, arguments, said):
    assert said in mistake(s3bench(*arguments))
