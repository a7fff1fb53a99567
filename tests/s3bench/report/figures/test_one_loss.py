"""The figure of one file's loss: what a spike needs can be seen in it."""

import doctest
import math

import numpy as np
import pytest

from s3bench.report.analysis import spike_bounds
from s3bench.report.analysis.loss_curve import Curve
from s3bench.report.figures.one_loss import one_loss
from s3bench.spikes import find_spikes


def drawn(loss, **labels):
    """Draw a loss; return the axes."""
    bounds = spike_bounds.spike_bounds(loss)
    spikes = find_spikes(loss)
    peaks = [(spike.peak, float(loss[spike.peak])) for spike in spikes]
    curve = Curve(steps=np.arange(len(loss)), loss=loss, trend=bounds.level, peaks=peaks)
    names = {"title": "a", "xlabel": "epoch", "ylabel": "loss"} | labels
    figure = one_loss(curve, bounds, [(spike.onset, spike.end) for spike in spikes], **names)
    figure.draw_without_rendering()
    return figure.axes[0]


def noisy(around, spread, peaks):
    loss = around + spread * np.random.default_rng(0).standard_normal(1000)
    for step, value in peaks.items():
        loss[step] = value
    return loss


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(("around", "spread", "peaks"), [(2, 0.05, {400: 60, 700: 9}), (2, 4, {400: 250, 700: 60})])
def test_the_axis_holds_the_peaks_and_the_bounds(around, spread, peaks):
    loss = noisy(around, spread, peaks)
    axes = drawn(loss)
    bounds = spike_bounds.spike_bounds(loss)
    assert axes.get_ylim()[1] >= max(np.nanmax(bounds.sufficient), *peaks.values())
    assert not texts(axes)


def test_a_peak_above_the_axis_has_its_value_beside_it():
    loss = noisy(2, 0.05, {200: 1e9, 400: math.inf, 600: math.nan, 800: 1e6, 820: 1e5})
    axes = drawn(loss)
    assert sorted(texts(axes)) == ["1e+06", "1e+09", "and 1 more above the axis", "inf", "nan"]
    assert axes.get_ylim()[1] < 1e4
    assert axes.get_xlabel() == "epoch"


@pytest.mark.parametrize("delta", [0.01, 0.1, 1.0])
def test_a_loss_above_the_upper_bound_is_a_spike_and_one_below_the_lower_is_none(delta):
    calm = noisy(2, 0.05, {})[:600]
    bounds = spike_bounds.spike_bounds([*calm, 0], delta=delta)
    for height, count in ((bounds.sufficient[-1] * 1.0001, 1), (bounds.sufficient[-1] * 0.9999, 0)):
        assert len(find_spikes([*calm, height, *calm[:20]], delta=delta)) == count
    longer = [bounds.necessary[-1] + bounds.sufficient[-1] - bounds.level[-1]] * 50
    for first, onset in ((bounds.necessary[-1] * 1.0001, 600), (bounds.necessary[-1] * 0.9999, 601)):
        assert find_spikes([*calm, first, *longer], delta=delta)[0].onset == onset


def test_the_bounds_of_the_docstring():
    assert doctest.testmod(spike_bounds) == doctest.TestResults(failed=0, attempted=2)
