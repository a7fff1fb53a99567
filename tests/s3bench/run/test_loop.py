"""The training loop records what really happened."""

import itertools
import math

import numpy as np
import pytest
import torch

from optimizers.clipping import Clip, GlobalNorm
from s3bench import record
from s3bench.run import row_buffer
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from s3bench.run.divergence import EarlyStop
from s3bench.run.learner import Learner
from s3bench.run.loop import train
from s3bench.run.one_run import run


class Line:
    """A task with one parameter w and without noise: loss = (w - 3)²."""

    def __init__(self, bad_step=None):
        self.bad_step = bad_step

    def model(self):
        return torch.nn.Linear(1, 1, bias=False)

    def batches(self, start_step):
        for step in itertools.count(start_step):
            yield (torch.tensor([[math.nan if step == self.bad_step else 1.0]]),)

    def loss(self, model, batch):
        return (model(batch[0]) - 3).pow(2).mean()

    def evaluate(self, model):
        assert not model.training
        return {"loss": (model.weight.item() - 3) ** 2}


class Never:
    """Checkpoints that are never due."""

    def is_due(self, step):
        return False


def run_line(task=None, horizon=10, optimizer=torch.optim.SGD, **arguments):
    task = task or Line()
    model = task.model()
    torch.nn.init.zeros_(model.weight)
    steps, evals = [], []
    settings = {"first_step": 0, "horizon": horizon, "eval_every": 4, "measure_every": 3, "clip": Clip()} | arguments
    settings |= {"early_stop": EarlyStop(), "checkpoints": Never()}
    lr = lambda step: 0.1 / (step + 1)  # noqa: E731
    callbacks = {"on_steps": steps.extend, "on_eval": evals.append}
    done = train(Learner(task, model), optimizer(model.parameters(), lr=1.0), lr, **settings, **callbacks)
    return done, steps, evals, model


def test_every_recorded_number_is_correct():
    done, steps, evals, model = run_line()
    assert done == 10
    w = 0.0
    for t, row in enumerate(steps):
        gradient = 2 * (w - 3)
        assert row["step"] == t
        assert row["lr"] == pytest.approx(0.1 / (t + 1))
        assert row["loss"] == pytest.approx((w - 3) ** 2, rel=1e-5)  # before update t
        assert row["grad_norm"] == pytest.approx(abs(gradient), rel=1e-5)
        assert ("update_max" in row) == (t % 3 == 0)
        if t % 3 == 0:
            assert row["update_rms"] == row["update_max"] == pytest.approx(abs(gradient), rel=1e-4)
            assert row["update_above_1"] == (abs(gradient) > 1)
            assert row["param_max"] == pytest.approx(w, rel=1e-5)
        w -= row["lr"] * gradient
    assert model.weight.item() == pytest.approx(w, rel=1e-5)
    assert [row["step"] for row in evals] == [0, 4, 8, 10]
    assert evals[0]["loss"] == 9
    assert evals[-1]["loss"] == pytest.approx((w - 3) ** 2, rel=1e-4)


def test_update_rms_and_max_are_over_all_coordinates():
    class Two(Line):
        def model(self):
            return torch.nn.Linear(1, 2, bias=False)

        def loss(self, model, batch):
            return model.weight[0, 0] * 3 + model.weight[1, 0] * 4

        def evaluate(self, model):
            return {"loss": 0.0}

    _, steps, _, _ = run_line(Two(), horizon=1)
    assert steps[0]["update_max"] == pytest.approx(4)
    assert steps[0]["update_rms"] == pytest.approx(math.sqrt((9 + 16) / 2))
    assert steps[0]["grad_norm"] == pytest.approx(5)


def test_clipping_limits_the_gradient_and_the_norm_before_it_is_recorded():
    _, steps, _, model = run_line(horizon=1, clip=GlobalNorm(0.5))
    assert steps[0]["grad_norm"] == pytest.approx(6)
    assert steps[0]["update_max"] == pytest.approx(0.5, rel=1e-4)
    assert model.weight.item() == pytest.approx(0.05, rel=1e-4)


