"""docs/remedies.md and the answer of `s3bench spikes` say what was measured."""

import re

import pandas as pd
import pytest

from s3bench.report.answer import MEASURED, REMEDIES
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "remedies.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "results" / "reference"


def replayed(*experiments):
    """Return how many spikes vanished, became smaller, and there were, for each arm."""
    tables = [pd.read_csv(REFERENCE / name / "tables" / "replay.csv") for name in experiments]
    return pd.concat(tables).groupby("arm")[["vanished", "smaller", "n", "runs"]].sum()


def rows(heading):
    """Return the rows of the table below a heading, as lists of cells."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("heading", ["What prevented them", "What hardly helped"])
def test_the_replays_of_the_page_are_the_measured_ones(heading):
    first, second = replayed("natural"), replayed("laptop")
    for _, arm, *counts in rows(heading):
        name = arm.strip("`")
        expected = [f"{first.vanished[name]} of {first.n[name]}", str(first.smaller[name])]
        expected.append(f"{second.vanished[name]} of {second.n[name]}" if name in second.index else "")
        assert counts == expected, arm


def test_every_arm_is_on_the_page():
    shown = {row[1].strip("`") for heading in ("What prevented them", "What hardly helped") for row in rows(heading)}
    assert shown == set(replayed("natural").index) - {"same"}


def test_the_field_of_the_page_is_the_measured_one():
    field = pd.read_csv(REFERENCE / "field" / "tables" / "field.csv").set_index(["optimizer", "task"])
    for _, name, *counts in rows("In whole trainings"):
        expected = []
        for column in ("best", "x3"):
            own = field.loc[name.strip("`")]
            expected.append(f"{own[f'spikes_{column}'].sum():.0f}")
            assert own[f"steps_{column}"].sum() == 16_000
        assert counts == expected, name
    assert set(field.n) == {2}


def test_what_is_said_of_the_replays_is_what_they_gave():
    table = replayed("natural", "laptop")
    assert (replayed("natural").n["same"], replayed("laptop").n["half_lr"]) == (20, 56)
    first = replayed("natural")
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    prevented = f"Of {first.n['half_lr']} such spikes half the learning rate prevented {first.vanished['half_lr']}, S3"
    assert prevented in readme
    assert f"update only {first.vanished['clip_coordinates_1']} (" in readme
    assert first.vanished["s3_fresh"] == first.vanished["s3_watched"] == first.n["s3_fresh"]
    said = [int(number) for number in re.findall(r"\d+", MEASURED)]
    assert said == [table.n["half_lr"], table.vanished["half_lr"], table.vanished["clip_rms_usual"]]
    assert MEASURED.endswith("chance none")
    assert table.vanished["placebo"] == 0
    for text in (MEASURED, PAGE):
        assert f"{table.vanished['half_lr']}" in text
    assert (ROOT / REMEDIES).exists()


def test_the_page_fits_on_two_screens():
    assert len(PAGE.splitlines()) <= 100
