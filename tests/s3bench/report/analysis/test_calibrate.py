"""The calibration of the detector: quiet on calm runs, and no duller than that needs."""

import numpy as np
import pytest

from s3bench import record
from s3bench.errors import UserError
from s3bench.report.analysis.calibrate import PER_10K, calibrate, calibrate_tasks
from s3bench.report.stats.rates import poisson_interval
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from s3bench.spikes import find_spikes


def calm(seed, steps=2000, bump=0.0):
    """A fall with a little noise; with a bump a hundred steps in, of some height."""
    random = np.random.default_rng(seed)
    loss = 1 + 2 * (np.arange(steps) + 10.0) ** -0.3 + 0.005 * random.standard_normal(steps)
    loss[100:106] += bump
    return loss


def test_calm_runs_are_given_the_most_sensitive_pair():
    found = calibrate([calm(seed) for seed in range(16)])
    assert found is not None
    assert (found.k, found.delta, found.spikes, found.steps, found.runs) == (6, 0.1, 0, 32_000, 16)
    assert 0.1 <= found.threshold < 0.11  # δ, as 6 σ is about 0.03
    assert 0.04 <= found.ceiling <= 0.1  # twice the noise's largest, or δ


def test_what_calm_runs_show_sets_the_threshold():
    losses = [calm(seed, bump=0.45) for seed in range(16)]  # the task's own; six steps high
    found = calibrate(losses)
    assert found is not None
    assert 0.85 <= found.ceiling <= 1.0
    assert found.delta == 0.5  # 0.3 is below the bumps, and no k would have them with less for the other steps
    assert sum(len(find_spikes(loss, k=found.k, delta=found.delta)) for loss in losses) == found.spikes
    assert poisson_interval(found.spikes, found.steps, level=0.9)[1] <= PER_10K


def test_too_few_steps_set_nothing():
    assert calibrate([calm(0)]) is None


def records(folder, losses, **axes):
    """Finished records with these losses."""
    for seed, loss in enumerate(losses):
        given = [f"{key}={value}" for key, value in axes.items()]
        config = as_dict(run_config([f"seed={seed}", f"horizon={len(loss)}", f"results_dir={folder}", *given]))
        with record.Writer(record.plan(config), config) as writer:
            writer.add_steps(
                [{"step": step, "loss": float(x), "lr": 0.1, "grad_norm": 1.0} for step, x in enumerate(loss)]
            )
            writer.add_eval({"step": 0, "loss": 1.0})
            writer.finish({"state": "finished", "steps": len(loss)})


def test_runs_of_different_settings_are_not_calibrated_together(tmp_path):
    records(tmp_path, [calm(seed, 10_000) for seed in range(4)], lr_multiplier=0.3)
    records(tmp_path, [calm(seed, 2000) for seed in range(4)], lr_multiplier=0.1, optimizer="adamw")
    with pytest.raises(UserError, match="runs of quadratic that differ in horizon; calibrate them in separate"):
        calibrate_tasks(tmp_path)


def test_only_runs_at_low_learning_rates_count(tmp_path):
    records(tmp_path, [calm(seed, 10_000) for seed in range(4)], lr_multiplier=0.3)
    records(tmp_path, [calm(seed, bump=50) for seed in range(4)], lr_multiplier=10)
    (found,) = calibrate_tasks(tmp_path).values()
    assert (found.k, found.delta, found.runs) == (6, 0.1, 4)


def test_the_command_prints_the_line_for_the_yaml_or_what_is_missing(s3bench, tmp_path):
    records(tmp_path / "r", [calm(seed, 10_000) for seed in range(3)], lr_multiplier=0.1)
    done = s3bench("calibrate", "r", process=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1] == "spikes: {k: 6, delta: 0.1, ceiling: 0.1} # 0 in 30,000 calm steps"
    records(tmp_path / "few", [calm(0)], lr_multiplier=0.1)
    records(tmp_path / "high", [calm(0)], lr_multiplier=1)
    for folder, said in (
        ("few", "at least 30,000 needed"),
        ("high", "no finished or diverged run at an lr_multiplier"),
    ):
        done = s3bench("calibrate", folder)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert said in done.stderr


def test_too_restless_runs_set_nothing_and_are_said_to_be(tmp_path):
    records(tmp_path, [calm(seed, 10_000, bump=50) for seed in range(3)], lr_multiplier=0.1)
    with pytest.raises(UserError, match=r"even k = 15 and δ = 5 find spikes"):
        calibrate_tasks(tmp_path)
