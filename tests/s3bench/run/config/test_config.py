"""Tests configs: what overrides mean, which are refused, and when two runs are the same run."""

import itertools

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from s3bench import catalog
from s3bench.errors import UserError
from s3bench.run import build
from s3bench.run.build import build_parts
from s3bench.run.config import grid
from s3bench.run.config.compose import identified, run_config, typed_config, unresolved_config
from s3bench.run.config.grid import first_point, run_configs
from tests.conftest import mistake
from tests.tasks.language import overrides


@pytest.mark.usefixtures("image_data")
@pytest.mark.parametrize(
    "group",
    [  # test_tasks.py builds every task, and test_configs.py every optimizer
        *(pytest.param(group, marks=pytest.mark.slow) for group in ("task", "optimizer")),
        *("clip", "schedule", "tracker"),
    ],
)
def test_every_config_composes_and_builds(group):
    for name in catalog.choices(group):
        config = run_config([f"{group}={name}", *overrides(name)])
        assert getattr(config.names, group) == name
        build_parts(config)


@pytest.mark.parametrize("name", catalog.choices("experiment"))
def test_every_experiment_composes_and_its_first_comment_is_its_command(name):
    fixed, axes = grid._parse_grid([f"experiment={name}"])  # which checks all names
    for at in (0, -1):
        assert identified(
            typed_config(unresolved_config([*fixed, *(setting for axis in axes for setting in grid._values(axis)[at])]))
        )
    lines = catalog.choices("experiment")[name].read_text(encoding="utf-8").splitlines()
    assert lines[1] == f"# s3bench sweep experiment={name}"


@pytest.mark.slow
@pytest.mark.parametrize("name", catalog.choices("experiment"))
def test_every_run_of_every_experiment_composes(name):
    assert run_configs([f"experiment={name}"])


@pytest.mark.parametrize("group", catalog.GROUPS)
def test_every_config_begins_with_a_comment_that_describes_it(group):
    assert all(catalog.about(file) for file in catalog.choices(group).values())


def test_the_quickstart_covers_its_tasks_optimizers_and_seeds():
    configs = run_configs(["experiment=quickstart"])
    cells = {(c.names.task, c.names.optimizer, c.lr_multiplier, c.seed) for c in configs}
    assert len(configs) == len(cells) >= 40
    for task in ("digits_deep", "source_ngram"):
        for optimizer in ("adamw", "adamw_95", "s3", "signsgd", "stableadamw"):
            assert {(task, optimizer, 1, seed) for seed in range(4)} <= cells


def test_a_scale_gives_an_experiment_other_tasks():
    one = ["experiment=tuned", "seed=0", "lr_multiplier=1"]
    laptop, gpu = (run_configs([*one, *scale]) for scale in ([], ["scale=gpu"]))
    assert {c.names.task for c in laptop} == {"digits_vit", "source_gpt"}
    assert {c.names.task for c in gpu} == {"cifar10_resnet18", "source_gpt2"}
    assert {c.scale for c in laptop} == {"laptop"}
    assert {c.scale for c in gpu} == {"gpu"}
    assert {c.names.optimizer for c in laptop} == {c.names.optimizer for c in gpu}


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["laptop", "gpu", "paper"])
def test_every_claims_experiment_has_three_scales(scale):
    for name in ("tuned", "half_steps", "ten_times", "same_beta", "update_size", "ablation", "rate", "lr_sensitivity"):
        configs = run_configs([f"experiment={name}", f"scale={scale}", "lr_multiplier=1"])
        assert len({c.seed for c in configs}) >= 6


def test_experiments_that_share_a_folder_train_a_cell_once():
    tuned, sensitivity = (
        {c.run_id for c in run_configs([f"experiment={name}", "results_dir=results/both"])}
        for name in ("tuned", "lr_sensitivity")
    )
    assert len(tuned & sensitivity) == 240


def test_a_grid_spans_all_combinations_in_order():
    configs = run_configs(["task=quadratic", "optimizer=s3,adamw", "lr_multiplier=1,10", "seed=range(0,3)"])
    got = [(c.names.optimizer, c.lr_multiplier, c.seed) for c in configs]
    assert got == [(o, m, s) for o in ("s3", "adamw") for m in (1.0, 10.0) for s in (0, 1, 2)]
    assert len({c.run_id for c in configs}) == 12


