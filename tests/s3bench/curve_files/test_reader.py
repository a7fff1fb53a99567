"""Reading curves: every format gives the numbers that were logged, and anything else gives one line."""

import doctest
import json
import math
import os
import sys

import numpy as np
import pandas as pd
import pytest
import wandb
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from s3bench.curve_files import reader, wandb_file
from s3bench.curve_files.reader import read_curve
from s3bench.errors import UserError
from s3bench.report.analysis import loss_curve
from s3bench.report.analysis.spike_bounds import Bounds
from s3bench.report.figures.one_loss import one_loss
from s3bench.spikes import find_spikes

LOSSES = [3.0, 2.5, math.nan, math.inf, 1 / 3, 1e-12]


def write(file, text):
    file.write_text(text, encoding="utf-8")
    return file


def same(curve, losses, steps=None):
    """Assert that the curve has these losses, at these steps or counted from 0."""
    np.testing.assert_array_equal(curve.loss, losses)
    np.testing.assert_array_equal(curve.steps, range(len(losses)) if steps is None else steps)


def wandb_run(folder, log, mode="offline"):
    """Make a real offline run, which log(run) logs to, and return its folder."""
    options = wandb.Settings(silent=True, console="off", disable_git=True)
    run = wandb.init(mode=mode, project="x", dir=folder, settings=options)
    log(run)
    run.finish()
    (made,) = folder.glob("wandb/offline-run-*")
    return made


