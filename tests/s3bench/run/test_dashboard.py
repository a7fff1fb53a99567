"""Each panel of the dashboard shows what a run really logs, and --json writes what a server receives."""

import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from s3bench.curve_files.wandb_file import read_history
from s3bench.report.claims.registered import load_claims
from s3bench.run.config.compose import run_config
from s3bench.run.one_run import run
from s3bench.run.tracking import PICTURES
from tests.conftest import ROOT
from tests.records import make_arm, make_ramp, make_replayed
from tests.s3bench.report.claims.test_decided import LOSS, add_block
from tests.s3bench.run.fake_wandb import FakeWandb
from tests.s3bench.run.test_tracking import read_back

SCRIPT = ROOT / "scripts" / "wandb_dashboard.py"


def dashboard(*arguments, before=(str(SCRIPT),), **environment):
    """Run the script in a process of its own, without the wandb variables that other tests have set."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return subprocess.run(
        [sys.executable, *before, *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def main():
    """Return the script's function, for what needs no process of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of wandb's packages, while they are imported
        from scripts import wandb_dashboard
    return wandb_dashboard.main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the specification for the experiment adhoc."""
    file = tmp_path_factory.mktemp("dashboard") / "dashboard.json"
    result = dashboard("--experiment", "adhoc", "--json", str(file))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """Return a real offline run with a spike, as wandb reads it back: config, summary, group and history."""
    results = tmp_path_factory.mktemp("results")
    blows_up = ["optimizer=sgd", "task.lr=0.01", "lr_multiplier=400"]
    assert run(run_config(["tracker=wandb", *blows_up, "horizon=100", f"results_dir={results}"])) == "finished"
    (file,) = results.glob("wandb/offline-run-*/*.wandb")
    records = [json.loads(line) for line in read_back(results).splitlines()]
    (group,) = {record["run"]["run_group"] for record in records if record["type"] == "run"}
    summary = json.loads(read_back(results, "--summary"))
    return {**summary, "group": group, "rows": read_history(file)[0]}


def panels(view):
    """Return the panels of a workspace or report, as they are sent."""
    if "section" in view["spec"]:
        return [
            panel for section in view["spec"]["section"]["panelBankConfig"]["sections"] for panel in section["panels"]
        ]
    grids = [block["metadata"] for block in view["spec"]["blocks"] if block["type"] == "panel-grid"]
    return [panel for grid in grids for panel in grid["panelBankSectionConfig"]["panels"]]


def run_sets(view):
    """Return the run sets of a workspace or report: their filters and groupings."""
    if "section" in view["spec"]:
        return view["spec"]["section"]["runSets"]
    return [
        chosen
        for block in view["spec"]["blocks"]
        if block["type"] == "panel-grid"
        for chosen in block["metadata"]["runSets"]
    ]


def config_value(config, path):
    """Return what wandb's path names: a.value.b is b within a."""
    first, value, *rest = path.split(".")
    assert value == "value"
    found = config[first]
    for key in rest:
        found = found[key]
    return found


def check_column(name, logged):
    """Check that a column config:… or summary:… exists and has one value."""
    kind, _, key = name.partition(":")
    value = config_value(logged["config"], key) if kind == "config" else {"summary": logged["summary"]}[kind][key]
    assert isinstance(value, int | float | str)


@pytest.mark.parametrize("kind", ["workspace", "report"])
def test_every_line_is_logged_together_with_its_axis(made, logged, kind):
    lines = [panel["config"] for panel in panels(made[kind]) if panel["viewType"] == "Run History Line Plot"]
    for line in lines:
        metrics = line["metrics"]
        if "metricRegex" in line:
            metrics = [key for row in logged["rows"] for key in row if re.fullmatch(line["metricRegex"], key)]
            assert {"eval/loss", "eval/distance"} == set(metrics)
        assert metrics
        for name in metrics:
            axis, metric = (re.sub(r"^spikes/\d+/", "spikes/1/", key) for key in (line["xAxis"], name))
            places = [row.get(axis) for row in logged["rows"] if metric in row]
            assert len(set(places) - {None}) == len(places) > 1, (axis, metric)
    shown = {name for line in lines for name in line["metrics"]}
    assert shown >= {f"train/{name}" for name in ("loss", "loss_min", "loss_max")}
    assert shown >= {f"train/{name}" for name in ("update_rms", "update_max", "update_above_1")}
    assert {name for name in shown if "spikes" in name} == {f"spikes/{n}/loss" for n in range(1, PICTURES + 1)}