def test_the_command_line_replaces_axes_of_an_experiment():
    configs = run_configs(["experiment=quickstart", "seed=7", "optimizer=s3,signum"])
    assert {c.seed for c in configs} == {7}
    assert {c.names.optimizer for c in configs} == {"s3", "signum"}
    assert {c.results_dir for c in configs} == {"results/quickstart"}


def test_the_learning_rates_are_those_of_the_task_and_the_horizon_follows_it():
    config = run_config(["task=source_gpt"])
    assert config.horizon == config.task.horizon
    assert run_config(["task=source_gpt", "horizon=5"]).horizon == 5


SAME = ["results_dir=elsewhere", "data_dir=elsewhere", "device=cpu", "tracker=wandb", "optimizer.p=3"]
SAME += ["workers=2", "task.download=true"]
OTHER = [
    "seed=1",
    "lr_multiplier=2",
    "optimizer.p=3.5",
    "optimizer=s3_p2",
    "schedule=linear",
    "horizon=99",
    "task.lr=1",
]
OTHER += [
    "task.build.width=64",
    "clip=global_norm",
    "measure_every=7",
    "eval_every=9",
    "threads=2",
    "schedule.warmup=0.1",
]
OTHER += ["decay=matrices"]


@pytest.mark.parametrize("override", [*SAME, "task.targets=[]", "task.spikes.k=9"])
def test_a_setting_that_cannot_change_the_result_does_not_change_the_run_id(override):
    base = ["task=source_gpt"]
    assert run_config([*base, override]).run_id == run_config(base).run_id


@pytest.mark.parametrize("override", OTHER)
def test_a_setting_that_can_change_the_result_changes_the_run_id(override):
    base = ["task=source_gpt"]
    assert run_config([*base, override]).run_id != run_config(base).run_id