@pytest.fixture(scope="module")
def offline_run(tmp_path_factory):
    """Log six losses, one every ten steps, and validation losses between them."""

    def log(run):
        for index, loss in enumerate(LOSSES):
            run.log({"train/loss": loss, "lr": 0.1}, step=10 * index)
            run.log({"val/loss": 9.0}, step=10 * index + 1)

    return wandb_run(tmp_path_factory.mktemp("wandb"), log)


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Log the same curve to TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    folder = tmp_path_factory.mktemp("events")
    with SummaryWriter(folder) as writer:
        for index, loss in enumerate(LOSSES):
            writer.add_scalar("Loss/train", loss, 10 * index)
            writer.add_scalar("Loss/val", 9.0, 10 * index)
            writer.add_scalar("new", loss, 10 * index, new_style=True)
        writer.add_histogram("weights", np.arange(5), 0)
        writer.add_text("note", "hello", 0)
    return folder


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(allow_subnormal=False), min_size=2, max_size=30),
    st.integers(-5, 10**9),
    st.sampled_from(["csv", "parquet", "jsonl"]),
)
def test_every_table_gives_back_exactly_the_numbers(tmp_path_factory, losses, first, suffix):
    assume(not np.isnan(losses).all())  # Parquet cannot tell this from an empty column
    file = tmp_path_factory.mktemp("t") / f"curve.{suffix}"
    steps = [first + 3 * index for index in range(len(losses))]
    if suffix == "jsonl":
        rows = [{"step": step, "loss": loss} for step, loss in zip(steps, losses, strict=True)]
        write(file, "".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == "csv":
        write(file, "step,loss\n" + "".join(f"{s},{v!r}\n" for s, v in zip(steps, losses, strict=True)))
    else:
        pd.DataFrame({"step": steps, "loss": losses}).to_parquet(file)
    np.testing.assert_array_equal(read_curve(file).steps, steps)
    np.testing.assert_allclose(read_curve(file).loss, losses, rtol=1e-15)


def test_a_wandb_run_gives_back_what_was_logged(offline_run):
    (file,) = offline_run.glob("*.wandb")
    for path in (offline_run, file):
        curve = read_curve(path)
        same(curve, LOSSES, range(0, 60, 10))
        assert curve.column == "train/loss"
    same(read_curve(offline_run, column="val/loss"), [9.0] * 6, range(1, 61, 10))
    with pytest.raises(UserError, match=r"unknown column of .* 'train/los'\. Did you mean train/loss\?"):
        read_curve(offline_run, column="train/los")


RESUMED = [(step, 50 - step) for step in range(20)] + [(step, 60 - step) for step in range(15, 25)]
KEPT_LAST = [50 - step if step < 15 else 60 - step for step in range(25)]
KEPT_FIRST = [50 - step if step < 20 else 60 - step for step in range(25)]


def test_rows_of_a_wandb_run_are_chosen_and_those_of_a_resumed_one_kept_once(tmp_path):
    def log(run):
        for step, loss in RESUMED:
            run.log({"train/loss": loss, "iteration": step, "odd": step % 2})

    folder = wandb_run(tmp_path, log)
    same(read_curve(folder), KEPT_LAST)
    same(read_curve(folder, resume="keep-first"), KEPT_FIRST)
    same(read_curve(folder, where="odd=1"), KEPT_LAST[1::2], range(1, 25, 2))
    with pytest.raises(UserError, match="value of column 'odd'"):
        read_curve(folder, where="odd=3")


def test_rows_of_tensorboard_are_chosen_and_those_of_a_resumed_run_kept_once(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        for step, loss in RESUMED:
            writer.add_scalar("train/loss", loss, step)
            writer.add_scalar("lr", 0.5, step)
    same(read_curve(tmp_path), KEPT_LAST)
    same(read_curve(tmp_path, resume="keep-first"), KEPT_FIRST)
    with pytest.raises(UserError, match="column 'train/loss' is empty"):  # a row is one scalar
        read_curve(tmp_path, where="lr=0.5")


def test_a_run_that_was_killed_is_read_as_far_as_it_was_written(tmp_path):
    folder = wandb_run(tmp_path, lambda run: [run.log({"loss": step / 7}) for step in range(2000)])
    (file,) = folder.glob("*.wandb")
    blocks = file.stat().st_size // wandb_file.BLOCK_BYTES
    with file.open("r+b") as written:  # what is on the disk before the end: whole blocks, here half of them
        written.truncate(blocks // 2 * wandb_file.BLOCK_BYTES)
    curve = read_curve(folder)
    assert 100 < len(curve.loss) < 1900, blocks
    same(curve, np.arange(len(curve.loss)) / 7)
    assert "the run is under way or was killed" in curve.notes[0]


def test_a_damaged_wandb_file_is_refused(offline_run, tmp_path):
    whole = next(offline_run.glob("*.wandb")).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    begin = 7  # of a record: a checksum (4 bytes), its length (2), its kind (1); a file may end where a record ends
    while begin < len(whole) // 2:
        begin += 7 + int.from_bytes(whole[begin + 4 : begin + 6], "little")
    cases = [("cut short", whole[: begin + 20]), ("cut short", whole[:3]), ("is empty", b"")]
    for said, content in [
        *cases,
        (r"not an intact \.wandb file", flipped),
        (r"not an intact \.wandb file", b"step,loss\n0,1\n"),
    ]:
        file = tmp_path / "run-x.wandb"
        file.write_bytes(content)
        with pytest.raises(UserError, match=said):
            read_curve(file)


def test_a_missing_or_outdated_reader_is_one_line(offline_run, events, monkeypatch):
    monkeypatch.setattr(wandb_file.metadata, "version", lambda _: "0.19.1")
    with pytest.raises(
        UserError, match=r"needs wandb 0\.31 or later, but 0\.19\.1 is installed: pip install 'wandb>=0\.31'"
    ):
        read_curve(offline_run)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(UserError, match=r"need tensorboard: pip install 's3bench\[tensorboard\]'"):
        read_curve(events)


def test_tensorboard_events_give_back_what_was_logged(events):
    (file,) = events.glob("*tfevents*")
    logged = np.float32(LOSSES)  # TensorBoard stores float32
    for path in (events, file):
        curve = read_curve(path)
        same(curve, logged, range(0, 60, 10))
        assert curve.column == "Loss/train"
    same(read_curve(events, column="new"), logged, range(0, 60, 10))
    with pytest.raises(UserError, match="Choose from: Loss/train, Loss/val, new, step"):
        read_curve(events, column="weights")


@pytest.mark.parametrize("new_style", [False, True])
def test_a_tensorboard_run_that_started_again_has_each_step_once(tmp_path, new_style):
    from torch.utils.tensorboard import SummaryWriter

    for index, (steps, purge) in enumerate([(range(10), None), (range(6, 12), 6)]):
        with SummaryWriter(tmp_path, purge_step=purge, filename_suffix=f".{index}") as writer:
            for step in steps:
                writer.add_scalar("loss", 100 * index + step, step, new_style=new_style)
    same(read_curve(tmp_path), [*range(6), *range(106, 112)])


def test_tensorboard_files_under_way_and_damaged(events, tmp_path):
    whole = next(events.glob("*tfevents*")).read_bytes()
    file = tmp_path / "events.out.tfevents.1"
    file.write_bytes(whole + whole[:20])
    curve = read_curve(file)
    assert len(curve.loss) == len(LOSSES)
    assert "under way or was killed" in curve.notes[0]
    for content in (b"step,loss\n0,1\n", b"short", whole[:24] + bytes(len(whole))):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"is not an? (intact )?TensorBoard event file|has no rows"):
            read_curve(file)


def tensor_event(folder, tag, shape=(), plugin="scalars", **content):
    """Write an event file with one tensor under a tag, and losses under another."""
    from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2
    from torch.utils.tensorboard import SummaryWriter

    dimensions = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape]
    tensor = tensor_pb2.TensorProto(tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=dimensions), **content)
    value = summary_pb2.Summary.Value(tag=tag, tensor=tensor)
    value.metadata.plugin_data.plugin_name = plugin
    with SummaryWriter(folder) as writer:
        for step in range(3):
            writer.add_scalar("loss", step, step)
        event = event_pb2.Event(step=3, summary=summary_pb2.Summary(value=[value]))
        writer.file_writer.event_writer.add_event(event)


