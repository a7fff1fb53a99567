"""The baseline: many calm steps at once give what they give one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3bench.spikes import SpikeMonitor, windows


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("window", [20, 90])
def test_online_gives_the_same_as_offline_where_the_level_rises_slowly(seed, window):
    rng = np.random.default_rng(seed)
    rise, noise = rng.uniform(0, 4), (0.003, 0.03)[seed % 2]
    at, steps = rng.integers(300, 4000), np.arange(6000)
    loss = 2 + rise * np.clip((steps - at) / rng.integers(200, 3000), 0, 1) * (steps < at + rng.integers(500, 4000))
    loss += noise * np.round(rng.standard_normal(6000), 1)
    one, other = SpikeMonitor(window=window), SpikeMonitor(window=window)
    found = [spike for value in loss.tolist() if (spike := one.add(value)) is not None]
    assert other.extend(loss) == found
    states = [monitor.state_dict()["baseline"] for monitor in (one, other)]
    for name in ("count", "tails", "levels", "look_steps", "rises", "sigma"):
        assert states[0][name] == states[1][name]


@given(st.lists(st.floats(-1, 1).map(lambda value: round(value, 1)), min_size=70, max_size=200), st.integers(1, 70))
def test_sliding_medians_are_those_of_a_sorted_window(values, width):
    window = windows.SortedWindow()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "AT_ONCE", 50)
        medians = windows.sliding_medians(np.array(values), width)
    for at, value in enumerate(values):
        window.add(value, width)
        if at >= width - 1:
            assert medians[at - width + 1] == window.median()