def test_the_same_cell_asked_for_twice_is_one_run():
    assert len(run_configs(["seed=0,0,1", "optimizer.p=3,3.0"])) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task=quadrtic", "unknown task 'quadrtic'. Did you mean quadratic\\? Choose from: .*digits_vit, "),
        ("optimizer=adamv", "unknown optimizer 'adamv'. Did you mean adam"),
        ("experiment=quickstrat", "unknown experiment 'quickstrat'. Did you mean quickstart\\?"),
        ("schedule=cosin", "Did you mean cosine\\?"),
        ("tracker=wandbb", "Did you mean wandb\\?"),
        ("optimzer=s3", "unknown key 'optimzer'. Did you mean optimizer\\?"),
        ("optimizer.bta=0.9", "unknown key 'optimizer.bta'. Did you mean optimizer.beta\\?"),
        ("optimizer.maximize=true", "; \\+optimizer.maximize=VALUE adds an argument that its YAML lacks"),
        ("task.build.dimm=3", "Did you mean task.build.dim\\?"),
        ("seed.x=3", "unknown key 'seed.x'"),
        ("lr_multiplier=abc", "lr_multiplier=abc: it must be of the same type as 1.0"),
        ("lr_multiplier=0", "lr_multiplier is 0.0; it must be a number above 0"),
        ("lr_multiplier=inf", "lr_multiplier is inf; it must be a number above 0"),
        ("seed=-1", "seed is -1; it must be from 0 to"),
        ("seed=1.5", "seed=1.5: .*Integer"),
        ("seed=null", "seed=null"),
        ("horizon=0", "horizon is 0; it must be at least 1"),
        ("measure_every=0", "measure_every is 0"),
        ("accumulate=0", "accumulate is 0; it must be at least 1"),
        ("stop_diverged=0", "stop_diverged is 0; it must be at least 1"),
        ("checkpoint_every=0", "checkpoint_every is 0.0; it must be a number above 0"),
        ("task.lr=-1", "task.lr is -1.0; it must be a number above 0"),
        ("workers=-1", "workers is -1; it must be from 0 to 1024"),
        ("parallel=dpp", "unknown parallel 'dpp'. Did you mean ddp\\? Choose from: ddp, fsdp2"),
        ("task.targets=x", "task.targets=x: it must be a list, such as"),
        ("clip_norm=1", "unknown key 'clip_norm'. Did you mean clip"),
        ("clip=globl_norm", "unknown clip 'globl_norm'. Did you mean global_norm\\?"),
        ("clip.max_norm=1", "unknown key 'clip.max_norm'"),
        ("~clip._target_", "clip has no _target_"),
        ("decay=matrix", "unknown decay 'matrix'. Did you mean matrices\\? Choose from: all, matrices"),
        ("decay=1", "decay=1: it must be of the same type as 'all'"),
        ("optimizer.p=x", "optimizer.p=x: it must be of the same type as 3.0"),
        ("optimizer.nesterov=3", "optimizer.nesterov=3: it must be of the same type as True"),
        ("task.targets=[{metric: loss}]", "it must be {metric, at_most} or {metric, at_least}"),
        ("task.targets=[{metric: loss, at_most: abc}]", "must be a finite number"),
        ("~optimizer._target_", "optimizer has no _target_"),
        ("seed", "'seed' is not an override"),
        ("seed=[", "is not an override"),
        ("seed=0,1", "s3bench sweep trains those"),
        ("experiment=quickstart", "s3bench sweep trains those"),
        ("names.task=x", "names.task is set automatically and cannot be overridden"),
        ("run_id=x", "run_id is set automatically and cannot be overridden"),
        ("code=x", "code is set automatically and cannot be overridden"),
        ("launcher.jobs=0", "launcher.jobs is 0; it must be null or a positive integer"),
        ("launcher.jobs=many", "launcher.jobs is 'many'; it must be null or a positive integer"),
        ("launcher.jobs=1.5", "launcher.jobs is 1.5; it must be null or a positive integer"),
        ("launcher.runs_per_gpu=0", "launcher.runs_per_gpu is 0; it must be a positive integer"),
        ("launcher.runs_per_gpu=true", "launcher.runs_per_gpu is True; it must be a positive integer"),
        ("seed=99999999999999999999", "it must be from 0 to 9223372036854775807"),
        ("threads=9999999999", "threads is 9999999999; it must be from 1 to 1024"),
        ("~tracker._target_", "tracker has no _target_"),
    ],
)
def test_a_mistake_is_reported_on_one_line_with_what_is_allowed(override, message):
    with pytest.raises(UserError, match=message) as caught:
        run_config([override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule.warmup=-1.0"], "warmup is -1.0; it must be from 0 to 1"),
        (["schedule.final=-1.0"], "final is -1.0; it must be above 0"),
        (["~optimizer._partial_"], "optimizer s3: its YAML lacks _partial_: true; the run sets lr and params itself"),
        (["+optimizer.lr=3"], "optimizer s3: lr is set by the run and cannot be given"),
        (["optimizer=adam", "optimizer.betas=[0.9]"], "optimizer adam: "),
        (["optimizer._target_=torch.nn.Identity", "~optimizer.p"], "not a torch.optim.Optimizer"),
        (["optimizer.p=0.5"], "optimizer s3: p is 0.5; it must be at least 1"),
        (["+optimizer.betta=1"], "unknown argument of optimizer s3 'betta'. Did you mean beta\\?"),
        (["optimizer._target_=torch.optim.Adan"], "cannot import its _target_ torch.optim.Adan"),
        (["clip=global_norm", "clip.max_norm=-1"], "clip global_norm: max_norm is -1; it must be a number above 0"),
        (["clip=global_norm", "clip.max_norm=nan"], "clip global_norm: max_norm is nan; it must be a number above 0"),
        (["clip=zclip", "clip.warmup_steps=0"], "warmup_steps is 0; it must be a whole number, 1 or more"),
        (["clip=adagc", "clip.beta=1.0"], "clip adagc: beta is 1.0; it must be from 0 to below 1"),
        (["clip=update_rms", "clip.over=layer"], "clip update_rms: over is 'layer'; it must be tensor or all"),
        (["clip._target_=torch.nn.Identity"], "clip none: its _target_ returns a Identity, which lacks methods of"),
        (["schedule.warmup=x"], "it must be of the same type as 0.02"),
        (["+task.spikes.windw=3"], "unknown key of task.spikes .windw.. Did you mean window"),
        (["task.spikes={k: x}"], "task.spikes.k is .x.; it must be a number"),
        (["task.spikes.k=-1"], "task.spikes: k -1"),
        (["tracker=wandb", "tracker.mode=onlin"], "tracker.mode is 'onlin'; it must be offline or online"),
    ],
)
def test_a_mistake_that_shows_when_building_is_reported_on_one_line_too(overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        build_parts(run_config(overrides))
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named_with_the_extra_that_installs_it(monkeypatch):
    monkeypatch.setattr(build, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"optimizer lion needs pytorch_optimizer, .*: pip install 's3bench\[zoo\]'"):
        build_parts(run_config(["optimizer=lion"]))


class Passing(torch.optim.SGD):
    """Passes on the arguments that it does not name."""

    def __init__(self, params, lr, **kwargs):
        super().__init__(params, lr=lr, **kwargs)


def test_an_argument_that_a_class_passes_on_must_be_one_of_its_base_class():
    own = ["optimizer=sgd", f"optimizer._target_={__name__}.Passing"]
    build_parts(run_config(own))
    with pytest.raises(UserError, match=r"'dampning'. Did you mean dampening\?"):
        build_parts(run_config([*own, "+optimizer.dampning=0.1"]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=0,1", "seed=2"], "seed is given twice"),
        (["data_dir=???"], r"data_dir=\?\?\?: a value is missing"),
        (["seed=range(0,0)"], "the grid is empty"),
        (["clip=range(0,1000000000)"], "unknown clip"),
        (["clip=shuffle(range(0,1000000000))"], "unknown clip"),
        (["seed=range(0,1,0)"], "a range's numbers must be finite and its step not 0"),
        (["seed=range(0,1e999)"], "a range's numbers must be finite and its step not 0"),
        (["seed=sort(range(0,1,1e-400))"], "a range's numbers must be finite and its step not 0"),
        (["seed=range(nan,1)"], "a range's numbers must be finite and its step not 0"),
        (["seed=choice(choice(1,2),3)"], "has no list of values; give one: 1,2,3"),
        (["seed=interval(0,1)"], "has no list of values; give one: 1,2,3"),
        (["experiment=quickstart,quickstart"], "only one experiment can be chosen at a time"),
        (["results_dir=a,b"], "have the same run_id, but differ in settings"),
        (["task.spikes.k=4,6"], "have the same run_id, but differ in settings"),
        (["launcher=local,local"], "launcher=local,local: launcher must be the same for the whole sweep"),
        (["launcher.jobs=1,2"], "launcher.jobs must be the same for the whole sweep"),
        (["retries=range(0,2)"], "retries must be the same for the whole sweep"),
        (["fail_fast=true,false"], "fail_fast must be the same for the whole sweep"),
        (["experiment=tuned", "scale=laptop,gpu"], "scale must be the same for the whole sweep"),
        ([f"seed={'9' * 5_000}"], "is not an override such as lr_multiplier=10"),
        (["experiment=tuned", "scale={a: 1}"], "unknown scale .*Choose from: gpu"),
        (["experiment=tuned", "scale=gqu"], "unknown scale 'gqu'. Did you mean gpu\\?"),
        (["experiment=quickstart", "scale=gpu"], "only an experiment can have scales, and quickstart has none"),
        (["scale=gpu"], "only an experiment can have scales, and adhoc has none"),
        (["+foo=1"], "unknown key 'foo'.* Choose from: .*horizon"),
        (["optimizer.bta=0.9,0.95"], "unknown key 'optimizer.bta'. Did you mean optimizer.beta\\?"),
    ],
)
def test_an_impossible_grid_is_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        run_configs(overrides)


def test_a_users_configs_are_found_whatever_the_folders_name(tmp_path, monkeypatch):
    folder = tmp_path / "a b, c'd ü"
    (folder / "configs" / "optimizer").mkdir(parents=True)
    own = folder / "configs" / "optimizer" / "mine.yaml"
    own.write_text("# Mine\n_target_: torch.optim.SGD\n_partial_: true\n")
    monkeypatch.chdir(folder)
    assert run_config(["optimizer=mine"]).optimizer["_target_"] == "torch.optim.SGD"
    own.with_name("broken.yaml").write_text("a: [")
    with pytest.raises(UserError, match="optimizer=broken: "):
        run_config(["optimizer=broken"])
    own.rename(own.with_name("s3.yaml"))
    with pytest.raises(UserError, match="has the name of one of s3bench's own"):
        run_config(["optimizer=s3"])


def test_each_folder_has_yamls_of_its_own(tmp_path, monkeypatch):
    for number in (1, 2):
        file = tmp_path / str(number) / "configs" / "optimizer" / "mine.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(f"# Mine\n_target_: torch.optim.SGD\n_partial_: true\nmomentum: 0.{number}\n")
        monkeypatch.chdir(tmp_path / str(number))
        assert run_config(["optimizer=mine"]).optimizer["momentum"] == number / 10


AXES = {
    "seed": ["0", "1", "17"],
    "lr_multiplier": ["1", "0.3", "1e1"],
    "horizon": ["50", "60", "'${task.horizon}'"],
    "optimizer": ["s3", "adamw"],
    "schedule": ["cosine", "constant"],
    "task.lr": ["0.01", "1", "'${lr_multiplier}'"],
    "task.horizon": ["70", "80"],
    "task.build.seed": ["5", "'${horizon}'"],
    "task.build.dim": ["8", "'${seed}'", "16"],
    "task.build": ["{_target_: tasks.quadratic.Quadratic, seed: 3}", "{_target_: tasks.x.Y, seed: '${seed}'}"],
    "schedule.warmup": ["0.1", "0", "'${task.lr}'"],
    "clip": ["none", "global_norm"],
    "clip.max_norm": ["1", "2.5"],
    "decay": ["all", "matrices"],
    "compile": ["true", "false"],
    "+task.build.extra": ["1", "'a ${seed} b'"],
    "+schedule.of": ["'${task.build}'", "'${oc.env:HOME,${seed}}'", "'${schedule.${decay}}'"],
    "results_dir": ["one", "'results/${seed}'"],
    "optimizer._target_": ["optimizers.S3", "torch.optim.AdamW"],
}


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.data())
def test_a_grid_gives_the_same_configs_as_its_points_one_by_one(data):
    axes = {
        key: data.draw(st.lists(st.sampled_from(AXES[key]), min_size=1, max_size=3, unique=True))
        for key in data.draw(st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=5, unique=True))
    }
    axes = dict(sorted(axes.items(), key=lambda axis: len(axis[1]) > 1))  # single values are set first
    assert spanned(axes) == one_by_one(axes)