@pytest.mark.parametrize(
    "content",
    [
        {"dtype": 1, "shape": (2,), "float_val": [1.0, 2.0]},
        {"dtype": 1, "shape": (10**9, 10**9), "float_val": [1.0]},
        {"dtype": 1, "float_val": [1.0, 2.0]},
        {"dtype": 1, "tensor_content": b"abc"},
        {"dtype": 7, "string_val": [b"x"]},
        {"dtype": 8, "scomplex_val": [1.0, 2.0, 3.0]},
        {"dtype": 20},
        {"dtype": 99},
        {"dtype": 4, "int_val": [300]},
    ],
)
def test_a_scalar_of_tensorboard_that_is_no_number_is_refused_with_its_tag(tmp_path, content):
    tensor_event(tmp_path, "evil\x1b tag", **content)
    with pytest.raises(UserError, match=r"the tensor of 'evil\\x1b tag' is not a number \(.*\)$"):
        read_curve(tmp_path)


def test_a_tensor_that_is_no_scalar_is_another_kind_of_data(tmp_path):
    tensor_event(tmp_path, "image", shape=(10**9, 10**9), plugin="", dtype=1, float_val=[1.0])
    assert read_curve(tmp_path).loss.tolist() == [0, 1, 2]


def test_halves_of_characters_in_json_are_replaced(tmp_path):
    file = write(tmp_path / "x.jsonl", '{"loss": 1, "a": "\\ud800"}\n{"loss": 2, "\\udc00b": "\\ud83d\\ude00"}\n')
    curve = read_curve(file)
    assert curve.loss.tolist() == [1, 2]
    with pytest.raises(UserError, match=r"Choose from: .*\ufffdb"):
        read_curve(file, column="none")


def test_an_export_of_wandbs_page_is_read_by_run(tmp_path):
    header = '"Step","calm-sun-1 - train/loss","calm-sun-1 - train/loss__MIN","calm-sun-1 - train/loss__MAX"'
    one = write(tmp_path / "one.csv", f'{header}\n"0","3.5","3.5","3.5"\n"50","NaN","NaN","NaN"\n"100","2","2","2"\n')
    same(read_curve(one), [3.5, math.nan, 2], [0, 50, 100])
    assert read_curve(one, column="train/loss").column == "calm-sun-1 - train/loss"
    two = write(
        tmp_path / "two.csv",
        "Step,a - loss,a - loss__MIN,b - loss,b - loss__MIN\n0,1,1,,\n1,2,2,5,5\n2,,,6,6\n3,3,3,,\n4,4,4,7,7\n",
    )
    same(read_curve(two, column="a - loss"), [1, 2, 3, 4], [0, 1, 3, 4])
    same(read_curve(two, column="b - loss"), [5, 6, 7], [1, 2, 4])
    for column in (None, "loss"):
        with pytest.raises(UserError, match="choose one with --column: a - loss, b - loss"):
            read_curve(two, column=column)


