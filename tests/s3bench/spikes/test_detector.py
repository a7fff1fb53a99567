"""The detector: curves whose spikes are known."""

import doctest
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3bench.spikes import Spike, SpikeMonitor, baselines, detector, excursion, find_spikes
from s3bench.spikes.divergence import death, has_diverged
from scripts.detector_bed.falling import falling


def test_a_spike_in_a_steep_fall_is_seen():
    loss = np.geomspace(1, 0.03, 101)
    loss[60] += 1
    assert [(spike.onset, spike.end) for spike in find_spikes(loss)] == [(60, 61)]


def test_a_clean_curve_has_no_spike():
    assert sum(len(find_spikes(falling(1000, seed=seed))) for seed in range(20)) == 0


def test_one_excursion_is_one_spike_with_its_steps_and_height():
    loss = falling(1000)
    loss[600:620] += 1.5 * np.linspace(1, 0.4, 20)
    loss[603] += 1
    (spike,) = find_spikes(loss)
    assert (spike.onset, spike.peak, spike.end, spike.kind) == (600, 603, 620, "recovered")
    assert spike.height == pytest.approx(loss[603] - np.median(loss[575:600]))


def test_a_few_steps_are_a_blip_and_close_onsets_are_one():
    loss = falling(1000)
    loss[300] += 1
    loss[500] += 1
    loss[503] += 1
    found = [(spike.onset, spike.end, spike.kind) for spike in find_spikes(loss)]
    assert found == [(300, 301, "blip"), (500, 504, "recovered")]


def test_the_baseline_is_frozen_during_the_spike():
    loss = falling(2000)
    loss[1000:1250] += 1  # longer than the window, which would take it for the new normal
    (spike,) = find_spikes(loss)
    assert (spike.onset, spike.end, spike.kind) == (1000, 1250, "recovered")


def slow_recovery(left):
    """A spike of 10 at step 1000 that comes back slowly, and a second one of 3 at step 1300, where `left` is left."""
    loss = falling(2500)
    away = np.arange(1500)
    loss[1000:] += 10 * np.where(away < 300, left ** (away / 300), left * 0.5 ** ((away - 300) / 30))
    loss[1300:1305] += 3
    return loss


def test_another_spike_in_a_slow_recovery_ends_the_first():
    first, second = find_spikes(slow_recovery(left=0.05))
    assert (first.onset, first.peak, first.end, first.kind) == (1000, 1000, 1300, "recovered")
    assert first.area == pytest.approx(10 * (0.95 / -math.log(0.05)) * 300, rel=0.02)
    assert (second.onset, second.end, second.kind) == (1300, 1305, "recovered")
    assert second.height == pytest.approx(3, rel=0.1)


def test_where_more_than_a_tenth_of_a_spike_is_left_another_hump_is_part_of_it():
    (spike,) = find_spikes(slow_recovery(left=0.15))
    assert (spike.onset, spike.peak) == (1000, 1000)
    assert spike.end > 1305


def test_a_hump_on_the_way_back_from_a_loss_that_is_not_finite_is_part_of_it():
    loss = np.full(2000, 2.0) + 0.01 * np.sin(np.arange(2000.0))
    loss[500:1400] += 6 * np.exp(-np.arange(900) / 250)
    loss[500] = math.nan
    loss[700:704] += 1.5  # where the loss is 2.7 above its level
    (spike,) = find_spikes(loss)
    assert (spike.onset, spike.height, spike.kind) == (500, math.inf, "recovered")


def test_a_higher_hump_soon_after_is_the_same_spike_and_its_peak():
    loss = slow_recovery(left=0.05)
    loss[1080] += 20
    first, second = find_spikes(loss)
    assert (first.onset, first.peak, first.end, second.onset) == (1000, 1080, 1300, 1300)


def test_a_rise_that_stays_is_a_level_shift_and_the_next_spike_is_seen():
    loss = falling(3000)
    loss[1000:] += 1
    loss[2500] += 1
    assert [(spike.onset, spike.kind) for spike in find_spikes(loss)] == [(1000, "level_shift"), (2500, "blip")]


