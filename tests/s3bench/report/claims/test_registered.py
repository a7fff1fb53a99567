"""Tests configs/claim/: every claim is whole and can be run, and a mistake in one is said."""

import re

import pytest

from s3bench.errors import UserError
from s3bench.report.claims.grades import SHARED_BY
from s3bench.report.claims.measures import FUNCTIONS
from s3bench.report.claims.registered import MEASURES, arm_at, load_claims, rate
from s3bench.run.config.compose import run_config

CLAIM = """# Does S3 end lower than Signum?
statement: S3 ends lower than Signum
effect: the final loss of S3 over that of Signum
measure: loss
limits: {claimed: 0.9, equal: 1.1}
scales:
  laptop: {tasks: [quadratic], horizon: 40}
arms:
  s3: [optimizer=s3]
  s3 2T: [optimizer=s3, horizon=2T]
  signum: [optimizer=signum, horizon=T/4]
primary:
  signum: [s3, signum]
secondary:
  at three times the rate: [s3 at 3 x signum, signum second]
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Return a function that writes configs/claim/mine.yaml and loads it."""
    file = tmp_path / "configs" / "claim" / "mine.yaml"
    file.parent.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def load(text):
        file.write_text(text, encoding="utf-8")
        return load_claims(["mine"])[0]

    return load


def test_every_measure_has_its_function():
    assert {*FUNCTIONS, "bound"} == set(MEASURES)


def test_the_papers_claims_are_there_in_order():
    ids = ["C1", "C2", "C3", "C4", "C5", "C6", "C7", "C7b", "C8", "C8b", "C9", "C10"]
    assert [claim.id for claim in load_claims()] == ids
    assert sum(claim.measure != "bound" for claim in load_claims()) == SHARED_BY


def arm_of(text):
    return arm_at(text).name


@pytest.mark.parametrize("claim", load_claims(), ids=lambda claim: claim.id)
def test_every_claim_can_be_run_at_laptop_scale(claim):
    for task in claim.scales["laptop"].tasks if claim.scales else ():
        for arm in {*claim.tuned(claim.comparisons()), *map(arm_of, claim.trained(claim.comparisons()))}:
            config = run_config([*claim.overrides(arm, "laptop", task), "lr_multiplier=1", "seed=200"])
            assert config.names.task == task
            assert config.task.targets == []


def test_an_arm_expression_names_an_arm_and_its_rate():
    assert vars(arm_at("s3")) == {"name": "s3", "factor": None, "of": None, "second": False}
    assert arm_at("s3 second").second
    assert (arm_at("s3 at 0.3").name, arm_at("s3 at 0.3").factor) == ("s3", 0.3)
    assert (arm_at("s3 2T at 10 x adamw").name, arm_at("s3 2T at 10 x adamw").of) == ("s3 2T", "adamw")
    assert rate("10 x adamw") == (10, "adamw")
    assert rate("s3") is None


def test_what_a_block_trains_and_what_is_tuned_follow_from_the_comparisons(mine):
    claim = mine(CLAIM)
    assert claim.trained(claim.in_block()) == ["s3", "signum"]
    assert claim.trained(claim.secondary) == ["s3 at 3 x signum", "signum second"]
    assert claim.tuned(claim.in_block()) == ["s3", "signum"]
    given = ["task=quadratic", "task.targets=[]"]
    assert claim.overrides("s3", "laptop", "quadratic") == [*given, "optimizer=s3", "horizon=40", "eval_every=40"]
    assert claim.overrides("s3 2T", "laptop", "quadratic")[-2:] == ["horizon=80", "eval_every=80"]
    assert claim.overrides("signum", "laptop", "quadratic")[-1] == "eval_every=10"


def test_the_digest_is_that_of_the_content_and_not_of_the_comments(mine):
    first = mine(CLAIM).digest
    assert mine("# another comment\n" + CLAIM).digest == first
    assert mine(CLAIM.replace("0.9", "0.8")).digest != first
    own, other = load_claims(["steps"], {"OWN": "s3", "OTHER": "adamw"}), load_claims(["steps"], {"OWN": "s3_p1"})
    assert own[0].digest != other[0].digest
    assert own[0].arms["own"] == ["optimizer=s3"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[s3, signum]", "[s3, adam]", "'adam' is not an arm; those are s3, s3 2T, signum"),
        ("3 x signum", "3 x adam", "'adam' is not an arm"),
        ("claimed: 0.9", "claimed: 0.95", "claimed is"),
        ("measure: loss\n", "", "its keys must be among arms, control, effect"),
        ("measure: loss", "measure: los", "its measure must be one of loss, steps"),
        ("effect:", "efect:", "its keys must be among arms, control, effect"),
        ("claimed: 0.9", "claimed: -1", "the limits of a ratio (loss) must be above 0"),
        ("statement: S3", "statement: [", "mine.yaml is not a claim"),
    ],
)
def test_a_mistake_in_a_claim_is_one_line(mine, old, new, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        mine(CLAIM.replace(old, new))
    assert "\n" not in str(error.value)


def test_an_unknown_claim_is_said():
    with pytest.raises(UserError, match="unknown claim 'C99'"):
        load_claims(["C99"])