def test_a_parquet_history_with_separate_rows_for_validation(tmp_path):
    history = pd.DataFrame(
        {
            "_step": [0, 1, 2, 3, 4],
            "_runtime": [0.1, 0.2, 0.3, 0.4, 0.5],
            "loss": [3.0, 2.5, None, 2.0, 1.5],
            "eval/loss": [None, None, 2.6, None, None],
        }
    )
    history.to_parquet(tmp_path / "0000.parquet")
    curve = read_curve(tmp_path / "0000.parquet")
    same(curve, [3.0, 2.5, 2.0, 1.5], [0, 1, 3, 4])
    assert curve.notes == ("rows without a loss, left out: 1 of 5",)


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ("step,loss,train_loss", "loss"),
        ("step,train_loss,val_loss,lr", "train_loss"),
        ("step,train_loss_step,train_loss_epoch,valid_loss", "train_loss_step"),
        ("global_step,Loss/train,Loss/val", "Loss/train"),
        ("a,training_loss,loss_scale", "training_loss"),
        ("a,trainLoss", "trainLoss"),
        ("a,trainloss,evalloss", "trainloss"),
        ("a,train/loss,train/aux_loss", "train/loss"),
        ("a,lm loss,lr", "lm loss"),
    ],
)
def test_the_loss_is_found_by_its_name(tmp_path, columns, found):
    row = ",".join(str(index) for index in range(columns.count(",") + 1))
    file = write(tmp_path / "curve.csv", f"{columns}\n{row}\n9{row}\n")
    assert read_curve(file).column == found


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            "step,train_loss,training_loss",
            "several columns may be the loss; choose one with --column: train_loss, training",
        ),
        ("step,nll_loss,kl_loss", "choose one with --column: nll_loss, kl_loss"),
        ("step,val_loss,lr", "no column is named like a training loss; choose one with --column: step, val_loss, lr"),
        ("loss,loss ,lr", "has two columns named 'loss'"),
    ],
)
def test_an_ambiguous_loss_has_to_be_named(tmp_path, columns, said):
    with pytest.raises(UserError, match=said):
        read_curve(write(tmp_path / "curve.csv", f"{columns}\n1,2,3\n2,3,4\n"))


@pytest.mark.parametrize(
    "name", ["step", "_step", "Step", "global_step", "trainer/global_step", "iteration", "iter", "epoch"]
)
def test_the_steps_are_found_by_name_or_rows_are_counted(tmp_path, name):
    file = write(tmp_path / "curve.csv", f"{name},loss\n10,3\n20,2\n30.0,1\n")
    same(read_curve(file), [3, 2, 1], [10, 20, 30])
    same(read_curve(file, step=name), [3, 2, 1], [10, 20, 30])
    same(read_curve(file, step="none"), [3, 2, 1])
    with pytest.raises(UserError, match=r"unknown column of .* 'stepp'"):
        read_curve(file, step="stepp")


def test_the_steps_found_are_those_that_every_loss_has(tmp_path):
    rows = [{"loss": 3, "_step": 0}, {"val": 1, "step": 7, "_step": 1}, {"loss": 2, "_step": 2, "step": 9}]
    file = write(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows)))
    same(read_curve(file), [3, 2], [0, 2])
    with pytest.raises(UserError, match="row 1: the step is missing"):
        read_curve(file, step="step")


@pytest.mark.parametrize(
    ("text", "losses", "why"),
    [
        ("step,loss\n0,3\n1,\n2,1\n", [3, math.nan, 1], "the row has nothing but its step"),
        ("step,loss,lr\n0,3,1\n1,2,1\n2,,1\n3,,1\n", [3, 2, math.nan, math.nan], "pandas writes NaN as an empty cell"),
        ("step,loss,lr\n0,3,1\n1,nan,1\n2,-inf,1\n3,Infinity,1\n", [3, math.nan, -math.inf, math.inf], "written out"),
        ("step,loss,val\n0,3,\n1,,9\n2,NaN,\n", [3, math.nan], "a validation's row is not a row of the loss"),
        (
            "step,loss,lr,val\n0,3,1,8\n1,2,1,\n2,,,7\n",
            [3, 2],
            "nor where validations also share rows with a loss",
        ),
        ("step,loss,lr\n0,3,1\n1,,1\n2,2,1\n3,,1\n4,1,1\n5,,1\n", [3, 2, 1], "a loss of every second row"),
        ("loss\n3\nNA\nnull\n1\n", [3, math.nan, math.nan, 1], "other spellings of an empty cell"),
    ],
)
def test_what_an_empty_cell_means(tmp_path, text, losses, why):
    curve = read_curve(write(tmp_path / "curve.csv", text))
    np.testing.assert_array_equal(curve.loss, losses, err_msg=why)
    assert bool(curve.notes) == (",," in text or ",\n" in text or "NA" in text)


