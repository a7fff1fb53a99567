"""The scoring of the detector on real curves that two labellers marked; the curves themselves are not here."""

import csv
import random
import re

import numpy as np

from s3bench.spikes import find_spikes
from s3bench.spikes.published_rules import LIGHTNING
from scripts.real_curves.score import HERE, Mark, Truth, by, judge, marks_of, score, truth

CURVES = list(csv.DictReader((HERE / "curves.csv").read_text(encoding="utf-8").splitlines()))


def certain(onset, end=None):
    return Mark(onset, end, True)


def doubtful(onset, end=None):
    return Mark(onset, end, False)


def curve(**bumps):
    """A calm curve of 600 rows with losses raised by 5: `at=(first, last)`."""
    loss = 2 + 0.01 * np.random.default_rng(0).standard_normal(600)
    for first, last in bumps.values():
        loss[first:last] += 5
    return loss


def test_a_true_spike_is_what_both_call_certain_within_ten_rows():
    both = truth([certain(100), certain(300), doubtful(500)], [certain(110), certain(311), certain(500)])
    assert [(one.onset, other.onset) for one, other in both.pairs] == [(100, 110)]
    assert len(both.marks) == 6  # all others are doubtful


def test_a_mark_belongs_to_one_true_spike():
    both = truth([certain(100), certain(105)], [certain(104)])
    assert [(one.onset, other.onset) for one, other in both.pairs] == [(100, 104)]


def test_a_curve_that_one_labeller_finds_full_of_outliers_does_not_count():
    assert not truth([certain(100)], [doubtful(-1)]).counts
    assert truth([certain(100)], []).counts


def test_found_spikes_are_right_doubtful_or_false():
    spikes = find_spikes(curve(a=(200, 203), b=(300, 310), c=(400, 401)))
    assert [spike.onset for spike in spikes] == [200, 300, 400]
    labels = truth([certain(202, 204), doubtful(301, 310), certain(500, 501)], [certain(202, 203), certain(499, 501)])
    right, false = judge(spikes, labels)
    assert right == {0}  # the one at 500 was missed
    assert [spike.onset for spike in false] == [400]


def test_what_begins_within_300_rows_of_a_mark_without_an_end_does_not_count():
    (spike,) = find_spikes(curve(a=(400, 401)))
    for onset, false in ((110, []), (90, [spike])):
        assert judge([spike], Truth([], [doubtful(onset)])) == (set(), false)


def test_a_long_rise_may_be_found_late():
    (spike,) = find_spikes(curve(a=(200, 300)))
    for onset, right in ((192, {0}), (186, set())):
        found, _ = judge([spike], truth([certain(onset, 300)], [certain(onset, 300)]))
        assert found == right


def test_every_curve_has_both_labels_and_the_document_counts_them():
    labels = [marks_of(HERE / f"labels_{number}.csv") for number in (1, 2)]
    assert all(set(marks) == {row["id"] for row in CURVES} for marks in labels)
    document = (HERE.parents[1] / "docs" / "spikes.md").read_text(encoding="utf-8")
    for part, words in (("development", "of the development"), ("held_out", "of the test")):
        truths = [truth(*(marks[row["id"]] for marks in labels)) for row in CURVES if row["part"] == part]
        counted = [one for one in truths if one.counts]
        rows = re.search(rf"\| {words} \| (\d+) \| [\d,]+ \| (\d+) \|", document)
        assert rows
        assert [int(x) for x in rows.groups()] == [len(counted), sum(len(one.pairs) for one in counted)]


def test_the_third_labels_are_of_the_curves_that_the_rule_names():
    labels = [marks_of(HERE / f"labels_{number}.csv") for number in (1, 2, 3)]
    ids = sorted(row["id"] for row in CURVES if truth(*(marks[row["id"]] for marks in labels[:2])).counts)
    assert set(labels[2]) == set(random.Random(0).sample(ids, 120))


def test_the_scores_of_a_folder_are_those_of_its_curves(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.real_curves.score.HERE", tmp_path)
    (tmp_path / "curves.csv").write_text("id,part\nx1,development\nx2,development\nx3,held_out\n")
    for number in (1, 2):
        text = "id,onset,end,certainty\nx1,200,203,certain\nx1,500,501,certain\nx2,-1,,doubtful\nx3,,,none\n"
        (tmp_path / f"labels_{number}.csv").write_text(text)
    for name in ("x1", "x3"):
        losses = curve(a=(200, 203), b=(300, 301))
        np.savetxt(
            tmp_path / f"{name}.csv", np.c_[np.arange(600), losses], delimiter=",", header="step,loss", comments=""
        )
    found = score(tmp_path, None)
    assert (found.curves, found.rows, found.true, found.right, found.false) == (2, 1200, 2, 1, 3)
    assert found.line("all") == "| all | 2 | 1,200 | 2 | 0.250 | 0.500 | 25.00 |"
    third = {"x1": [certain(202), certain(499), doubtful(300), certain(400)]}
    person = score(tmp_path, None, lambda name, _: [mark for mark in third[name] if mark.is_certain], only=third)
    assert (person.curves, person.true, person.right, person.false) == (1, 2, 2, 1)


def test_a_published_definition_is_scored_by_its_events():
    loss = curve()
    loss[[200, 204, 300]] = 2e4
    found = by(LIGHTNING)("x1", loss)
    assert [(mark.onset, mark.end) for mark in found] == [(200, 205), (300, 301)]  # close flags are one event
    assert judge(found, truth([certain(201)], [certain(201)])) == ({0}, [])  # 300 lies within 300 rows of it
    assert judge(found, truth([certain(199, 206)], [certain(201, 206)])) == ({0}, [found[1]])