def test_non_finite_losses_are_a_spike_and_not_skipped():
    loss = falling(1000)
    loss[700:] = np.nan
    (spike,) = find_spikes(loss)
    assert spike == Spike(700, 700, 1000, math.inf, "diverged", sigmas=math.inf, area=0.0)
    loss = falling(1000)
    loss[500] = np.inf
    (spike,) = find_spikes(loss)
    assert (spike.onset, spike.end, spike.height, spike.kind) == (500, 501, math.inf, "blip")
    loss[500] = -np.inf
    for calm in (loss, np.where(np.isfinite(loss), 2.0, loss), loss[480:520]):
        (spike,) = find_spikes(calm)
        assert (spike.end - spike.onset, spike.height, spike.kind) == (1, math.inf, "blip")
    assert find_spikes([np.nan]) == [Spike(0, 0, 1, math.inf, "diverged", sigmas=math.inf, area=0.0)]


def test_a_curve_that_ends_above_its_start_within_a_spike_diverged():
    loss = falling(1000)
    loss[900:] = 8
    assert [spike.kind for spike in find_spikes(loss)] == ["diverged"]
    loss[900:] = 2.2  # below the first loss of 2.5, but not back
    assert [spike.kind for spike in find_spikes(loss)] == ["level_shift"]


def test_a_spike_is_seen_whatever_the_unit():
    loss = falling(1000)
    loss[400:410] += 1
    (spike,) = find_spikes(loss)
    (scaled,) = find_spikes(loss * 1000, delta=100.0)
    assert (scaled.onset, scaled.end) == (spike.onset, spike.end)
    assert scaled.height == pytest.approx(1000 * spike.height)


def test_short_and_empty_curves():
    assert find_spikes([]) == []
    assert find_spikes([1.0]) == []
    assert find_spikes([1.0, 50.0, 1.0]) == []  # there is no verdict without a baseline


@pytest.mark.parametrize("parameters", [{"k": 0}, {"delta": -1}, {"window": 4}, {"settle": 0}, {"patience": 1}])
def test_a_parameter_out_of_its_range_raises(parameters):
    with pytest.raises(ValueError, match="these must satisfy"):
        find_spikes([1.0], **parameters)


def test_two_dimensions_raise():
    with pytest.raises(ValueError, match="one-dimensional"):
        find_spikes(np.ones((3, 2)))


losses = st.lists(st.one_of(st.floats(0, 10), st.sampled_from([math.nan, math.inf])), max_size=400)


@settings(max_examples=150, deadline=None)
@given(losses)
def test_spikes_are_ordered_disjoint_and_within_the_curve(loss):
    end = 0
    for spike in find_spikes(loss, window=20, patience=40):
        assert end <= spike.onset <= spike.peak < spike.end <= len(loss)
        assert spike.height > 0
        assert spike.kind in ("blip", "recovered", "level_shift", "diverged")
        end = spike.end


@settings(max_examples=100, deadline=None)
@given(losses)
def test_online_gives_the_same_as_offline(loss):
    assert online(loss, window=20, patience=40) == find_spikes(loss, window=20, patience=40)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(0, 0.99),
    st.sampled_from([0.01, 0.1, 1.0]),
    st.sampled_from([0.5, 2.0, math.inf]),
    st.lists(st.integers(1, 2500)),
)
def test_online_gives_the_same_as_offline_however_a_long_curve_is_cut(seed, correlation, noise, ceiling, cuts):
    rng = np.random.default_rng(seed)
    loss = falling(3000, noise=0.02, seed=seed)
    loss[1:] += noise * np.sqrt(1 - correlation) * np.convolve(rng.standard_t(3, 3000), [1, correlation], "same")[1:]
    for start in rng.integers(10, 3000, 8):
        loss[start : start + rng.integers(1, 400)] += rng.choice([0.2, 0.5, 3, np.inf])
    loss[rng.integers(10, 3000)] = np.nan
    parameters = {"ceiling": ceiling}
    expected = find_spikes(loss, **parameters)
    assert online(loss, **parameters) == expected
    monitor, found = SpikeMonitor(**parameters), []
    for piece in np.split(loss, sorted(cuts)):
        found += monitor.extend(piece)
    last = monitor.unfinished()
    assert found + [last] * (last is not None) == expected


def online(loss, **parameters):
    """Return what a monitor finds step by step."""
    monitor = SpikeMonitor(**parameters)
    found = [spike for value in loss if (spike := monitor.add(value)) is not None]
    last = monitor.unfinished()
    return found + [last] * (last is not None)