def test_rows_of_json_without_the_key_are_other_rows(tmp_path):
    text = '{"step": 0, "loss": 3}\n\n{"step": 0, "lr": 1}\n{"step": 1, "loss": NaN}\n'
    text += '{"step": 2, "loss": "Infinity"}\n{"step": 3, "loss": null}\n'
    same(read_curve(write(tmp_path / "rows.ndjson", text)), [3, math.nan, math.inf, math.nan])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "step,loss\n0,1\n1,high\n", r"row 2: 'high' is not a number \(column 'loss'\)"),
        ("a.csv", "step,loss\n0,1\n1,True\n", "row 2: 'True' is not a number"),
        (
            "a.csv",
            "step,loss\n0,1\n2,1\n1,1\n",
            "row 3: step 1 comes after 2, as in several runs; choose one with --where",
        ),
        ("a.csv", "step,loss\n0,1\n5,1\n5,2\n", "rows 2 and 3: step 5 appears twice"),
        ("a.csv", "step,loss\n0,1\n1.5,1\n", "row 2: step 1.5 is not a whole number"),
        ("a.csv", "step,loss\n0,1\n1e300,1\n", "row 2: step 1e[+]300 is not a whole number"),
        ("a.csv", "step,loss\n0,1\n,1\n", "row 2: the step is missing"),
        ("a.csv", "step,loss\n0,1\nx,1\n", r"row 2: 'x' is not a number \(column 'step'\)"),
        ("a.csv", "step,loss,loss\n0,1,2\n1,1,2\n", "has two columns named 'loss'"),
        ("a.csv", 'step,loss, "loss" \n0,1,2\n1,1,2\n', "has two columns named 'loss'"),
        ("a.csv", "step,loss\n0,1\n1,2,3\n", "cannot be read as CSV"),
        ("a.csv", "step,loss\n0,1\n", "has one row with a loss; a curve needs at least two"),
        ("a.csv", "step,loss\n0,\n1,\n", "column 'loss' is empty"),
        ("a.csv", "step,loss\n", "has no rows"),
        ("a.csv", "", "is empty"),
        ("a.parquet", "", "is empty"),
        ("a.jsonl", '{"loss": 1}\n{"loss": \n', "line 2 is not JSON"),
        ("a.jsonl", '{"loss": 1}\n3\n', "each line must be an object"),
        ("a.jsonl", '{"loss": 1}\n{"loss": {"a": 1}}\n', "row 2: .* is not a number"),
        ("a.jsonl", '{"loss": 1}\n{"loss": true}\n', "row 2: 'True' is not a number"),
        ("a.jsonl", '{"loss": 1}\n' + "[" * 100_000 + "\n", "line 2 is not JSON"),
        ("a.jsonl", "\n", "has no rows"),
        ("a.txt", "Dear all,\nnothing here.\n", "is none of these: a table .*; --pattern REGEX reads other lines"),
    ],
)
def test_anything_but_a_curve_is_refused_with_its_row_or_column(tmp_path, name, text, said):
    with pytest.raises(UserError, match=said) as error:
        read_curve(write(tmp_path / name, text))
    assert "\n" not in str(error.value)


def test_a_file_may_be_named_by_text_and_in_capitals(tmp_path):
    same(read_curve(str(write(tmp_path / "a.CSV", "loss\n1\n2\n"))), [1, 2])
    same(read_curve(write(tmp_path / "a.JSONL", '{"loss": 1}\n{"loss": 2}\n')), [1, 2])
    pd.DataFrame({"loss": [1.0, 2.0]}).to_parquet(tmp_path / "a.Parquet")
    same(read_curve(tmp_path / "a.Parquet"), [1, 2])


def test_blank_lines_of_a_csv_are_noted_and_counted(tmp_path):
    text = '\nstep,loss,note\n0,3,\n\n \t\n10,nan,\n20,,"a\n\nb"\n30,1,\n\n\n'
    curve = read_curve(write(tmp_path / "a.csv", text))
    same(curve, [3, math.nan, 1], [0, 10, 30])
    assert curve.notes == ("blank lines, left out: 2", "rows without a loss, left out: 1 of 4")
    with pytest.raises(UserError, match="row 4: 'high' is not a number"):
        read_curve(write(tmp_path / "b.csv", text.replace("nan", "high")))
    one = read_curve(write(tmp_path / "c.csv", 'loss\n1\n\n""\n2\n\n'))  # pandas writes a NaN so
    same(one, [1, math.nan, 2])
    assert one.notes == ("blank lines, left out: 1", "empty cells of 'loss' taken as non-finite losses: 1")