def spanned(axes):
    """Return the runs of a grid in order, or the error's message."""
    try:
        configs = run_configs([f"{key}={','.join(values)}" for key, values in axes.items()])
    except UserError as error:
        return "two settings" if "have the same run_id, but differ in settings" in str(error) else str(error)
    return [(config.run_id, config) for config in configs]


def one_by_one(axes):
    """Return the same, each run composed on its own."""
    configs = {}
    for point in itertools.product(*axes.values()):
        try:
            config = run_config([f"{key}={value}" for key, value in zip(axes, point, strict=True)])
        except UserError as error:
            return str(error)
        if configs.setdefault(config.run_id, config) != config:
            return "two settings"
    return list(configs.items())


def test_a_value_on_which_more_than_copies_depends_is_composed():
    configs = run_configs(["seed=3,4", "results_dir='of/${seed}'", "+task.build.twice='${seed}${seed}'"])
    assert [config.results_dir for config in configs] == ["of/3", "of/4"]
    assert [config.task.build["twice"] for config in configs] == ["33", "44"]
    assert [config.task.build["seed"] for config in configs] == [3, 4]


def test_a_list_may_have_null_before_or_after_a_number():
    for values in ("null,0.9", "0.9,null"):
        configs = run_configs([f"optimizer.denominator_beta={values}", "seed=0,1"])
        assert {config.optimizer["denominator_beta"] for config in configs} == {None, 0.9}