def test_a_monitor_knows_the_spike_in_progress():
    monitor = SpikeMonitor()
    monitor.extend(falling(1000))
    assert (monitor.onset, monitor.unfinished()) == (None, None)
    monitor.extend(np.full(10, 9.0))
    assert monitor.onset == 1000
    assert (monitor.unfinished().end, monitor.unfinished().kind) == (1010, "diverged")


@pytest.mark.parametrize(
    "loss",
    [
        np.linspace(3, 2, 1000),
        np.full(1000, 2.0),
        np.arange(1000) % 2 + 2.0,  # two values in turn: the changes are all alike
        5.0 - np.arange(1000) // 250,  # steps down
    ],
    ids=["line", "constant", "alternating", "steps"],
)
def test_a_loss_without_noise_has_no_spike_but_the_added_one(loss):
    assert find_spikes(loss) == []
    loss[400:405] += 20
    (spike,) = find_spikes(loss)
    assert (spike.onset, spike.end, spike.kind) == (400, 405, "recovered")


def test_constant_spiking_counts_as_noise_unless_a_ceiling_is_set():
    rng = np.random.default_rng(0)
    loss = falling(2000)
    high = np.flatnonzero(rng.random(2000) < 0.3)
    loss[high] += rng.exponential(1, len(high))
    assert len(find_spikes(loss)) < 25
    found = find_spikes(loss, ceiling=2)
    inside = np.zeros(2000, dtype=bool)
    for spike in found:
        inside[spike.onset : spike.end] = True
    assert inside[loss > baselines(loss, ceiling=2)[0] + 2][20:].all()
    assert len(found) > 30
    assert find_spikes(falling(2000), ceiling=0.4) == []


@pytest.mark.parametrize("seed", range(6))
def test_a_loss_far_out_of_noise_with_a_heavy_tail_is_a_spike(seed):
    noise = np.random.default_rng(seed).standard_t(3, 5000)
    loss = 3 + 0.1 * np.clip(noise, -6, 6)  # as far as 6 of its scales
    assert find_spikes(loss) == []
    loss[900] = 3 + 0.1 * 16
    assert [spike.onset for spike in find_spikes(loss)] == [900]


def test_a_loss_that_grows_for_thousands_of_steps_has_no_spike():
    rng = np.random.default_rng(0)
    growth = np.exp(np.linspace(0, 2, 6000))
    wander = np.convolve(rng.standard_normal(6050), np.ones(51) / 51, "valid")
    assert find_spikes(0.1 * growth * (1 + 0.1 * wander + 0.01 * rng.standard_normal(6000))) == []


def test_a_spikes_width_area_and_sigmas():
    loss = falling(1000)
    level, sigma = np.median(loss[575:600]), 0.03
    loss[600:620] = level + 1.5
    (spike,) = find_spikes(loss)
    assert spike.width == 20
    assert spike.area == pytest.approx(20 * 1.5)
    assert spike.sigmas == pytest.approx(1.5 / sigma, rel=0.35)  # σ is an estimate from 100 steps


@pytest.mark.parametrize("rise", [100, 400, 800])
def test_a_slow_rise_is_one_spike(rise):
    loss = falling(5000)
    loss[2000 : 2000 + rise] += np.linspace(0, 1, rise)
    loss[2000 + rise : 2300 + rise] += np.linspace(1, 0, 300)
    (spike,) = find_spikes(loss)
    assert abs(spike.onset - 2000) < rise / 3
    assert spike.height == pytest.approx(1, abs=0.15)
    loss[3500:] += 1  # what stays is found too
    assert [spike.kind for spike in find_spikes(loss)] == ["recovered", "level_shift"]


def test_a_loss_that_diverges_and_keeps_creeping_up_is_one_spike():
    rng = np.random.default_rng(0)
    loss = falling(8000)
    since = np.arange(6000)
    loss[2000:] += 10 + np.log1p(since / 50) + 0.05 * rng.standard_normal(6000)
    assert [spike.onset for spike in find_spikes(loss)] == [2000]


def test_losses_rounded_more_coarsely_than_their_noise_are_not_spikes():
    rng = np.random.default_rng(0)
    exact = 20 + np.linspace(0.5, 0, 5000) + 0.02 * rng.standard_normal(5000)
    loss = np.round(8 * exact) / 8  # as a bfloat16 of this size
    assert find_spikes(loss) == []
    loss[3000:3010] += 2
    assert [(spike.onset, spike.end) for spike in find_spikes(loss)] == [(3000, 3010)]