@pytest.mark.parametrize("kind", ["workspace", "report"])
def test_every_other_panel_shows_values_of_the_summary_and_the_config(made, logged, kind):
    shown = []
    for panel in panels(made[kind]):
        config = panel["config"]
        if panel["viewType"] == "Bar Chart":
            columns = [f"summary:{name}" for name in config["metrics"]]
        elif panel["viewType"] == "Scatter Plot":
            columns = [config["xAxis"], config["yAxis"]]
        elif panel["viewType"] == "Parallel Coordinates Plot":
            columns = [column["accessor"] for column in config["columns"]]
        else:
            assert panel["viewType"] == "Run History Line Plot"
            continue
        shown += [columns]
        for column in columns:
            check_column(column, logged)
    assert ["summary:spikes_per_10k"] in shown
    assert ["config:lr_multiplier.value", "summary:eval/loss"] in shown


@pytest.mark.parametrize("kind", ["workspace", "report"])
def test_groupings_are_by_keys_of_the_config_and_the_experiment_is_the_group(made, logged, kind):
    for chosen in run_sets(made[kind]):
        assert {key["section"] for key in chosen["grouping"]} == {"config"}
        values = [config_value(logged["config"], key["name"]) for key in chosen["grouping"]]
        assert values == ["quadratic", "sgd", 400]
        (only,) = chosen["filters"]["filters"]
        assert (only["key"], only["op"]) == ({"section": "run", "name": "group"}, "=")
        assert only["value"] == logged["group"] == "adhoc"
    groups = [panel["config"]["groupBy"] for panel in panels(made[kind]) if "groupBy" in panel["config"]]
    assert {config_value(logged["config"], key) for key in groups if key != "None"} == {"sgd"}


def answered(results):
    """Send a folder's answers offline; return the panels, and summary and history of the run that holds them."""
    file = results.parent / "dashboard.json"
    for _ in range(2):  # the second time in place of the first
        sent = dashboard("--experiment", "adhoc", "--json", str(file), "--results", str(results), WANDB_SILENT="true")
        assert (sent.returncode, sent.stdout) == (0, ""), sent.stderr
    shown = [panel["config"] for panel in panels(json.loads(file.read_text())["workspace"])]
    (history,) = results.glob("wandb/offline-run-*-answers-*/*.wandb")
    return shown, json.loads(read_back(results, "--summary"))["summary"], read_history(history)[0]


def metrics_with(shown, beginning):
    """Return the metrics of each panel whose first one begins like this."""
    return [config["metrics"] for config in shown if str([*config.get("metrics", []), ""][0]).startswith(beginning)]


@pytest.mark.slow
def test_the_thresholds_of_ramps_are_bars_of_one_task(tmp_path):
    for seed in (0, 1):
        make_ramp(tmp_path / "r", "s3", seed, left_at=400)
        make_ramp(tmp_path / "r", "adamw", seed, left_at=300)
    shown, summary, _ = answered(tmp_path / "r")
    (bars,) = metrics_with(shown, "threshold/")
    assert [name.rpartition("/")[2] for name in bars] == ["adamw", "s3"]
    assert summary[bars[0]] < summary[bars[1]]


@pytest.mark.slow
def test_what_became_of_replayed_spikes_are_bars_by_arm(tmp_path):
    run_id = make_replayed(tmp_path / "r")
    make_arm(tmp_path / "r", run_id, "same", {150: 4.0})
    make_arm(tmp_path / "r", run_id, "half_lr")
    shown, summary, _ = answered(tmp_path / "r")
    (bars,) = metrics_with(shown, "replay/")
    assert {name.rpartition("/")[2]: summary[name] for name in bars} == {"same": 0, "half_lr": 1}


