"""Tests that the figures of replays can be read."""

import pytest
from matplotlib.text import Text

from s3bench.report.figures.replay_plots import Bar, outcomes


@pytest.mark.parametrize("details", ["warmup=0.05, measure_every=1", ", ".join(["width=64, dropout=0.1"] * 5)])
def test_a_long_title_lies_within_the_figure_and_touches_no_heading(details):
    bars = [Bar(name=name, counts=(16, 0, 0, 1), interval=(0.7, 1.0)) for name in ("same", "clip_coordinates_1")]
    title = f"source_ngram ({details}), adamw: 17 spikes of 7 runs"
    figure = outcomes({title: bars})
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in figure.findobj(Text)}
    assert not boxes[title].overlaps(boxes["vanished [95%]"])
    assert boxes[title].x1 <= figure.bbox.x1