def test_a_level_that_wanders_far_has_few_slow_rises():
    found = 0
    for seed in range(5):
        draws = 0.01 * np.random.default_rng(seed).standard_normal(10_000)
        for step in range(1, 10_000):
            draws[step] += 0.97 * draws[step - 1]
        found += len(find_spikes(2 + draws))
    assert found <= 2


def test_difficult_noise_and_drops_give_at_most_one_spike_in_40_000_steps():
    steps = np.arange(10_000)
    curve = 2 + 3 * (steps + 10.0) ** -0.3 + np.where(steps < 3000, 0.5, np.where(steps < 6000, 0.2, 0))
    found = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        correlated = np.zeros(10_000)
        for step in steps[1:]:
            correlated[step] = 0.9 * correlated[step - 1] + 0.02 * rng.standard_normal()
        growing = 0.05 * (1 + 4 * steps / 10_000) * rng.standard_normal(10_000)
        for noise in (0.05 * rng.standard_normal(10_000), growing, 0.03 * rng.standard_t(5, 10_000), correlated):
            found += len(find_spikes(curve + noise))
    assert found <= 4


@settings(max_examples=100, deadline=None)
@given(losses, st.integers(0, 400))
def test_a_finished_spike_does_not_depend_on_what_comes_later(loss, cut):
    whole = [spike for spike in find_spikes(loss, window=20, patience=40) if spike.end + 5 <= cut]
    part = find_spikes(loss[:cut], window=20, patience=40)
    assert part[: len(whole)] == whole


def test_divergence_of_a_whole_run():
    assert not has_diverged(falling(1000))
    assert not has_diverged([])
    assert has_diverged([2.0, 1.0, math.nan])
    assert has_diverged([2.0] + [3.0] * 50)
    assert not has_diverged([2.69, 2.7, 2.66, 2.72, 2.6, 2.65, 2.58, 2.55, 2.6, 2.71])  # one high last value of ten
    assert not has_diverged([2.303, 2.304])
    assert not has_diverged([2.0, *[3.0] * 50, *[1.0] * 10])
    stuck = 2.3 + 0.05 * np.random.default_rng(0).standard_normal(500)  # at chance, where it began
    assert not has_diverged([2.3, *stuck])
    assert has_diverged([3.0, *np.geomspace(1e9, 1e24, 50), *np.geomspace(1e24, 1e9, 50)])  # on its way down


def test_a_high_last_step_is_a_blip_and_a_nan_diverged():
    loss = falling(1000)
    loss[-1] += 9
    assert [(spike.onset, spike.end, spike.kind) for spike in find_spikes(loss)] == [(999, 1000, "blip")]
    loss[-1] = math.nan
    assert [spike.kind for spike in find_spikes(loss)] == ["diverged"]


def test_the_detector_needs_numpy_alone():
    code = "import sys, s3bench.spikes; sys.exit(bool({'torch', 'pandas', 'scipy', 'hydra'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("module", [detector, excursion], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_hold(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_a_run_is_dead_from_where_its_loss_stays_at_a_guess():
    losses = np.concatenate([np.linspace(2.3, 0.5, 200), np.full(300, 2.3)])
    assert death(losses, 2.3) == 200
    assert death(losses[:250], 2.3) == 250  # not for long enough
    assert death(np.full(300, 2.3), 2.3) == 0
    assert death(np.linspace(2.3, 0.1, 300), 2.3) == 300


def test_a_spike_can_be_built_by_its_five_positions():
    assert Spike(3, 4, 6, 1.0, "blip") == Spike(onset=3, peak=4, end=6, height=1.0, kind="blip")


def test_a_spike_of_a_small_loss_is_found_in_its_own_scale():
    rng = np.random.default_rng(0)
    loss = 0.03 + 0.15 * np.exp(-np.arange(500) / 20) + 6e-4 * rng.standard_normal(500)
    loss[260:275] += np.linspace(0.13, 0.02, 15)
    (spike,) = find_spikes(loss)
    assert (spike.onset, spike.kind) == (260, "recovered")
    assert find_spikes(loss, delta=0.2) == []


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_usual_delta_follows_the_scale_of_large_and_small_losses(scale):
    loss = np.full(400, 2.0 * scale)
    loss[200] += {1e-3: 0.3e-3, 1.0: 0.15, 1e3: 30.0}[scale]  # less than 2δ: a fifth of 2e-3, 0.2, 2% of 2,000
    assert find_spikes(loss) == []
    loss[200] += {1e-3: 0.3e-3, 1.0: 0.15, 1e3: 30.0}[scale]
    assert [spike.onset for spike in find_spikes(loss)] == [200]