def test_a_truncated_parquet_file_is_refused(tmp_path):
    pd.DataFrame({"loss": np.arange(1000.0)}).to_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    for size in (4, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.parquet").write_bytes(whole[:size])
        with pytest.raises(UserError, match="cannot be read as Parquet"):
            read_curve(tmp_path / "cut.parquet")


def test_a_parquet_column_of_another_type_is_refused(tmp_path):
    file = tmp_path / "a.parquet"
    times = pd.to_datetime(["2026-01-01", "2026-01-02"])
    for cells in (times, times - times[0], [True, False], [[1], [2]], [b"1", b"2"], pd.Categorical(["a", "b"])):
        pd.DataFrame({"loss": cells}).to_parquet(file)
        with pytest.raises(UserError, match=r"row 1: .* is not a number \(column 'loss'\)"):
            read_curve(file)
    pd.DataFrame({"loss": pd.Categorical(["1.5", "nan"])}).to_parquet(file)
    same(read_curve(file), [1.5, math.nan])


def test_a_folder_without_a_run_names_folders_that_have_one(tmp_path, events):
    with pytest.raises(UserError, match=r"does not contain a \.wandb or events\.out\.tfevents\.\* file$"):
        read_curve(tmp_path)
    (tmp_path / "run").symlink_to(events)
    with pytest.raises(UserError, match=r"these folders do: .*run"):
        read_curve(tmp_path)
    for name in ("run-a.wandb", "run-b.wandb"):
        write(tmp_path / name, "x")
    with pytest.raises(UserError, match=r"holds several runs; name one: run-a\.wandb, run-b\.wandb"):
        read_curve(tmp_path)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["csv", "parquet", "jsonl", "tfevents"]))
def test_any_bytes_are_a_curve_or_one_line(tmp_path_factory, content, suffix):
    file = tmp_path_factory.getbasetemp() / f"bytes{os.getpid()}.{suffix}"
    file.write_bytes(content)
    said = ""
    try:
        assert len(read_curve(file).loss) >= 2
    except UserError as error:
        said = str(error)
    assert "\n" not in said


def test_spikes_are_given_in_the_files_steps(tmp_path):
    loss = np.linspace(3, 2, 500)
    loss[300:310] += 1
    loss[495:] = math.nan
    pd.DataFrame({"step": np.arange(500) * 10 + 10, "loss": loss}).to_parquet(tmp_path / "curve.parquet")
    curve = read_curve(tmp_path / "curve.parquet")
    first, last = (curve.in_steps(spike) for spike in find_spikes(curve.loss))
    assert (first.onset, first.end) == (3010, 3110)
    assert (last.onset, last.peak, last.end) == (4960, 4960, 5010)
    assert not curve.is_consecutive()
    assert curve.spacing() == "every 10, from 10 to 5000"


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("losses", [(-1e308, 1e308), (-1e308, -1e308), (5e-324, 1.7e308), (5e-324, 5e-324), (1, 1e308)])
def test_the_largest_and_smallest_floats_are_drawn(losses):
    loss = np.array(losses * 30)
    curve = loss_curve.Curve(steps=np.arange(60), loss=loss, trend=loss, peaks=[(1, losses[1])])
    figure = one_loss(curve, Bounds(loss, loss, loss), [(1, 2)], title="", xlabel="", ylabel="")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, top = axes.get_ylim()
    assert low < top


def test_the_example_in_the_docstring_holds():
    assert doctest.testmod(reader) == doctest.TestResults(failed=0, attempted=3)


@pytest.mark.slow
def test_a_million_rows_are_read_in_a_second_or_so(tmp_path):
    import time

    rows = 1_000_000
    pd.DataFrame({"step": np.arange(rows), "loss": np.random.default_rng(0).random(rows)}).to_csv(tmp_path / "a.csv")
    start = time.process_time()
    assert len(read_curve(tmp_path / "a.csv").loss) == rows
    assert time.process_time() - start < 5