def test_the_interval_of_a_claim_is_drawn_over_its_blocks(tmp_path, monkeypatch):
    file = tmp_path / "configs" / "claim" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(LOSS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (claim,) = load_claims(["mine"])
    for seed in range(200, 203):
        add_block(tmp_path / "r", claim, seed, {"s3": 0.01, "adam": 0.02, "adamw": 0.04})
    shown, _, rows = answered(tmp_path / "r")
    (lines,) = metrics_with(shown, "claim/")
    assert lines == ["claim/mine/mean", "claim/mine/low", "claim/mine/high"]
    assert [row["block"] for row in rows if "claim/mine/mean" in row] == [1, 2, 3]
    assert [row["claim/mine/mean"] for row in rows] == pytest.approx([0.5] * 3)


def test_no_two_panels_of_the_report_overlap(made):
    for block in made["report"]["spec"]["blocks"]:
        if block["type"] == "panel-grid":
            taken = set()
            for panel in block["metadata"]["panelBankSectionConfig"]["panels"]:
                at = panel["layout"]
                cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
                assert at["x"] + at["w"] <= 24
                assert not cells & taken
                taken |= cells


def without_ids(value):
    """Return a specification without its ids, which the package creates afresh for each panel and run set."""
    if isinstance(value, dict):
        return {key: without_ids(item) for key, item in value.items() if key not in ("__id__", "id")}
    return [without_ids(item) for item in value] if isinstance(value, list) else value


def test_the_server_receives_what_json_writes(made):
    with FakeWandb() as server:
        result = dashboard("--entity", "me", "--experiment", "adhoc", **server.environment)
        assert result.returncode == 0, result.stderr
    assert [view["type"] for view in server.views] == ["project-view", "runs"]
    assert "View saved" in result.stderr
    assert "Saved report" in result.stderr
    for sent, written in zip(server.views, (made["workspace"], made["report"]), strict=True):
        assert (sent["entityName"], sent["projectName"]) == ("me", "s3bench")
        assert sent["displayName"] == written["displayName"] == "s3bench adhoc"
        assert without_ids(json.loads(sent["spec"])) == without_ids(written["spec"])


def test_without_an_experiment_all_runs_are_shown(main, tmp_path):
    assert main(["--json", str(tmp_path / "all.json")]) == 0
    for view in json.loads((tmp_path / "all.json").read_text()).values():
        assert {len(chosen["filters"]["filters"]) for chosen in run_sets(view)} == {0}


def test_an_unknown_project_is_named_and_not_created():
    with FakeWandb() as server:
        result = dashboard("--entity", "me", "--project", "s3bnch", **server.environment)
    assert result.returncode == 2
    assert result.stderr == ("wandb_dashboard: unknown project 's3bnch'. Did you mean s3bench? Choose from: s3bench\n")
    assert server.views == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "--entity is missing"),
        (["--entity", "me", "--experiment", "a=b' or"], 2, "a name may have only letters, digits"),
        (["--json", "nowhere/at/all.json"], 1, "No such file or directory"),
    ],
)
def test_a_mistake_gives_one_line(main, capsys, arguments, code, says):
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert says in said


def test_a_missing_key_gives_one_line(tmp_path):
    result = dashboard("--entity", "me", WANDB_API_KEY="", HOME=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "No API key configured" in result.stderr


def test_a_missing_package_gives_one_line():
    code = "import runpy, sys; sys.modules['wandb_workspaces'] = None; "
    code += f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    result = dashboard("-c", code, before=())
    assert result.returncode == 2
    assert result.stderr == "a dashboard needs wandb-workspaces: pip install 's3bench[dashboards]'\n"


@pytest.mark.slow
def test_the_commands_of_the_page_work(tmp_path):
    page = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
    lines = [
        line.split(" #")[0]
        for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
        for line in block.splitlines()
    ]
    results = tmp_path / "results" / "quickstart"
    run(run_config(["tracker=wandb", "horizon=20", f"results_dir={results}"]))
    (tmp_path / "scripts").symlink_to(SCRIPT.parent)
    spec, tried = tmp_path / "dashboard.json", 0
    for line in lines:
        if "leet inspect" in line or "--json dashboard.json" in line:
            spec.unlink(missing_ok=True)
            folder = shlex.quote(str(Path(sys.executable).parent))
            done = subprocess.run(
                f"set -o pipefail; PATH={folder}:$PATH; {line}",
                shell=True,
                executable="/bin/bash",
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert spec.exists() if "--json dashboard.json" in line else done.stdout
            tried += 1
    assert tried >= 3
