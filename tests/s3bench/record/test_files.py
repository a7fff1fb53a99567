"""Records whose files are something else, or hold what nobody expects: one line each, at once, and the others shown."""

import json
import shutil

import pytest

from s3bench import record
from s3bench.errors import UserError
from s3bench.record import lease
from s3bench.record.files import row_files
from s3bench.record.opening import check_plain
from tests.conftest import mistake
from tests.records import config, make, rows
from tests.s3bench.record.broken import DEEP, KINDS, SIZES, in_time, replace

OF_ANY = ("config.yaml",)
OF_FINISHED = (*OF_ANY, "summary.json", "steps.parquet", "evals.parquet")
OF_UNFINISHED = (
    *OF_ANY,
    "error.txt",
    "log.txt",
    "lease.0",
    "steps.0.jsonl",
    "evals.0.jsonl",
    "checkpoint.000000000002.pt",
)

SAME = ("seed=2", "horizon=20", "results_dir=r")  # the unfinished run


def unfinished(results, cause="RuntimeError: no"):
    """Write a failed record with rows and an intact one beside it; return the folder of the former."""
    make(results, seed=1)
    settings = config(results, "seed=2", "horizon=20")
    folder = record.plan(settings)
    with record.Writer(folder, settings) as writer:
        writer.add_steps(rows(0, 2))
        writer.add_eval({"step": 0, "loss": 1.0, "distance": 2.0})
        writer.fail(cause, "Traceback")
    return folder


LEFT = {  # by a process that was killed after it had written its summary
    "lease.4": "{}",
    "steps.0.jsonl": "{}\n",
    "evals.12.jsonl": "",
    "checkpoint.000000000100.pt": "x",
    "checkpoint.000000000020.unfit": "x",
    ".summary.json.0a1b.draft": "{",
    "error.txt": "no\n",
    "log.txt": "",
}


def holds(folder):
    return {file.name: file.read_text() for file in folder.iterdir() if file.suffix not in (".parquet", ".pt")}


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_what_a_process_left_that_was_killed_at_the_end_is_removed_by_the_next_one(s3bench, tmp_path, command):
    assert s3bench(command, "seed=2", "horizon=20", "results_dir=r").returncode == 0
    (folder,) = record.folders(tmp_path / "r")
    before = holds(folder)
    for name, text in LEFT.items():
        (folder / name).write_text(text)
    (folder / "before_spike.000000000150.000000000020.pt").write_text("kept")
    (folder / "notes.txt").write_text("mine")
    assert s3bench(command, "seed=2", "horizon=20", "results_dir=r", "--cfg", "job").returncode == 0
    assert all((folder / name).exists() for name in LEFT)  # a question changes nothing
    assert s3bench(command, "seed=2", "horizon=20", "results_dir=r").returncode == 0
    assert holds(folder) == {**before, "notes.txt": "mine"}
    assert [file.name for file in folder.glob("*.pt")] == ["before_spike.000000000150.000000000020.pt"]


def test_only_runs_that_are_over_are_tidied_and_what_they_printed_is_kept(tmp_path):
    over, folder = make(tmp_path), unfinished(tmp_path)
    (over / "log.txt").write_text("a line\n")
    for name, text in LEFT.items():
        (folder / name).write_text(text)
    before = holds(folder)
    record.tidy([over, folder, tmp_path / "none"])
    assert holds(folder) == before
    assert (over / "log.txt").read_text() == "a line\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_none_is_named_at_once_and_the_others_are_shown(s3bench, tmp_path, kind):
    make(tmp_path / "r")
    for number, name in enumerate(OF_FINISHED):
        folder = make(tmp_path / "r", seed=2)
        replace(folder / name, KINDS[kind])
        with in_time():
            refused = mistake(s3bench("report", "r"))
        assert f"the record r/{folder.name} is damaged, in {name}" in refused
        with in_time():
            told = s3bench("status", "r")
        if number < 2:  # status does not look into the tables
            assert (told.returncode, told.stderr) == (1, "")
            assert f"damaged: the record r/{folder.name} is damaged, in {name}" in told.stdout
            assert "1 runs: 1 finished" in told.stdout
        shutil.rmtree(folder)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "odd", [None, "left out", *(pytest.param(odd, marks=pytest.mark.slow) for odd in ({"a": {}}, [None], 7, "x"))]
)
def test_a_report_of_a_summary_with_an_odd_value_is_written_or_names_the_record(s3bench, tmp_path, odd):
    folder = make(tmp_path / "r")
    summary = json.loads((folder / "summary.json").read_text()) | {"resumed": [], "spikes": 0}
    for key in summary:
        changed = {name: value for name, value in summary.items() if name != key}
        (folder / "summary.json").write_text(json.dumps(changed if odd == "left out" else {**changed, key: odd}))
        for command in ("report", "status"):
            told = s3bench(command, "r")
            assert "Traceback" not in told.stderr
            named = f"the record r/{folder.name} is damaged, in summary.json" in told.stdout + told.stderr
            assert (told.returncode == 0) != named, told


@pytest.mark.parametrize(
    "kind", ["fifo", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind != "fifo")]
)
def test_a_run_with_a_file_that_is_none_does_not_resume(s3bench, tmp_path, kind):
    for name in OF_UNFINISHED[1:]:
        folder = unfinished(tmp_path / "r")
        replace(folder / name, KINDS[kind])
        said = f"the record r/{folder.name} is damaged, in {name}"
        with in_time():
            told = s3bench("status", "r")
        assert told.returncode == 1
        assert f"damaged: {said}" in told.stdout
        assert "1 runs: 1 finished" in told.stdout
        for arguments in (["report", "r"], ["run", *SAME], ["sweep", *SAME]):
            with in_time():
                assert said in mistake(s3bench(*arguments))
        shutil.rmtree(folder)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("name", OF_FINISHED)