def test_a_million_runs_are_counted_before_any_is_composed(monkeypatch):
    def refuse(*_):
        raise AssertionError("composed")

    experiment = ["experiment=quickstart", "seed=range(0,1000000000000)"]
    with pytest.raises(UserError, match=r"this grid has 10,000,000,000,000 runs; to start more than 20,000, add --yes"):
        run_configs(experiment, max_runs=20_000)
    monkeypatch.setattr("s3bench.run.config.reuse.unresolved_config", refuse)
    with pytest.raises(UserError, match="this grid has 1,000,000 runs; to start more than 20,000, add --yes"):
        run_configs(["seed=range(0,1000)", "lr_multiplier=range(1,11,0.01)"], max_runs=20_000)
    monkeypatch.undo()
    assert len(run_configs(["seed=range(0,30)", "lr_multiplier=range(1,2,0.1)"], max_runs=300)) == 300


def test_zipped_lists_are_gone_through_together_and_the_others_are_crossed():
    grid = [
        "lr_multiplier=1,10",
        "task=quadratic,digits_mlp",
        "seed=range(0,2)",
        "horizon=100,200",
        "decay=all,matrices",
    ]
    configs = run_configs(grid, zipped=[["horizon", "task"], ["seed", "decay"]])
    points = [(c.lr_multiplier, c.names.task, c.horizon, c.seed, c.decay) for c in configs]
    pairs = itertools.product((1, 10), (("quadratic", 100), ("digits_mlp", 200)), ((0, "all"), (1, "matrices")))
    assert points == [(multiplier, *task, *seed) for multiplier, task, seed in pairs]
    first = identified(typed_config(unresolved_config(first_point(grid, [["horizon", "task"], ["seed", "decay"]]))))
    assert first == configs[0]


