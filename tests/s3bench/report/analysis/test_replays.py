"""What became of a spike in the arms of a replay, on hand-made losses."""

import math

import numpy as np
import pytest

from s3bench import record
from s3bench.errors import UserError
from s3bench.report import replay_table
from s3bench.report.analysis.replays import arm_table, read_replays, spike_table
from s3bench.run.config.compose import identified, run_config
from s3bench.run.config.schema import ReplayConfig, as_dict
from tests.records import summary

ONSET, STEP, HORIZON = 200, 180, 400
DETECTOR = "task.spikes={k: 6.0, delta: 0.1}"


def curve(bumps, length=HORIZON):
    """Return losses of 1, with bumps: height by step; each lasts four steps."""
    loss = 1 + 0.01 * np.cos(np.arange(length))
    for step, height in bumps.items():
        loss[step : step + 4] += height
    return loss


def write(results, loss, *overrides, replay=None, sizes=True, state="finished"):
    """Write a record with these losses; return its config."""
    config = run_config(["task=quadratic", "optimizer=adamw", f"horizon={HORIZON}", DETECTOR, *overrides])
    config.results_dir = str(results)
    if replay is not None:
        config.results_dir, config.replay = str(results / "replays"), replay
        config = identified(config)
    settings = as_dict(config)
    folder = record.plan(settings)
    with record.Writer(folder, settings) as writer:
        rows = [{"step": t, "loss": float(value), "lr": 0.1, "grad_norm": 1.0} for t, value in enumerate(loss)]
        if sizes:
            rows = [{**row, "update_rms": 0.5, "update_max": 2.0 + row["step"]} for row in rows]
        writer.add_steps(rows)
        writer.add_eval({"step": 0, "loss": 1.0, "distance": 1.0})
        writer.finish(summary(state, len(loss)))
    return config


def arm(results, run, name, loss, onset=ONSET, until=350, **more):
    """Write the record of an arm of a run."""
    replay = ReplayConfig(run=run.run_id, arm=name, onset=onset, step=onset - 20, until=until)
    return write(results, loss[:until], f"seed={run.seed}", replay=replay, **more)


@pytest.mark.parametrize(
    ("loss", "outcome", "height", "begins"),
    [
        (curve({}), "vanished", 0, None),
        (curve({370: 5}), "vanished", 0, None),  # after the window
        (curve({203: 0.9}), "smaller", 0.9, 203),
        (curve({190: 0.9, 240: 0.9}), "smaller", 0.9, 190),
        (curve({240: 0.9}), "smaller", 0.9, 240),
        (curve({221: 1.1}), "delayed", 1.1, 221),
        (curve({220: 1.1}), "persisted", 1.1, 220),
        (curve({200: 2.0}), "persisted", 2.0, 200),
        (curve({200: 0.5, 260: 2.0}), "persisted", 2.0, 200),
        (curve({190: 7.0}), "persisted", 7.0, 190),
        (np.append(curve({})[:205], math.nan), "persisted", math.inf, 205),
        (np.append(curve({})[:260], math.inf), "persisted", math.inf, 260),
    ],
)
def test_what_becomes_of_a_spike(tmp_path, loss, outcome, height, begins):
    run = write(tmp_path, curve({ONSET: 2.0}))
    state = "finished" if np.isfinite(loss).all() else "diverged"
    arm(tmp_path, run, "half_lr", loss, state=state)
    (replay,) = read_replays(tmp_path)
    (one,) = replay.arms
    assert (one.outcome, one.window.begins) == (outcome, begins)
    assert one.window.height == pytest.approx(height, abs=0.03)
    assert (replay.window.begins, replay.step, replay.onset) == (ONSET, STEP, ONSET)
    assert replay.window.height == pytest.approx(2, abs=0.03)
    assert one.is_exact == np.array_equal(loss, curve({ONSET: 2.0}))


def test_an_excursion_from_before_the_departure_that_never_ends_is_no_vanished_spike(tmp_path):
    loss = curve({ONSET: 2.0})
    loss[170:185] += 3  # an earlier spike is under way when the arm departs
    run = write(tmp_path, loss)
    stuck = loss.copy()
    stuck[170:] = 4 + 0.5 * np.sin(np.arange(HORIZON - 170))
    arm(tmp_path, run, "tenth_lr", stuck)
    calm = loss.copy()
    calm[200:204] -= 2
    arm(tmp_path, run, "half_lr", calm)
    (replay,) = read_replays(tmp_path)
    assert {one.name: (one.outcome, one.window.begins) for one in replay.arms} == {
        "tenth_lr": ("persisted", 170),
        "half_lr": ("vanished", None),
    }
    assert replay.window.begins == ONSET


def test_a_diverged_runs_spike_is_infinitely_high(tmp_path):
    run = write(tmp_path, np.append(curve({})[:ONSET], math.nan), state="diverged")
    arm(tmp_path, run, "same", np.append(curve({})[:ONSET], math.nan), state="diverged")
    arm(tmp_path, run, "half_lr", curve({210: 100.0}))
    (replay,) = read_replays(tmp_path)
    assert [(one.name, one.outcome, one.is_exact) for one in replay.arms] == [
        ("same", "persisted", True),
        ("half_lr", "smaller", False),
    ]
    assert math.isinf(replay.window.height)
    assert arm_table([replay]).end_loss_ratio.isna().all()  # over an infinite loss


