"""The detector: curves whose spikes are known."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3bench.spikes import Spike, find_spikes, has_diverged


def falling(steps=1000, noise=0.03, seed=0):
    """A power law with noise: no spike."""
    rng = np.random.default_rng(seed)
    return 1 + 3 * (np.arange(steps) + 10.0) ** -0.3 + noise * rng.standard_normal(steps)


def test_a_spike_in_a_steep_fall_is_seen():
    loss = np.geomspace(1, 0.03, 101)
    loss[60] += 1
    assert [(spike.onset, spike.end) for spike in find_spikes(loss)] == [(60, 61)]


def test_a_clean_curve_has_no_spike():
    assert sum(len(find_spikes(falling(seed=seed))) for seed in range(20)) == 0


def test_one_excursion_is_one_spike_with_its_places_and_height():
    loss = falling()
    loss[600:620] += 1.5 * np.linspace(1, 0.4, 20)
    loss[603] += 1
    (spike,) = find_spikes(loss)
    assert (spike.onset, spike.peak, spike.end, spike.kind) == (600, 603, 620, "recovered")
    assert spike.height == pytest.approx(loss[603] - np.median(loss[575:600]))


def test_a_few_steps_are_a_blip_and_close_onsets_are_one():
    loss = falling()
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


def test_a_rise_that_stays_is_a_level_shift_and_the_next_spike_is_seen():
    loss = falling(3000)
    loss[1000:] += 1
    loss[2500] += 1
    assert [(spike.onset, spike.kind) for spike in find_spikes(loss)] == [(1000, "level_shift"), (2500, "blip")]


def test_non_finite_losses_are_a_spike_and_not_skipped():
    loss = falling()
    loss[700:] = np.nan
    (spike,) = find_spikes(loss)
    assert spike == Spike(onset=700, peak=700, end=1000, height=math.inf, kind="diverged")
    loss = falling()
    loss[500] = np.inf
    (spike,) = find_spikes(loss)
    assert (spike.onset, spike.end, spike.height, spike.kind) == (500, 501, math.inf, "blip")
    assert find_spikes([np.nan]) == [Spike(onset=0, peak=0, end=1, height=math.inf, kind="diverged")]


def test_a_curve_that_ends_above_its_start_within_a_spike_diverged():
    loss = falling()
    loss[900:] = 8
    assert [spike.kind for spike in find_spikes(loss)] == ["diverged"]
    loss[900:] = 2.2  # below the first loss of 2.5, but not back
    assert [spike.kind for spike in find_spikes(loss)] == ["level_shift"]


def test_a_spike_is_seen_whatever_the_unit():
    loss = falling()
    loss[400:410] += 1
    (spike,) = find_spikes(loss)
    (scaled,) = find_spikes(loss * 1000, delta=100.0)
    assert (scaled.onset, scaled.end) == (spike.onset, spike.end)
    assert scaled.height == pytest.approx(1000 * spike.height)


def test_short_and_empty_curves():
    assert find_spikes([]) == []
    assert find_spikes([1.0]) == []
    assert find_spikes([1.0, 50.0, 1.0]) == []  # no verdict without a baseline


@pytest.mark.parametrize("parameters", [{"k": 0}, {"delta": -1}, {"window": 4}, {"settle": 0}, {"patience": 1}])
def test_a_parameter_out_of_its_range_raises(parameters):
    with pytest.raises(ValueError, match="needed are"):
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
@given(losses, st.integers(0, 400))
def test_a_finished_spike_does_not_depend_on_what_comes_later(loss, cut):
    whole = [spike for spike in find_spikes(loss, window=20, patience=40) if spike.end + 5 <= cut]
    part = find_spikes(loss[:cut], window=20, patience=40)
    assert part[: len(whole)] == whole


def test_divergence_of_a_whole_run():
    assert not has_diverged(falling())
    assert not has_diverged([])
    assert has_diverged([2.0, 1.0, math.nan])
    assert has_diverged([2.0] + [3.0] * 50)
    assert not has_diverged([2.0, *[3.0] * 50, *[1.0] * 10])
    stuck = 2.3 + 0.05 * np.random.default_rng(0).standard_normal(500)  # at chance, where it began
    assert not has_diverged([2.3, *stuck])


def test_a_high_last_step_is_a_blip_and_a_nan_diverged():
    loss = falling()
    loss[-1] += 9
    assert [(spike.onset, spike.end, spike.kind) for spike in find_spikes(loss)] == [(999, 1000, "blip")]
    loss[-1] = math.nan
    assert [spike.kind for spike in find_spikes(loss)] == ["diverged"]


def test_the_detector_needs_numpy_alone():
    code = "import sys, s3bench.spikes; sys.exit(bool({'torch', 'pandas', 'scipy', 'hydra'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