def test_a_huge_or_empty_file_of_a_run_that_is_over_is_named(tmp_path, kind, name):
    folder = make(tmp_path)
    replace(folder / name, SIZES[kind])
    with in_time(), pytest.raises(UserError, match=f"the record .* is damaged, in {name}"):  # noqa: PT012
        for row in record.load_records(tmp_path).itertuples():
            record.load_steps(row.folder)
            record.load_evals(row.folder)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize(
    "name", [OF_UNFINISHED[1], *(pytest.param(name, marks=pytest.mark.slow) for name in OF_UNFINISHED[2:])]
)
def test_a_huge_or_empty_file_of_a_failed_run_does_not_keep_it_from_its_end(s3bench, tmp_path, kind, name):
    folder = unfinished(tmp_path / "r")
    replace(folder / name, SIZES[kind])
    assert s3bench("status", "r").returncode in (0, 1)
    if not name.startswith("lease"):  # such a one is watched for a while
        assert s3bench("run", *SAME).returncode == 0
        assert record.state(folder) == "finished"
        assert s3bench("report", "r").returncode == 0


NESTED = "[" * DEEP + "]" * DEEP


@pytest.mark.parametrize("line", ["null", "3", "[1]", "{}", '{"step": 1}', '{"step": null, "loss": 1}', NESTED])
@pytest.mark.parametrize("place", [0, 1])
def test_rows_that_are_none_are_named_and_the_run_begins_anew(s3bench, tmp_path, line, place):
    folder = unfinished(tmp_path / "r")
    lines = (folder / "steps.0.jsonl").read_text().split("\n")
    lines[place] = line
    (folder / "steps.0.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"is damaged, in steps\.N\.jsonl \(ValueError: steps\.0\.jsonl: "):
        record.load_steps(folder)
    assert s3bench("status", "r").returncode == 0
    assert s3bench("run", *SAME).returncode == 0
    assert record.state(folder) == "finished"


@pytest.mark.parametrize("name", ["summary.json", "config.yaml"])
@pytest.mark.parametrize("text", [NESTED, '{"a":' * DEEP, "[" * DEEP, "null", "3", "[]", '{"state": "finished"}'])
def test_a_text_that_is_nested_without_end_or_no_record_is_named(tmp_path, name, text):
    folder = make(tmp_path)
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=f"is damaged, in {name}"):
        record.load_record(folder)


@pytest.mark.parametrize(
    "text",
    [
        "- " * DEEP,
        "? " * DEEP,
        "\n".join(f"{' ' * n}a:" for n in range(1500)),
        "a: &a [*a]",
        "a: 2020-01-01",
        "a: !!set {b}",
    ],
)
def test_yaml_that_is_no_plain_data_is_named(tmp_path, text):
    folder = make(tmp_path)
    (folder / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"is damaged, in config\.yaml"):
        record.load_config(folder)


def test_a_few_lines_of_yaml_that_mean_millions_are_named(tmp_path):
    folder = make(tmp_path)
    lists = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))]
    merged = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 10))]
    for lines in (lists, merged):
        (folder / "config.yaml").write_text("\n".join(lines))
        with pytest.raises(UserError, match=r"is damaged, in config\.yaml"):
            record.load_config(folder)


@pytest.mark.parametrize("value", [{"a": {1, 2}}, {"a": b"x"}, "\ud800", {"\ud800": 1}, [[]] * 200_000])
def test_plain_data_are_dicts_lists_texts_and_numbers(value):
    with pytest.raises(ValueError, match=r"it holds|surrogates"):
        check_plain(value)
    check_plain({"a": [1, 2.5, None, True, "é"]})


def test_only_plain_numbers_count_processes(tmp_path):
    folder = unfinished(tmp_path)
    for end in ("²", "٣", "01", "-1", "x", "1.2"):
        (folder / f"lease.{end}").touch()
        (folder / f"steps.{end}.jsonl").touch()
    assert lease.numbers(record.lease_place(folder)) == []
    assert [file.name for file in row_files(folder)] == ["evals.0.jsonl", "steps.0.jsonl"]
    assert record.state(folder) == "failed"
    assert len(record.load_steps(folder)) == 2


def test_what_a_damaged_file_holds_steers_no_terminal(s3bench, tmp_path):
    evil = "\x1b]0;owned\x07\x1b[2J\u202e"
    folder = unfinished(tmp_path / "r", cause=f"{evil} it broke [/red]")
    shown = "\\x1b]0;owned\\x07\\x1b[2J\\u202e"
    head, _, body = (folder / "config.yaml").read_text().partition("\n")
    names = json.loads(head.removeprefix("# s3bench run "))
    names |= {"run_id": f"a{evil}\nb", "optimizer": f"[/x]{evil}"}
    (folder / "config.yaml").write_text(f"# s3bench run {json.dumps(names)}\n{body}")
    told = s3bench("status", "r")
    assert told.returncode == 0, told.stderr
    assert f"failed: a{shown}\\nb: {shown} it broke [/red]" in told.stdout
    assert f"[/x]{shown}" in told.stdout
    (folder / "summary.json").write_text(json.dumps({"state": evil, "steps": 1}))
    for told in (s3bench("status", "r"), s3bench("report", "r")):
        assert told.returncode in (1, 2)
        assert "is damaged, in summary.json" in told.stdout + told.stderr
        assert all(char.isprintable() or char == "\n" for char in told.stdout + told.stderr)
    (folder / "summary.json").unlink()
    (folder / evil).mkdir()
    told = s3bench("report", f"r/{folder.name}/{evil}")
    assert f"{shown} contains no records" in mistake(told)