def test_a_list_of_an_experiment_can_be_zipped(s3bench):
    line = ["sweep", "experiment=quickstart", "task=quadratic,digits_mlp", "horizon=100,200", "--zip", "task,horizon"]
    assert len(run_configs(line[1:4], zipped=[["task", "horizon"]])) * 2 == len(run_configs(line[1:4]))
    shown = s3bench(*line, "--dry-run")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"{len(run_configs(line[1:3]))} runs in" in shown.stdout
    assert "horizon: 100" in s3bench(*line, "--cfg", "job").stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--zip", "task,seed"], "the lists of --zip must have the same number of values: task has 2, seed has 3"),
        (
            ["--zip", "task,horzon"],
            "unknown list in --zip 'horzon'. Did you mean horizon? Choose from: horizon, seed, task",
        ),
        (["--zip", "task,lr_multiplier"], "unknown list in --zip 'lr_multiplier'. Choose from: horizon, seed, task"),
        (["--zip", "task"], "argument --zip: 'task' does not name several keys, such as task,horizon"),
        (["--zip", "task,"], "argument --zip: 'task,' does not name several keys, such as task,horizon"),
        (["--zip", "task,task"], "--zip names task twice"),
        (["--zip", "task,horizon", "--zip", "horizon,task"], "--zip names horizon twice"),
    ],
)
def test_a_mistake_in_zip_is_one_line(s3bench, options, said):
    grid = ["task=quadratic,valley", "horizon=10,20", "seed=0,1,2", "lr_multiplier=10"]
    assert said in mistake(s3bench("sweep", *grid, *options))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("seed: range(0,0)", "the grid is empty"),
        ("seed: []", r"seed=\[\]: it must be of the same type as 0"),
        ("seed:", "experiment=mine: .*hydra.sweeper.params.seed"),
        ("optimzer: s3,adamw", "unknown key 'optimzer'. Did you mean optimizer\\?"),
        ("optimizer: s3,adamv", "unknown optimizer 'adamv'. Did you mean adam"),
        ("task.biuld.dim: 2,3", "unknown key 'task.biuld.dim'. Did you mean task.build\\?"),
        ("launcher.jobs: 1,2", "launcher.jobs=1,2: launcher.jobs must be the same for the whole sweep"),
        ("retries: 0,1", "retries must be the same for the whole sweep"),
        ("code: a,b", "code is set automatically and cannot be overridden"),
    ],
)
def test_an_experiment_with_an_impossible_grid_is_reported_on_one_line(tmp_path, monkeypatch, grid, message):
    (tmp_path / "configs" / "experiment").mkdir(parents=True)
    text = f"# @package _global_\n# s3bench sweep experiment=mine\nhydra:\n  sweeper:\n    params:\n      {grid}\n"
    (tmp_path / "configs" / "experiment" / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        run_configs(["experiment=mine"])
    assert "\n" not in str(caught.value)


def test_a_mistyped_key_or_value_gets_a_suggestion():
    for override, said in {
        "experimnt=quickstart": "Did you mean experiment",
        "results_dir=": "results_dir is empty",
        "results_dir=results/é": "must be quoted: key='\"value\"'",
    }.items():
        with pytest.raises(UserError, match=said):
            run_configs([override])
    assert run_config(['results_dir="results/é"']).results_dir == "results/é"