def test_what_is_left_of_a_loss_near_zero_is_rounding():
    loss = np.round(np.exp(-np.arange(1000) / 20), 3)
    loss[400:900:7] += 0.002  # two units of the log
    assert find_spikes(loss) == []
    loss[950] = 0.1  # far above what rounding hides
    assert [spike.onset for spike in find_spikes(loss)] == [950]


def test_a_jump_far_beyond_the_noise_is_a_spike_however_near_zero_the_loss_has_fallen():
    rng = np.random.default_rng(0)
    loss = 50 * np.exp(-np.arange(1000) / 60) + 0.008 * np.exp(0.02 * rng.standard_normal(1000))
    loss[800] = 0.03  # 100 σ, but 0.3% of the first loss is 0.15, and two tenths of that 0.03
    assert [spike.onset for spike in find_spikes(loss)] == [800]
    loss[800] = 0.02  # less than two δ of 40 σ
    assert find_spikes(loss) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_log_that_holds_each_value_for_some_steps_has_the_noise_of_its_values(seed):
    rng = np.random.default_rng(seed)
    loss = np.repeat(2 + 0.3 * rng.standard_normal(500), 4)
    loss[1400:1404] += 4
    assert [spike.onset for spike in find_spikes(loss) if spike.onset >= 100] == [1400]  # early it knows few values


def test_zeros_before_the_first_loss_are_no_baseline():
    loss = np.concatenate([np.zeros(1000), 7 + 0.3 * np.random.default_rng(0).standard_normal(1000)])
    assert find_spikes(loss) == []
    loss[1500] += 10
    assert [spike.onset for spike in find_spikes(loss)] == [1500]


def test_the_noise_of_a_loss_that_falls_by_decades_falls_with_it():
    rng = np.random.default_rng(0)
    loss = 10 * np.exp(-np.arange(300) / 30) * (1 + 0.05 * rng.standard_normal(300)) + 1e-3
    assert find_spikes(loss) == []
    loss[150] *= 3  # 0.1 above 0.07, where 0.1 was the noise a hundred steps before
    assert [spike.onset for spike in find_spikes(loss)] == [150]


def test_a_loss_that_rises_steadily_from_the_first_row_has_no_spike_before_it_jumps():
    loss = 54 + 0.2 * np.arange(130)
    assert find_spikes(loss) == []
    loss[100:110] += 20
    assert [spike.onset for spike in find_spikes(loss)] == [100]


def test_a_loss_that_jumps_between_two_decades_from_the_first_row_is_this_noisy():
    rng = np.random.default_rng(0)
    loss = np.where(rng.random(600) < 0.6, 600.0, 6.0) * (1 + 0.1 * rng.standard_normal(600))
    assert find_spikes(loss) == []


def test_a_loss_that_leaves_in_the_first_steps_by_ten_times_and_comes_back_spikes():
    calm = [2.0 + 0.01 * (step % 7) for step in range(200)]
    exploded = [2.3, 266.0, 1407.0, 894.0, 104.0, 9.5, 4.2, 3.1, 2.8, *calm]
    (spike,) = find_spikes(exploded)
    assert (spike.onset, spike.peak, spike.end, spike.kind) == (1, 2, 5, "recovered")
    assert spike.height == 1407.0 - 2.3
    assert [(spike.onset, spike.kind) for spike in find_spikes([2.3, 2.4, 2.4, 25.0, *calm])] == [(3, "blip")]
    exploded[120:125] = [6.0] * 5
    assert [spike.onset for spike in find_spikes(exploded)] == [1, 120]  # and what follows is judged as ever


def test_a_loss_that_grows_from_almost_nothing_does_not_spike_in_the_first_steps():
    rng = np.random.default_rng(0)
    grown = np.concatenate([[1e-3, 0.02], 1.0 + 0.05 * rng.standard_normal(600)])
    assert find_spikes(grown) == []
    left = np.concatenate([[2.3], 260.0 + 5 * rng.standard_normal(600)])
    assert find_spikes(left) == []  # it has diverged: see has_diverged
    grown[300:310] += 3
    assert [spike.onset for spike in find_spikes(grown)] == [300]


