"""The README, the docs and their like: commands compose, Python blocks run, examples work, links lead somewhere."""

import itertools
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import yaml

from s3bench import catalog
from s3bench.cli import parse
from s3bench.record import decisions
from s3bench.report.claims.decided import shown
from s3bench.report.claims.registered import load_claims
from s3bench.report.figures.captions import NEEDS
from s3bench.run import build
from s3bench.run.config.compose import identified, run_config, typed_config, unresolved_config
from s3bench.run.config.grid import first_point
from s3bench.run.replay.arms import arm_config, find_arms
from s3bench.run.replay.source import find_sources
from scripts import quickstart_cpus, readme_field, simulate_inference, spikes_by_seed
from tasks.models import torchvision_shim  # noqa: F401 (before transformers' models, which snippets import)
from tests.conftest import ROOT
from tests.records import make, make_replayed
from tests.tasks.language import MODEL

ROOT_PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
PAGES = [*(ROOT / name for name in ROOT_PAGES), *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def commands(page):
    text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    lines = [line.split(" #")[0].strip() for line in text.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("s3bench ")]


def place_example_files(page, folder):
    """Write the page's example files, whose first line is their path, into a folder."""
    for block in blocks(page, "yaml") + blocks(page, "python"):
        path = re.match(r"# (\S+\.(?:py|yaml))\n", block)
        if path:
            file = folder / path[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.split("\n", 1)[1], encoding="utf-8")


PARTS = {}  # what was built for any page, by its config: a task takes up to ten seconds


def built_once(build_part, own):
    """Return a function that builds a part of a run unless it was built before, with the same files of one's own."""

    def once(node, *rest, **named):
        if (key := (own, repr(node))) not in PARTS:
            PARTS[key] = build_part(node, *rest, **named)
        return PARTS[key]

    return once


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_understood(page, tmp_path, monkeypatch):
    place_example_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(build, "_build", built_once(build._build, page if any(tmp_path.iterdir()) else None))
    for command in commands(page):
        chosen = parse(command)
        if command[0] == "run":
            config = run_config(chosen.overrides)
        elif command[0] == "sweep":  # its first run; names in a list are checked where they are parsed
            config = identified(typed_config(unresolved_config(first_point(chosen.overrides, chosen.zip))))
        else:
            continue
        if config.names.task == "source_gpt2":  # its encoding takes longest; a smaller one is that of source_gpt
            config.task.build.update(MODEL)
        build.build_parts(config)


@pytest.mark.filterwarnings("ignore:.*srun", "ignore:.*many workers", "ignore:.*logging interval")  # Lightning's hints
@pytest.mark.filterwarnings("ignore:.*pin_memory", "ignore:.*LeafSpec")  # torch's, of no GPU and of Lightning
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "results/quickstart" in "".join(blocks(page, "python")):
        for seed in (0, 1):
            make(Path("results/quickstart"), seed=seed)
    for block in blocks(page, "python"):  # each on its own
        exec(compile(block, page.name, "exec"), {"__name__": "__main__"})


@pytest.mark.slow
def test_the_examples_of_extending_really_run(tmp_path, s3bench):
    page = ROOT / "docs" / "extending.md"
    place_example_files(page, tmp_path)
    for command in commands(page):
        if command[0] in ("run", "sweep", "report"):
            result = s3bench(*command)
            assert result.returncode == 0, result.stdout + result.stderr
    (experiment,) = [block for block in blocks(page, "yaml") if block.startswith("# @package")]
    (tmp_path / "configs" / "experiment").mkdir()
    (tmp_path / "configs" / "experiment" / "two_betas.yaml").write_text(experiment)
    assert "18 runs: 18 finished" in s3bench("sweep", "experiment=two_betas").stdout
    assert "Does Adam need two betas?" in s3bench("list", "experiments").stdout


def anchors(page):
    """The anchors of a page's headings, as a Git host makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_picture_has_a_text_that_says_what_it_shows(page):
    text = page.read_text(encoding="utf-8")
    pictures = re.findall(r"!\[([^\]]*)\]\(", text)
    assert all(len(alt.split()) >= 3 for alt in pictures)
    assert "<img" not in text


@pytest.mark.parametrize("theme", ["basic", pytest.param("furo", marks=pytest.mark.slow)])  # ours takes twice as long
def test_the_docs_build_without_a_warning(tmp_path, theme):
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-D", f"html_theme={theme}"]
    result = subprocess.run([*sphinx, ROOT / "docs", tmp_path / "html"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "find_spikes" in (tmp_path / "html" / "api" / "spikes.html").read_text(encoding="utf-8")


def test_make_help_names_every_target():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    command = ["make", "--no-print-directory", "help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in shown.splitlines()] == targets


def test_the_citation_and_the_changelog_have_the_packages_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert citation["version"] == version
    headings = re.findall(r"^## (\S+)", changelog, flags=re.MULTILINE)
    assert [heading for heading in headings if heading != "Unreleased"][0] == version  # noqa: RUF015


@pytest.mark.parametrize("form", ["new_task", "new_optimizer", "doubtful_verdict"])
def test_every_issue_form_asks_for_the_version(form):
    file = ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml"
    fields = yaml.safe_load(file.read_text(encoding="utf-8"))["body"]
    assert "version" in [field.get("id") for field in fields if field.get("validations") == {"required": True}]


def test_the_hooks_are_tools_of_the_environment():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    for hook in local["hooks"]:
        assert hook["language"] == "system"  # needs no network
        assert Path(sys.executable).with_name(hook["entry"].split()[0]).exists()


def test_the_quickstarts_tables_in_the_docs_are_the_measured_ones():
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    for name in ("overview", "environment"):
        table = (ROOT / "results" / "reference" / "quickstart" / "tables" / f"{name}.md").read_text(encoding="utf-8")
        assert table in page, f"{name}.md and the page differ: copy it in"


def test_what_the_docs_say_of_the_quickstart_holds_however_numbers_are_rounded():
    assert quickstart_cpus.table() in (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    measured = quickstart_cpus.measured()
    assert set(measured.n) == {quickstart_cpus.RUNS} == {4}
    ways = set(measured.rounding)
    assert ways == {"machine_1", "machine_2", "machine_3", "machine_4", "machine_5", "aten", "mkl", "threads", "blas"}
    for way in ways:
        rows = measured[measured.rounding == way].set_index(["optimizer", "task"])
        runs, highest = rows.runs_with_spike, rows.highest
        assert (runs["adamw"] >= 2).all()
        assert (highest["adamw"] >= 2).all()
        assert runs["adamw_95"].sum() > 0
        assert highest["adamw_95"].max() < 1
        assert runs["s3"].sum() <= 2
        assert highest["s3"].max() < 0.6
        assert (runs["stableadamw"] == 4).all()
        assert highest["stableadamw"].min() > 1
        assert runs["signsgd", "source_ngram"] == 4
        assert rows.final_loss_min["signsgd", "source_ngram"] > 1
        others = rows.drop("signsgd", level="optimizer").final_loss_max.unstack().source_ngram
        assert others.max() < 0.5
        low, high = rows.final_loss_min.unstack(), rows.final_loss_max.unstack()
        assert (low.loc["s3"] < high.loc["adamw"]).all()
        assert (low.loc["adamw"] < high.loc["s3"]).all()
    highest = measured.set_index(["rounding", "task", "optimizer"]).highest
    for place, of_s3 in ((("machine_3", "digits_deep"), 0.53), (("machine_5", "source_ngram"), 0.58)):
        assert highest[place]["s3"] == pytest.approx(of_s3, abs=0.005)
        assert highest[place]["s3"] > highest[place]["adamw_95"]
    higher = highest.unstack("optimizer")
    assert (higher["s3"] > higher["adamw_95"]).sum() == 2
    same = [measured[measured.rounding == way].drop(columns="rounding") for way in ("machine_2", "threads", "blas")]
    assert all(table.reset_index(drop=True).equals(same[0].reset_index(drop=True)) for table in same)


def test_the_verdicts_in_readme_and_docs_are_the_measured_ones():
    reference = ROOT / "results" / "reference" / "laptop"
    rows = [line for line in (reference / "claims.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 12
    assert "\n".join(rows) in (ROOT / "docs/claims.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    answers = dict(re.findall(r"^\| (C\w+) \| .* \| ([^|]+) \| [^|]+ \|$", readme, flags=re.MULTILINE))
    claims = json.loads((reference / "claims.json").read_text(encoding="utf-8"))
    limits = {claim.id: shown(claim, claim.region.claimed) for claim in load_claims()}
    assert answers == {one["id"]: one["grade"] for one in claims} | {"C3": "a theorem"}
    for one in claims:
        (row,) = [line for line in readme.splitlines() if line.startswith(f"| {one['id']} | ")]
        if one["id"] == "C3":
            assert f"{one['effect']:.4g}" in row
            continue
        low, high = (f"{math.inf if end is None else end:.3g}" for end in one["interval"])
        assert f"{one['effect']:.3g} [{low}, {high}]" in row
        if (limit := re.search(r"; below ([\d.]*\d)", row)) is not None:
            assert float(limit[1]) == limits[one["id"]]


def test_the_comparison_of_two_optimizers_in_the_readme_is_the_measured_one():
    reference = ROOT / "results" / "reference" / "decide"
    rows = [line for line in (reference / "claims.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 3
    assert "\n".join(rows) in (ROOT / "README.md").read_text(encoding="utf-8")
    claims = {one["id"]: one for one in json.loads((reference / "claims.json").read_text(encoding="utf-8"))}
    assert 1 / claims["stability"]["effect"] == pytest.approx(1 / 5, abs=0.01)
    assert claims["steps"]["interval"][0] > 0.95
    assert claims["spikes"]["effect"] == pytest.approx(1 / 4, abs=0.03)


def test_what_the_docs_say_of_the_verdicts_is_what_they_are():
    reference = ROOT / "results" / "reference" / "laptop"
    claims = {one["id"]: one for one in json.loads((reference / "claims.json").read_text(encoding="utf-8"))}
    found = {name: {f["what"]: f for f in one["findings"]} for name, one in claims.items()}
    for grade, names in (("supported", "C4 C6 C7 C7b C9"), ("contradicted", "C1 C2 C5")):
        assert {claims[name]["grade"] for name in names.split()} == {grade}
    assert claims["C1"]["effect"] == pytest.approx(4 / 3, abs=0.06)
    assert claims["C2"]["effect"] == pytest.approx(0.9, abs=0.03)
    assert claims["C6"]["effect"] == pytest.approx(0.9, abs=0.02)
    assert claims["C10"]["grade"] == "consistent with, and no evidence"
    assert found["C4"]["AdamW itself"]["interval"][1] < 1
    assert claims["C5"]["interval"][0] < 1 < claims["C5"]["interval"][1]
    assert 1 / claims["C4"]["effect"] == pytest.approx(7, abs=0.5)
    assert 1 / claims["C7"]["effect"] == pytest.approx(2.3, abs=0.3)
    assert 1 / claims["C7b"]["effect"] == pytest.approx(80, rel=0.1)
    thresholds = pd.read_csv(reference / "tables" / "thresholds.csv").set_index(["task", "optimizer"]).threshold
    left = [thresholds["digits_mlp", name] for name in ("s3", "adamw", "adamw_same")]
    assert left == pytest.approx([6.2, 9.9, 28], rel=0.015)


def test_where_the_claims_of_the_paper_stand_is_what_was_measured():
    claims = json.loads((ROOT / "results" / "reference" / "laptop" / "claims.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8").split("## Claims")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| C")]
    assert {row[0].strip(): row[-1].strip() for row in rows} == {one["id"]: one["grade"] for one in claims}


def test_the_figures_of_the_paper_are_drawn_by_their_numbers():
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    numbered = {name for name in NEEDS if re.fullmatch(r"fig\d", name)}
    assert set(re.findall(r"`(fig\d)(?:_<task>)?`", page)) == numbered == {"fig2", "fig5", "fig6"}


def test_the_secondary_comparisons_in_the_docs_are_the_measured_ones():
    page = " ".join((ROOT / "docs" / "claims.md").read_text(encoding="utf-8").split())
    claims = json.loads((ROOT / "results" / "reference" / "c5" / "claims.json").read_text(encoding="utf-8"))
    (c5,) = [one for one in claims if one["id"] == "C5"]
    secondary = [finding for finding in c5["findings"] if finding["kind"] == "secondary"]
    assert len(secondary) == 4
    for finding in secondary:
        low, high = finding["interval"]
        assert f"{finding['effect']:.3g} [{low:.3g}, {high:.3g}]" in page


def test_what_was_decided_again_in_the_docs_came_out_so():
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    here, before, *third = (
        {one["id"]: one for one in json.loads((ROOT / "results" / "reference" / name / "claims.json").read_text())}
        for name in ("laptop", "laptop_before", "c5", "c7")
    )
    again = {name: one for found in third for name, one in found.items() if one["n"] and name != "C3"}
    assert set(again) == {"C5", "C7", "C7b", "C9"}
    decided = [name for name, one in here.items() if one["grade"] in ("supported", "contradicted") and name != "C3"]
    assert decided == ["C1", "C2", "C4", "C5", "C6", "C7", "C7b", "C9"]
    for name in decided:
        found = [one for one in (here[name], before[name], again.get(name)) if one is not None]
        assert len({one["grade"] for one in found}) == 1
        ends = [one["interval"] for one in found]
        cells = [
            f"{one['grade']}, {one['effect']:.3g} [{low:.3g}, {high:.3g}]"
            for one, (low, high) in zip(found, ends, strict=True)
        ]
        assert f"| {name} | {' | '.join(cells + ['-'] * (3 - len(cells)))} |" in page
    for one in (here["C7"], again["C7"]):
        (warm,) = [found for found in one["findings"] if found["what"] == "without warm-up"]
        assert f"{warm['effect']:.3g} [{warm['interval'][0]:.3g}, {warm['interval'][1]:.3g}]" in page


def test_the_claims_in_the_docs_are_those_of_the_files():
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    for claim in load_claims():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {claim.id} | ") and "? |" in line]
        assert f" {shown(claim, claim.region.claimed):.4g}" in row
        for task in claim.scales["laptop"].tasks if claim.scales and "as C4" not in row else ():
            assert task in row


def test_blocks_rest_on_seeds_that_nothing_else_has_seen():
    log = decisions.read(ROOT / "results" / "reference" / "laptop")
    blocks = [entry for entry in log if entry["event"] == decisions.BLOCK]
    first = {claim.id: claim.first_seed for claim in load_claims()}
    assert all(block["seed"] >= first[block["claim"]] >= 300 for block in blocks)
    digests = {claim.id: claim.digest for claim in load_claims()}
    assert all(block["digest"] == digests[block["claim"]] for block in blocks)


def test_the_shocks_in_the_docs_are_the_measured_ones():
    page = (ROOT / "docs" / "shocks.md").read_text(encoding="utf-8")
    shocks = pd.read_csv(ROOT / "results" / "reference" / "shock" / "tables" / "shocks.csv")
    late = shocks[(shocks.kind == "gradient") & (shocks.step == 110)]
    assert late.optimizer.nunique() == 7
    for name, rows in late.groupby("optimizer"):
        vision, language = (rows[rows.task.str.startswith(task)].iloc[0] for task in ("digits_vit", "source_gpt"))
        peaks = [f"{row.peak:.2f} [{row.peak_low:.2f}, {row.peak_high:.2f}]" for row in (vision, language)]
        assert f"| `{name}` | {vision.worst_step_then:.2f} | {vision.update_max:.2f} | {' | '.join(peaks)} |" in page
    once = shocks[(shocks.step == 70) & (shocks.kind != "gradient")]
    assert once.kind.nunique() == 8
    for kind, rows in once.groupby("kind"):
        peaks = [
            rows[rows.task.str.startswith(task)].sort_values("optimizer").peak for task in ("digits_vit", "source_gpt")
        ]
        cells = [f"{vision:.2f} / {language:.2f}" for vision, language in zip(*peaks, strict=True)]
        assert f"| `{kind}` | {' | '.join(cells)} |" in page
    assert not shocks.diverged.any()
    tests = pd.read_csv(ROOT / "results" / "reference" / "shock" / "tables" / "shock_tests.csv")
    tests = tests[(tests.kind == "gradient") & (tests.step == 110) & (tests.optimizer == "adamw")]
    assert {f"{p:.3f}" for p in tests[tests.measure == "peak"].p_holm} == {"0.047"}


def shown_thresholds(experiment):
    """Return a table of thresholds, its means, and those of the optimizers on all tasks, which the docs show."""
    page = (ROOT / "docs" / "ramp.md").read_text(encoding="utf-8")
    table = pd.read_csv(ROOT / "results" / "reference" / experiment / "tables" / "thresholds.csv")
    assert (table.n == 4).all()
    assert (table.censored == 0).all()
    means = table.pivot(index="optimizer", columns="task", values="threshold")
    seven = means.dropna()
    assert len(seven) == 7
    for name, row in seven.iterrows():
        assert f"| `{name}` | {' | '.join(f'{value:.3g}' for value in row)} |" in page
    return table, means, seven


def test_the_thresholds_in_the_docs_are_the_measured_ones():
    table, means, seven = shown_thresholds("ramp")
    assert list(seven.columns[seven.loc["s3"] < seven.max()]) == ["digits_mlp"]
    ratios = table[table.optimizer == "s3"].set_index("task")
    assert list(ratios.index[ratios.ratio_low < 1].drop("digits_mlp")) == ["source_gpt"]
    assert (seven.loc["signum"] == seven.min()).all()
    others = means.drop(index=seven.index)[["digits_deep", "source_ngram"]]
    assert len(others) == 16
    assert set(others.index[(others > means.loc["s3", others.columns]).any(axis=1)]) == {"adan", "adan_no_lookahead"}
    checked = table[table.optimizer.isin(seven.index)].check
    assert checked.str.startswith("holds").sum() == 36
    assert checked.str.startswith("misleads").sum() == 6


def test_the_thresholds_on_more_tasks_in_the_docs_are_the_measured_ones():
    table, means, seven = shown_thresholds("ramp_more")
    assert means.shape == seven.shape == (7, 5)
    highest = {"digits_cnn", "glyphs_vit", "source_memorise"}
    assert set(means.columns[means.idxmax() == "s3"]) == highest
    ratios = table.set_index(["optimizer", "task"])
    s3 = ratios.loc["s3"].loc[sorted(highest)]
    assert (s3.ratio_low > 1).all()
    assert (f"{s3.ratio.min():.1f}", f"{s3.ratio.max():.1f}") == ("1.6", "3.8")
    told = ratios[(ratios.ratio_low > 1) | (ratios.ratio_high < 1)].reset_index()
    assert set(told.optimizer[told.task == "digits_memorise"]) == {"signum"}
    assert not (told.task == "glyphs_resnet").any()
    assert means.digits_memorise.idxmax() == "adamw_same"
    misleading = table[table.check.str.startswith("misleads")]
    assert (len(table), len(misleading)) == (35, 4)
    assert set(misleading.task) == {"digits_memorise", "source_memorise"}


def test_what_the_docs_say_of_the_bounds_of_betas_was_measured():
    bounds = pd.read_csv(ROOT / "results" / "reference" / "betas" / "tables" / "bounds.csv", keep_default_na=False)
    share = bounds.own_update / bounds.worst_step_in_run
    assert bounds.n.sum() == 252
    assert share.max() <= 1
    adamw = bounds.optimizer.str.startswith("adamw") & (bounds.beta2 >= bounds.beta1)
    assert share[adamw & bounds["shock"].str.startswith("gradient")].min() > 0.8
    calm = share[adamw & (bounds["shock"] == "none")]
    page = (ROOT / "docs" / "shocks.md").read_text(encoding="utf-8")
    assert f"the largest was at {calm.min():.0%} to {calm.max():.0%}:" in page


def test_the_orders_in_the_docs_are_the_measured_ones():
    table = (ROOT / "results" / "reference" / "orders" / "tables" / "overview.md").read_text(encoding="utf-8")
    assert table in (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("experiment", "task"),
    [
        ("natural", "digits_deep"),
        ("natural", "source_ngram"),
        ("natural", "source_memorise"),
        ("parts", "digits_deep"),
        ("parts", "source_ngram"),
        ("memorise", "digits_memorise (float64_loss=false)"),
        ("memorise", "digits_memorise (float64_loss=true)"),
    ],
)
def test_the_spikes_in_the_docs_are_the_measured_ones(experiment, task):
    assert spikes_by_seed.table(experiment, task) in (ROOT / "docs" / "natural.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", simulate_inference.TABLES)
def test_the_simulated_error_rates_in_the_docs_are_the_measured_ones(name):
    assert simulate_inference.table(name) in (ROOT / "docs" / "inference.md").read_text(encoding="utf-8")


def test_the_field_and_the_replays_in_the_docs_are_the_measured_ones():
    assert readme_field.table(readme_field.SHOWN) in (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme_field.SHOWN) == 12
    assert readme_field.table() in (ROOT / "docs" / "field.md").read_text(encoding="utf-8")
    reference = ROOT / "results" / "reference"
    for experiment, table, page in (("field", "field", "docs/field.md"), ("natural", "replay", "docs/replay.md")):
        measured = (reference / experiment / "tables" / f"{table}.md").read_text(encoding="utf-8")
        assert measured in (ROOT / page).read_text(encoding="utf-8")


def test_what_the_docs_say_of_the_field_was_measured():
    field = readme_field.measured()
    total = field.groupby("optimizer")[["spikes_best", "burden_best", "steps_best"]].sum()
    spikes, burden = total.spikes_best, total.burden_best
    assert set(field.n) == {2}
    assert set(total.steps_best) == {16_000}
    assert len(field.index.unique("optimizer")) == 23 + 7
    bounded = ["adamw (clip=UpdateCoordinates)", "adamw (clip=UpdateRMS)", "adamw (clip=Value)"]
    assert [*spikes[bounded], spikes["adamw"]] == [12, 10, 8, 8]
    assert spikes.nsmallest(5).to_dict() == {"muon": 0, "s3": 0, "adamw_same": 1, "lion": 2, "signum": 2}
    by_task = {name: field[name].unstack() for name in ("spikes_best", "loss_best", "running_time", "step_time")}
    assert (by_task["running_time"].loc["muon"] == by_task["running_time"].min()).all()
    assert by_task["loss_best"].digits_deep.idxmin() == "muon"
    assert 3 <= by_task["step_time"].loc["muon"].min() <= by_task["step_time"].loc["muon"].max() < 4.5
    earlier = pd.read_csv(ROOT / "results" / "reference" / "s3_kernel" / "field.csv").set_index("task")
    assert (earlier.spikes_best.to_dict(), earlier.best_multiplier["digits_deep"]) == (
        {"digits_deep": 6, "source_ngram": 0},
        3,
    )
    assert earlier.burden_best.sum() / burden["adamw"] == pytest.approx(1 / 20, rel=0.1)
    threefold = field.groupby("optimizer").spikes_x3.sum()
    assert [threefold["s3"], threefold["adamw"]] == [10, 8]
    assert bool(field.loc[("s3", "source_ngram"), "edge"])
    ratio = field.threshold.unstack()
    ratio = (ratio / ratio.loc["adamw"]).min(axis=1)
    assert set(ratio.index[ratio > 2]) == {"adan", "adan_no_lookahead", "s3", "s3_p2", "adamw_same"}
    made_against_spikes = by_task["spikes_best"].loc[["stableadamw", "spam"]]
    assert (made_against_spikes > by_task["spikes_best"].loc["adamw"]).all(axis=None)
    assert (spikes[["stableadamw", "spam"]] / spikes["adamw"]).between(3, 4).all()
    clips = [f"adamw (clip={name})" for name in ("AGC", "AdaGC", "ZClip", "GlobalNorm")]
    assert spikes[clips].between(4, 9).all()
    assert (burden[clips] / burden["adamw"] < 0.12).all()


def test_the_readmes_example_finds_what_it_shows(s3bench, tmp_path):
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "loss.csv", tmp_path / "docs")
    shown = s3bench("spikes", "docs/loss.csv", "--plot", "spikes.png").stdout
    assert f"```\n{shown}```" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "spikes.png").exists()


@pytest.mark.parametrize(
    ("page", "measured", "heading", "count"),
    [
        ("optimizers", "optimizers_cpu", "17M: ", 17),
        ("optimizers", "optimizers_cpu", "0.9M: ", 17),
        ("optimizers", "optimizers_cpu", "small: ", 17),
        ("optimizers", "optimizers_gpu", "124M: ", 13),
        ("tasks", "gpu", "# Training on a GPU", 13),
    ],
)
def test_the_costs_in_the_docs_are_the_measured_ones(page, measured, heading, count):
    text = (ROOT / "results" / "reference" / "bench" / f"{measured}.md").read_text(encoding="utf-8")
    lines = text[text.index(heading) :].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    table = list(itertools.takewhile(lambda line: line.startswith("|"), lines[first:]))
    assert len(table) == count
    assert "\n".join(table) in (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")


def test_the_results_of_gpt2_in_the_docs_are_the_measured_ones():
    overview = (ROOT / "results" / "reference" / "gpu" / "tables" / "overview.md").read_text(encoding="utf-8")
    assert overview in (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")


def test_the_docs_name_every_optimizer_and_task():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for group in ("optimizer", "task"):
        for name in catalog.choices(group):
            assert f"`{name}`" in page


def test_the_docs_say_what_each_arm_changes():
    page = (ROOT / "docs" / "replay.md").read_text(encoding="utf-8")
    section = page.split("## The arms")[1].split("\n## ")[0]
    table = next(part for part in section.split("\n\n") if part.startswith("| arm |"))
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == {
        file.stem for file in (ROOT / "configs" / "arm").glob("*.yaml")
    }


def test_the_arms_of_ones_own_in_the_docs_change_what_they_say(tmp_path, monkeypatch):
    place_example_files(ROOT / "docs" / "replay.md", tmp_path)
    monkeypatch.chdir(tmp_path)
    make_replayed(tmp_path / "results")
    (source,) = find_sources(tmp_path / "results", None, None)
    (episode,) = source.episodes
    arms = find_arms(["smaller_betas", "two_thirds_lr"])
    betas, lr = (arm_config(source, episode, name, file) for name, file in arms.items())
    assert betas.optimizer["betas"] == [0.8, 0.9]
    assert betas.optimizer["_target_"] == source.config.optimizer["_target_"]
    assert (lr.lr_multiplier, lr.replay.state) == (0.667, "fresh")
    assert catalog.about(arms["smaller_betas"]) == "Adam forgets faster: β1 becomes 0.8, β2 becomes 0.9"