class Averaging(torch.optim.SGD):
    """SGD that is evaluated at the mean of all its points, like a schedule-free optimizer."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        (self.point,) = self.param_groups[0]["params"]
        self.points, self.mode = [0.0], "unset"

    def step(self):
        assert self.mode == "train"
        super().step()
        self.points.append(self.point.item())

    def eval(self):
        self.mode = "eval"
        self.point.data.fill_(sum(self.points) / len(self.points))

    def train(self):
        self.mode = "train"
        self.point.data.fill_(self.points[-1])


def test_an_optimizer_with_modes_is_evaluated_at_its_average_without_disturbing_training():
    _, steps, evals, _ = run_line(optimizer=Averaging)
    _, plain, _, _ = run_line()
    assert steps == plain  # losses and sizes of updates
    w, points = 0.0, [0.0]
    for row in steps:
        w -= row["lr"] * 2 * (w - 3)
        points.append(w)
    for row in evals:
        assert row["loss"] == pytest.approx((np.mean(points[: row["step"] + 1]) - 3) ** 2, rel=1e-4)


def test_evaluations_do_not_disturb_a_schedule_free_optimizer():
    losses, held_out = [], []
    for eval_every in (1, 100):
        optimizer = build_parts(run_config(["optimizer=schedulefree_adamw"])).optimizer
        _, steps, evals, model = run_line(horizon=12, optimizer=optimizer, eval_every=eval_every)
        losses.append([row["loss"] for row in steps])
        held_out.append(evals[-1]["loss"])
        assert all(math.isfinite(row["update_rms"]) for row in steps if "update_rms" in row)
    assert losses[0] == losses[1]
    assert held_out[0] == pytest.approx(held_out[1], rel=1e-5)
    assert held_out[0] != pytest.approx((model.weight.item() - 3) ** 2, rel=1e-4)  # the weights that are trained


@pytest.mark.parametrize("rows", [1, 3, 200])
def test_a_non_finite_loss_ends_the_rows_whatever_the_buffer_holds(monkeypatch, rows):
    monkeypatch.setattr(row_buffer, "MAX_ROWS", rows)
    done, steps, evals, _ = run_line(Line(bad_step=6))
    assert done == 7
    assert [row["step"] for row in steps] == list(range(7))
    assert math.isnan(steps[-1]["loss"])
    assert all(math.isfinite(row["loss"]) for row in steps[:-1])
    assert [row["step"] for row in evals] == [0, 4]


@pytest.mark.parametrize("task", ["quadratic", "digits_vit", "source_gpt"])
@pytest.mark.parametrize("optimizer", ["s3", "adamw"])
def test_the_same_config_gives_the_same_losses_bit_for_bit(tmp_path, task, optimizer):
    tables = []
    for name in ("one", "other"):
        folder = tmp_path / name
        config = run_config([f"task={task}", f"optimizer={optimizer}", "horizon=25", f"results_dir={folder}"])
        assert run(config) == "finished"
        tables.append((record.load_steps(folder / config.run_id), record.load_evals(folder / config.run_id)))
    for one, other in zip(*tables, strict=True):
        assert one.equals(other)
    assert len(tables[0][0]) == 25


def test_the_loss_before_the_first_update_is_the_same_for_every_optimizer(tmp_path):
    first = {}
    for optimizer in ("s3", "adamw", "signsgd"):
        config = run_config(["task=digits_vit", f"optimizer={optimizer}", "horizon=2", f"results_dir={tmp_path}"])
        run(config)
        first[optimizer] = record.load_steps(tmp_path / config.run_id).loss[0]
    assert len(set(first.values())) == 1


def test_the_learning_rate_is_the_product_of_base_rate_multiplier_and_schedule(tmp_path):
    config = run_config(["lr_multiplier=10", "schedule=linear", "horizon=50", f"results_dir={tmp_path}"])
    run(config)
    lr = record.load_steps(tmp_path / config.run_id).lr.to_numpy()
    progress = np.maximum(0, np.arange(50) - 1) / 49
    assert lr == pytest.approx(config.task.lr * 10 * (1 - 0.9 * progress))


def test_a_diverged_run_is_a_result_and_ends_cleanly(tmp_path):
    config = run_config(["task=digits_vit", "lr_multiplier=1e6", "horizon=60", f"results_dir={tmp_path}"])
    assert run(config) == "diverged"
    (row,) = record.load_records(tmp_path).to_dict("records")
    assert row["state"] == "diverged"
    steps = record.load_steps(row["folder"])
    assert row["steps"] == len(steps)


def test_an_error_in_training_fails_the_run_and_names_the_cause(tmp_path):
    targets = "task.targets=[{metric: beauty, at_least: 1}]"
    config = run_config([targets, f"results_dir={tmp_path}"])
    assert run(config) == "failed"
    (row,) = record.load_records(tmp_path).to_dict("records")
    assert row["cause"] == "unknown metric in task.targets 'beauty'. Choose from: distance, loss"
    assert "Traceback" in (row["folder"] / "error.txt").read_text()
    assert run(run_config([f"results_dir={tmp_path}"])) == "finished"  # the same run, corrected
    (row,) = record.load_records(tmp_path).to_dict("records")
    assert row["config"]["task"]["targets"][0]["metric"] == "loss"


@pytest.mark.parametrize("horizon", [216, 400])
def test_a_run_that_is_stopped_at_its_last_step_has_diverged_too(tmp_path, horizon):
    rule = ["task=nonconvex", "optimizer=sgd", "task.lr=0.000001", "schedule=constant", "schedule.warmup=0"]
    rule += ["eval_every=10", "seed=6", "stop_diverged=5", f"horizon={horizon}", f"results_dir={tmp_path}"]
    config = run_config(rule)
    assert run(config) == "diverged"
    assert record.load_record(tmp_path / config.run_id)["steps"] == 216


def test_a_run_that_learns_nothing_has_not_diverged(tmp_path):
    for seed in range(8):
        config = run_config([f"seed={seed}", "lr_multiplier=1e-6", "horizon=200", f"results_dir={tmp_path}"])
        assert run(config) == "finished"


def test_a_run_that_is_over_is_left_as_it_is(tmp_path):
    config = run_config(["horizon=5", f"results_dir={tmp_path}"])
    run(config)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / config.run_id).iterdir()}
    assert run(config) == "finished"
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / config.run_id).iterdir()} == before