def test_noise_that_leaps_by_powers_hardly_ever_begins_with_a_spike():
    early = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        noise = (rng.lognormal(0, 1.5, 200), np.abs(rng.standard_cauchy(200)) + 0.01, rng.gamma(0.3, 1, 200) + 1e-3)
        early += any(spike.onset < 5 for spike in find_spikes(noise[seed % 3]))
    assert early <= 2


def test_a_spike_in_the_first_rows_is_found_from_its_first_row():
    loss = [2.1, 0.62, 0.41, 0.43, 0.42, 0.45, 0.46, 5.4, 14.1, 27.9, 22.8, 2.3, 2.2, *[0.45, 0.43, 0.44, 0.42] * 50]
    (spike,) = find_spikes(loss)
    assert (spike.onset, spike.peak) == (7, 9)


def test_a_spike_on_a_steep_fall_is_found():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        loss = 8 * np.exp(-np.arange(300) / 25) + 2 + 0.03 * rng.standard_normal(300)
        loss[30:34] += 1.2  # the loss falls by 0.1 a step
        assert [(spike.onset, spike.end) for spike in find_spikes(loss)] == [(30, 34)]


@pytest.mark.parametrize(("after", "kind", "end"), [(0, "blip", 148), (1, "blip", 147), (3, "blip", 147)])
def test_a_blip_near_the_end_is_a_blip(after, kind, end):
    rng = np.random.default_rng(0)
    loss = 1 + 0.02 * rng.standard_normal(147 + after if after else 148)
    loss[146:147] += 2
    if not after:
        loss[147] += 2
    (spike,) = find_spikes(loss)
    assert (spike.onset, spike.end, spike.kind) == (146, end, kind)


@pytest.mark.parametrize(("back", "kind"), [(0, "level_shift"), (2, "recovered"), (4, "recovered")])
def test_a_spike_that_is_back_for_two_rows_when_the_curve_ends_has_recovered(back, kind):
    rng = np.random.default_rng(0)
    loss = falling(800) + 3 * np.exp(-np.arange(800) / 10)
    loss[700 : 800 - back] += 1 + 0.01 * rng.standard_normal(100 - back)
    (spike,) = find_spikes(loss)
    assert (spike.onset, spike.end, spike.kind) == (700, 800 - back, kind)


def test_a_rise_before_a_level_shift_is_accepted_is_no_spike_of_its_own():
    steps = np.arange(2500)
    noise = np.where(steps < 600, 0.01, np.where(steps < 900, 0.25, 0.004))
    loss = 1 + 2 * (steps >= 600) + 0.6 * np.clip((steps - 850) / 50, 0, 1)
    loss += noise * np.random.default_rng(0).standard_normal(2500)
    assert [(spike.onset, spike.end) for spike in find_spikes(loss)] == [(600, 900)]


def test_a_level_that_wanders_after_a_shift_is_a_new_level_and_later_spikes_are_found():
    rng = np.random.default_rng(0)
    loss = 2 + 0.03 * rng.standard_normal(2500)
    loss[1000:] += 5 + 0.5 * np.sin(np.arange(1500) / 70)
    loss[2000:2010] += 4
    first, *_, second = [spike for spike in find_spikes(loss) if spike.height > 3]
    assert (first.onset, first.kind, first.end) == (1000, "level_shift", 1300)
    assert (second.onset, second.end, second.kind) == (2000, 2010, "recovered")


def test_a_generators_loss_that_settles_elsewhere_has_not_diverged():
    rng = np.random.default_rng(0)
    loss = np.concatenate([0.7 + 0.02 * rng.standard_normal(300), 3 + 0.3 * rng.standard_normal(1500)])
    loss[1200:1204] += 5
    assert [(spike.onset, spike.kind) for spike in find_spikes(loss)] == [(300, "level_shift"), (1200, "recovered")]


def test_outliers_of_long_ago_do_not_hide_a_spike():
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        loss = 1 + 0.1 * rng.standard_normal(5000)
        loss[:1000] = 1 + 0.07 * rng.standard_t(2, 1000)
        loss[4000] = 3.2
        found += 4000 in [spike.onset for spike in find_spikes(loss)]
    assert found >= 19
