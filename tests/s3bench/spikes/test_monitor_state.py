"""A monitor's saved state: what was saved goes on as if it had never stopped, and nothing else is taken for a state."""

import copy
import io
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s3bench.spikes import SpikeMonitor, find_spikes
from scripts.detector_bed.falling import falling

SMALL = {"window": 20, "patience": 40}


def spikes_of(monitor, losses):
    found = [spike for loss in losses if (spike := monitor.add(loss)) is not None]
    return found, monitor.unfinished(), monitor.onset, str(monitor.level), str(monitor.threshold), str(monitor.proof)


def resumed(monitor, parameters):
    other = SpikeMonitor(**parameters)
    other.load_state_dict(json.loads(json.dumps(monitor.state_dict(), allow_nan=False)))
    return other


def check_cut(losses, cut, parameters):
    whole, first = SpikeMonitor(**parameters), SpikeMonitor(**parameters)
    before = spikes_of(first, losses[:cut])[0]
    assert before == spikes_of(whole, losses[:cut])[0]
    second = resumed(first, parameters)
    assert second.state_dict() == first.state_dict()
    assert spikes_of(second, losses[cut:]) == spikes_of(whole, losses[cut:])
    assert second.state_dict() == whole.state_dict()


pieces = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 3.0, math.nan, math.inf, -math.inf]),  # what is added to the loss
        st.integers(1, 60),  # for how many steps
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(pieces, st.integers(0, 10**6), st.floats(0, 1))
def test_a_resumed_monitor_finds_what_one_that_never_stopped_finds(pieces, seed, part):
    rng = np.random.default_rng(seed)
    shifts = [shift for shift, steps in pieces for _ in range(steps)]
    losses = (2 + 3 / np.sqrt(5 + np.arange(len(shifts))) + 0.02 * rng.standard_normal(len(shifts)) + shifts).tolist()
    check_cut(losses, round(part * len(losses)), SMALL)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 10), st.sampled_from([math.nan, math.inf])), max_size=120), st.integers(0, 120))
def test_so_it_is_of_any_numbers(losses, cut):
    check_cut(losses, min(cut, len(losses)), SMALL)


@pytest.mark.parametrize("cut", [4, 299, 1300, 2601, 4100])
def test_so_it_is_on_a_long_curve_with_slow_rises_and_blocks(cut):
    loss = falling(5100, noise=0.02)
    loss[2600:2605] += 1
    loss[4000:4400] += np.linspace(0, 1, 400)
    loss[4400:] += 1
    loss[5000] = np.nan
    check_cut(loss.tolist(), cut, {})
    whole, first = SpikeMonitor(), SpikeMonitor()
    expected = whole.extend(loss)
    found = first.extend(loss[:cut])
    assert found + resumed(first, {}).extend(loss[cut:]) == expected
    assert len(expected) >= 3


@pytest.mark.parametrize("cut", [350, 399, 400, 401, 402, 403, 404, 420])
def test_so_it_is_where_another_spike_begins_in_a_slow_recovery(cut):
    loss = falling(700)
    loss[200:] += 10 * 0.985 ** np.arange(500)
    loss[400:406] += [0.3, 0.3, 0.3, 0.2, 3, 1]  # above first, and proven at the fifth step
    check_cut(loss.tolist(), cut, {})
    assert [spike.onset for spike in find_spikes(loss)] == [200, 400]


@pytest.mark.parametrize("then", [2.0, 500.0])  # back, or given up after a window
@pytest.mark.parametrize("cut", [1, 2, 4, 15, 24, 25, 110])
def test_so_it_is_where_a_loss_leaves_in_the_first_steps(cut, then):
    calm = (then + 0.01 * np.sin(np.arange(300))).tolist()
    check_cut([2.3, 266.0, 1407.0, 104.0, *calm], cut, {})


def monitor_within_a_spike():
    monitor = SpikeMonitor(ceiling=math.inf)
    for loss in [2.0, 2.1, 1.9] * 40 + [4.0, math.nan]:
        monitor.add(loss)
    return monitor


def test_the_state_is_plain_data_that_torch_loads_without_code():
    state = monitor_within_a_spike().state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == state == json.loads(json.dumps(state, allow_nan=False))


def test_the_state_stays_small():
    monitor = SpikeMonitor()
    monitor.extend(falling(30_000))
    assert len(json.dumps(monitor.state_dict())) < 100_000


def damaged():
    state = monitor_within_a_spike().state_dict()
    for path in (["first"], ["steps"], ["baseline", "sigma"], ["event", "height"], ["digest"], ["event", "is_proven"]):
        for value in (None, "x", 7.25, []):
            other = copy.deepcopy(state)
            inner = other
            for name in path[:-1]:
                inner = inner[name]
            inner[path[-1]] = value
            yield other
            del inner[path[-1]]
            yield other
    for name in ("losses", "tails", "nearest"):
        other = copy.deepcopy(state)
        other["baseline"][name] = other["baseline"][name][:-1] if other["baseline"][name] else [1.0]
        yield other
    yield {**state, "more": 1}
    yield {**state, "parameters": None}
    yield {**state, "baseline": []}


def test_a_damaged_state_is_refused_and_changes_nothing():
    monitor = SpikeMonitor()
    monitor.extend(falling(500))
    before = monitor.state_dict()
    states = list(damaged())
    for state in states:
        with pytest.raises(ValueError, match="the state is damaged: its digest does not fit what it holds"):
            monitor.load_state_dict(state)
    for state in ({}, None, [1], "x"):
        with pytest.raises(ValueError, match="no state of a SpikeMonitor"):
            monitor.load_state_dict(state)
    with pytest.raises(ValueError, match="the state has version 99; this SpikeMonitor reads version 4"):
        monitor.load_state_dict({**before, "version": 99})
    assert monitor.state_dict() == before
    assert len(states) > 50


def test_a_state_of_other_parameters_is_refused_with_what_differs():
    monitor = SpikeMonitor(k=8, delta=0.2)
    before = monitor.state_dict()
    with pytest.raises(ValueError, match=r"other parameters: k 6\.0, here 8\.0, delta None, here 0\.2$"):
        monitor.load_state_dict(monitor_within_a_spike().state_dict())
    assert monitor.state_dict() == before