def test_judge_yaml_says_what_a_spike_is_in_the_run_and_in_its_arms(tmp_path):
    run = write(tmp_path, curve({ONSET: 2.0}))
    arm(tmp_path, run, "half_lr", curve({ONSET: 0.9}))
    (tmp_path / "judge.yaml").write_text("quadratic: {spikes: {k: 6.0, delta: 1.5}}")
    (replay,) = read_replays(tmp_path)
    assert replay.is_of_spike
    assert (replay.arms[0].outcome, replay.arms[0].window.height) == ("vanished", 0)  # else: smaller
    (tmp_path / "judge.yaml").write_text("quadratic: {spikes: {k: 6.0, delta: 3.0}}")
    (replay,) = read_replays(tmp_path)
    assert not replay.is_of_spike


def test_windows_hold_the_steps_around_the_onset_and_end_at_the_horizon(tmp_path):
    run = write(tmp_path, curve({25: 2.0, 380: 3.0}), sizes=False)
    arm(tmp_path, run, "same", curve({25: 2.0}), onset=25, until=175)
    arm(tmp_path, run, "same", curve({25: 2.0, 380: 3.0}), onset=380, until=HORIZON, sizes=False)
    early, late = read_replays(tmp_path)
    assert (early.window.first, len(early.window.loss)) == (0, 175)
    assert (late.window.first, len(late.window.loss)) == (340, 60)
    assert np.isnan(late.window.update_rms).all()
    assert len(late.window.update_max) == 60
    (measured,), (unmeasured,) = early.arms, late.arms
    assert list(measured.window.update_max) == [2.0 + step for step in range(175)]
    assert np.isnan(unmeasured.window.update_max).all()
    assert early.window.begins == 25
    assert late.window.begins == 380
    assert measured.is_exact
    assert unmeasured.is_exact
    assert unmeasured.window.end_loss == np.median(curve({380: 3.0})[-10:])


def test_tables_count_spikes_with_their_exact_interval(tmp_path):
    for seed, bump in enumerate([0.0, 0.0, 0.0, 2.0]):
        run = write(tmp_path, curve({ONSET: 2.0}), f"seed={seed}")
        arm(tmp_path, run, "same", curve({ONSET: 2.0}))
        arm(tmp_path, run, "placebo", curve({ONSET: 2.1}))
        arm(tmp_path, run, "half_lr", 0.5 * curve({ONSET: 2 * bump}))
    replays = read_replays(tmp_path)
    assert [[one.name for one in replay.arms] for replay in replays] == [["same", "placebo", "half_lr"]] * 4
    table = arm_table(replays).set_index("arm")
    half = table.loc["half_lr"]
    assert (half.task, half.optimizer, half.n, half.runs) == (replays[0].task, "adamw", 4, 4)
    assert (half.vanished, half.smaller, half.delayed, half.persisted) == (3, 0, 0, 1)
    assert half.share == 0.75
    low, high = half.share_low, half.share_high  # Clopper and Pearson: where 3 or more, 3 or fewer of 4 have 2.5%
    assert 4 * low**3 * (1 - low) + low**4 == pytest.approx(0.025)
    assert 1 - high**4 == pytest.approx(0.025)
    assert half.end_loss_ratio == pytest.approx(0.5)
    assert (half.exact, table.loc["same"].exact, table.loc["placebo"].exact) == (0, 4, 0)
    assert table.loc["same"].end_loss_ratio == 1
    assert (table.loc["same"].share, table.loc["same"].share_low) == (0, 0)
    assert table.loc["same"].share_high == pytest.approx(1 - 0.025 ** (1 / 4))
    spikes = spike_table(replays)
    assert len(spikes) == 12
    assert list(spikes[spikes.arm == "half_lr"].outcome) == ["vanished", "vanished", "vanished", "persisted"]
    assert arm_table([]).empty
    assert list(arm_table([]).columns) == list(arm_table(replays).columns)
    assert spike_table([]).empty
    assert list(spike_table([]).columns) == list(spikes.columns)


def test_two_spikes_of_one_run_are_two_replays(tmp_path):
    run = write(tmp_path, curve({100: 2.0, ONSET: 3.0}))
    for onset in (100, ONSET):
        arm(tmp_path, run, "half_lr", curve({100: 2.0} if onset == ONSET else {}), onset=onset, until=onset + 90)
    replays = read_replays(tmp_path)
    assert [(replay.onset, replay.arms[0].outcome) for replay in replays] == [(100, "vanished"), (ONSET, "vanished")]
    (row,) = arm_table(replays).itertuples()
    assert (row.n, row.runs) == (2, 1)


def test_two_records_of_one_arm_for_one_spike_are_refused(tmp_path):
    run = write(tmp_path, curve({ONSET: 2.0}))
    for noise in (1e-6, 1e-5):  # as if its YAML file was changed in between
        replay = ReplayConfig(run=run.run_id, arm="mine", onset=ONSET, step=STEP, until=350, noise=noise)
        write(tmp_path, curve({})[:350], replay=replay)
    with pytest.raises(UserError, match="are the same arm for the same spike; move one of them away"):
        read_replays(tmp_path)


def test_arms_that_are_not_over_and_arms_of_a_run_that_is_gone_do_not_count(tmp_path, capsys):
    assert read_replays(tmp_path) == []
    replay_table.show(tmp_path)
    assert capsys.readouterr().out == ""
    run = write(tmp_path, curve({ONSET: 2.0}))
    made = arm(tmp_path, run, "same", curve({ONSET: 2.0}))
    gone = arm(tmp_path, run, "half_lr", curve({}))
    (tmp_path / "replays" / gone.run_id / "summary.json").unlink()
    write(tmp_path / "replays", curve({}), "seed=5")  # no arm
    (replay,) = read_replays(tmp_path)
    assert [one.name for one in replay.arms] == ["same"]
    replay_table.show(tmp_path)
    assert "same" in capsys.readouterr().out
    (tmp_path / run.run_id).rename(tmp_path / "elsewhere")
    assert read_replays(tmp_path) == []
    assert made.replay.until == 350
