"""Logs with more in them than a curve: each is read right, and what was left out is said; or refused with a way."""

import json
import re
import tracemalloc

import numpy as np
import pytest

from s3bench.curve_files.text import without_holes
from s3bench.errors import UserError
from tests.s3bench.curve_files.logs import curve_of, said


def session(epochs, day=1):
    """Return the lines of a session whose counter begins again in each epoch, below its heading."""
    lines = [f"===== Training Loss (Mon Feb  {day} 08:00:0{day} 2021) =====\n"]
    lines += [
        f"(epoch: {e}, iters: {i}, time: 0.2) G_A: {day * e + i / 1000:.3f} D_A: 0.5 \n"
        for e in epochs
        for i in (50, 90)
    ]
    return "".join(lines)


def test_a_date_in_a_heading_is_no_loss(tmp_path):
    text = session([1, 2, 3])
    with pytest.raises(
        UserError, match="choose one with --column: epoch, iters, time, G_A, D_A; --pattern REGEX reads"
    ):
        curve_of(tmp_path, text)
    curve = curve_of(tmp_path, text, column="G_A")
    assert curve.loss.tolist() == [1.05, 1.09, 2.05, 2.09, 3.05, 3.09]
    assert "rows are counted, for 'iters' begins again in every epoch" in said(curve)


def test_a_counter_of_epochs_is_resumed_in_the_order_of_the_epochs(tmp_path):
    text = session(range(1, 21)) + session(range(19, 25))
    curve = curve_of(tmp_path, text, column="G_A")
    assert curve.loss.tolist() == [round(e + i / 1000, 3) for e in range(1, 25) for i in (50, 90)]
    assert "steps of 'iters' go back 1 time, taken as a resumed run (keep-last): repeated rows, left out: 4" in said(
        curve
    )
    assert len(curve_of(tmp_path, text, column="G_A", resume="keep-first").loss) == 48


def test_sessions_from_the_first_epoch_on_are_several_runs(tmp_path):
    text = session(range(1, 11)) + session(range(1, 13), day=2)
    with pytest.raises(UserError, match="several runs; choose one with --where rows=FIRST-LAST: 1-20, 21-44; or"):
        curve_of(tmp_path, text, column="G_A")
    curve = curve_of(tmp_path, text, column="G_A", where="rows=21-44")
    assert (len(curve.loss), curve.loss[-1]) == (24, 24.09)
    assert "rows but 21-44, left out: 20 of 44" in said(curve)
    counted = curve_of(tmp_path, text, column="G_A", step="none")
    assert "'iters' goes back 21 times: the rows may be those of several runs or epochs" in said(counted)
    with pytest.raises(UserError, match="has the rows 1-44, and not 90-99"):
        curve_of(tmp_path, text, column="G_A", where="rows=90-99")


def test_what_a_refusal_of_epochs_tells_to_pass_works(tmp_path):
    runs = [(epoch, run + epoch / 100) for run, epochs in ((1, 6), (2, 9)) for epoch in range(epochs)]
    text = "".join(f"Epoch {epoch}, Loss: {loss}\n" for epoch, loss in runs)
    with pytest.raises(UserError, match="row 7: Epoch 0 comes after 5") as error:
        curve_of(tmp_path, text)
    ranges = re.findall(r"\d+-\d+", str(error.value).split("FIRST-LAST:")[1])
    assert [len(curve_of(tmp_path, text, where=f"rows={rows}").loss) for rows in ranges] == [6, 9]
    assert curve_of(tmp_path, text, resume="keep-last").loss[0] == 2
    assert "'Epoch' goes back 1 time" in said(curve_of(tmp_path, text, step="none"))


STEPS = "".join(f"Step {step} | Loss: {3 - step / 100} | lr 0.1\n" for step in range(60))
STRAYS = {
    "an evaluation's lines": STEPS + "Evaluation Results:\n   Loss: 0.53\n   Tokens: 12\n",
    "sentences": STEPS.lower() + ">>> kept the best model: a/b_best.pt, loss=16.02\nFinal: loss=0.48\n",
    "an epoch's means": STEPS + "".join(f"Epoch {epoch}: Loss: 2.5\n" for epoch in range(5)),
}


@pytest.mark.parametrize("name", STRAYS)
@pytest.mark.parametrize("reading", [{}, {"step": "none"}])
def test_lines_of_another_kind_are_left_out_and_said(tmp_path, name, reading):
    curve = curve_of(tmp_path, STRAYS[name], **reading)
    np.testing.assert_allclose(curve.loss, [3 - step / 100 for step in range(60)])
    left = "(such as summaries|at a step or epoch of those above|the heading of an evaluation), left out: [125]"
    assert re.search(left, said(curve))


def test_lines_of_two_kinds_are_said_where_none_is_the_mass(tmp_path):
    text = "".join(f"Step {at}: loss: 2.5\nround {at} of test, loss: 3.5\n" for at in range(20))
    text = text.replace("test", "trial")
    with pytest.raises(UserError, match="row 2: the step is missing"):
        curve_of(tmp_path, text)
    text = "".join(f"batch {at}: loss: 2.5\niter {at}: loss: 3.5\n" for at in range(20))
    assert "are of several kinds, with other steps or none: 20 of 40" in said(curve_of(tmp_path, text, step="none"))


def test_the_summary_of_an_epoch_with_a_step_of_its_own_is_left_out(tmp_path):
    text = ""
    for epoch in range(1, 11):
        text += "".join(
            f"| epoch {epoch:03d}: {at} / 30 loss={at}.5, num_updates={30 * epoch + at}\n" for at in (9, 19, 29)
        )
        text += f"| epoch {epoch:03d} | loss 7.5 | num_updates {30 * epoch + 30}\n"
    curve = curve_of(tmp_path, text)
    assert set(curve.loss) == {9.5, 19.5, 29.5}
    assert "lines of another kind at a step or epoch of those above, left out: 10 of 40" in said(curve)


def test_a_row_with_an_evaluation_and_a_training_loss_is_kept(tmp_path):
    text = "rollout/len,time/total_timesteps,train/loss,train/value_loss,eval/reward\n"
    text += "".join(f"{'' if at % 5 == 4 else 3},{at},{9 - at / 10},1,{5 if at % 5 == 4 else ''}\n" for at in range(20))
    assert len(curve_of(tmp_path, text, name="progress.csv").loss) == 20


def test_the_names_may_stand_in_any_comment_above_a_table(tmp_path):
    text = "#  step   rmse_val  rmse_trn  lr\n# Values may be nan.\n" + "".join(
        f"{at}  1.5 0.{at} 0.1\n" for at in (10, 20)
    )
    curve = curve_of(tmp_path, text, column="rmse_trn")
    assert (curve.step_column, curve.steps.tolist()) == ("step", [10, 20])


def test_the_first_column_of_a_table_without_names_counts(tmp_path):
    text = "".join(f"{10 * at},9,{3 - at / 10}\n" for at in range(10))
    assert curve_of(tmp_path, text, column="3").step_column == "1"
    assert curve_of(tmp_path, text, column="1").step_column is None
    times = "".join(f"2024-01-02 03:04:0{at},{at},{3 - at / 10},0.0,0.0\n" for at in range(10))
    for name in ("log.csv", "log.txt"):
        curve = curve_of(tmp_path, times, name=name, column="3")
        assert (curve.step_column, len(curve.loss)) == ("2", 10)


@pytest.mark.parametrize(
    ("text", "column", "steps"),
    [
        ("".join(f"n: {at}loss: tensor({at}.5, grad_fn=<MulBackward0>)\n" for at in range(9)), "loss", None),
        ("".join(f"Epoch:[{e}/2]({at}/30) loss:2.{at} lr:0.1\n" for e in (1, 2) for at in (10, 20)), "loss", "step"),
        (
            "".join(
                f"DLLL {json.dumps({'type': 'LOG', 'step': [0, at], 'data': {'step_loss': at / 7}})}\n"
                for at in range(9)
            ),
            "data/step_loss",
            "step",
        ),
    ],
)
def test_more_ways_to_write_a_line(tmp_path, text, column, steps):
    curve = curve_of(tmp_path, text)
    assert (curve.column, curve.step_column) == (column, steps)
    assert curve.steps.tolist() in (list(range(9)), [10, 20, 40, 50])


def test_words_of_an_error_are_no_columns(tmp_path):
    text = "".join(f"{at}it [00:01, 2.5it/s]{at}.25\n" for at in range(20))
    with pytest.raises(UserError, match=r"is none of these: .*; --pattern REGEX reads other lines"):
        curve_of(tmp_path, text + "IndexError: index 7 is out of bounds with size 7\n" * 2)


def test_a_cell_that_only_begins_with_a_number_is_refused_with_a_way(tmp_path):
    text = "at,value\n" + "".join(f"{at},{at}.5 (kept)\n" for at in range(5))
    with pytest.raises(UserError, match=r"row 1: '0.5 \(kept\)' is not a number .*; --pattern reads") as error:
        curve_of(tmp_path, text, column="value")
    (pattern,) = re.findall("'([^']*)'$", str(error.value))
    assert curve_of(tmp_path, text, pattern=pattern).loss.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]


BOX = "+-----+-----+\n| GPU | Power |\n|=====+=====|\n|  0  | 300 |\n+-----+-----+\n|  1  | 310 |\n+-----+-----+\n"
SETTINGS = "+---+---+\n| Name | Value |\n+---+---+\n| rows | 5 |\n| seed | 7 |\n+---+---+\n| parts | 2 |\n| size | 3|\n"


@pytest.mark.parametrize("box", [BOX, BOX + "\n" + BOX, SETTINGS, "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n"])
def test_a_table_without_a_loss_does_not_win_over_lines_with_one(tmp_path, box):
    curve = curve_of(tmp_path, "Starting.\n" + box + STEPS.replace(" | lr", " (+nanz)| lr"))
    assert (curve.kind, len(curve.loss)) == ("console", 60)


def test_a_hole_in_a_log_is_left_out_and_said(tmp_path):
    lines = STEPS.encode().splitlines(keepends=True)
    for hole in (b"\0" * 10_000, b"\0" * 100):
        curve = curve_of(tmp_path, hole + b"".join(lines))
        assert len(curve.loss) == 60
        assert "blocks of NUL bytes, as a crash leaves them, left out: 1" in said(curve)
    assert without_holes(b"x" * 10**6 + b"\n" + b"\0" * 99 + b"y\nz" + b"\0" * 99) == (b"x" * 10**6 + b"\ny\n", 2)
    torn = curve_of(tmp_path, b"".join(lines[:30]) + lines[30][:-12] + b"\0" * 100 + b"".join(lines[31:]))
    assert torn.steps.tolist() == [at for at in range(60) if at != 30]


def test_all_losses_are_offered_and_those_not_taken_are_named(tmp_path):
    text = "step,a_loss,b_loss,avg_loss_all\n" + "".join(f"{at},1,2,{3 + at}\n" for at in range(5))
    with pytest.raises(UserError, match="choose one with --column: a_loss, b_loss, avg_loss_all"):
        curve_of(tmp_path, text)
    curve = curve_of(tmp_path, text.replace("avg_loss_all", "loss"))
    assert (curve.column, said(curve)) == ("loss", "not taken, though named like losses: a_loss, b_loss")


def test_the_last_value_of_a_meter_is_no_validation(tmp_path):
    text = "step,loss_val,loss_avg\n" + "".join(f"{at},{at}.5,1\n" for at in range(5))
    assert curve_of(tmp_path, text).column == "loss_val"
    assert curve_of(tmp_path, text.replace("avg", "train")).column == "loss_train"


def test_a_line_of_blanks_takes_no_longer_than_its_length(tmp_path):
    lines = [f"{word}{' ' * 20_000}{end}\n" for word in ("epoch", "train", "epoch 1") for end in ("", "x", "[1")]
    assert len(curve_of(tmp_path, STEPS + "".join(lines)).loss) == 60


@pytest.mark.parametrize(
    "line",
    [
        "2017-08-18 02:43:53,914:\tLoss at step {}: {}",
        "Average loss at step {} : {}",
        "[train] loss after iteration {} = {}",
    ],
)
def test_a_loss_that_is_named_before_its_step_is_no_step(tmp_path, line):
    text = "".join(line.format(step, 8 - step / 100) + "\n" for step in range(10, 60, 10))
    text += "Validation loss at step 50: 9.5\n"
    curve = curve_of(tmp_path, text)
    assert (curve.steps.tolist(), curve.loss.tolist()) == ([10, 20, 30, 40, 50], [7.9, 7.8, 7.7, 7.6, 7.5])


def test_the_few_means_of_epochs_beside_the_values_of_steps_are_asked_for(tmp_path):
    text = "".join(
        "".join(f"Epoch [{e}/9], Step [{i}/90], CrossEntropyLoss: {9 - e - i / 100}\n" for i in range(5, 95, 5))
        + f"Epoch [{e}/9], Train Loss: {8.5 - e}, Valid Loss: 9.0\n"
        for e in range(1, 9)
    )
    with pytest.raises(
        UserError, match=r"'Train Loss' has a tenth .*, or fewer; .* --column: Train Loss, CrossEntropyL"
    ):
        curve_of(tmp_path, text)
    assert len(curve_of(tmp_path, text, column="CrossEntropyLoss").loss) == 8 * 18
    assert curve_of(tmp_path, text, column="Train Loss").loss.tolist() == [8.5 - e for e in range(1, 9)]


def test_a_number_before_brackets_is_the_step(tmp_path):
    run = "".join(f"{step} [D loss: {2 - step / 50}, acc.: 51.56%] [G loss: 0.6{step}]\n" for step in range(40))
    curve = curve_of(tmp_path, run, column="D loss")
    assert (curve.step_column, curve.steps.tolist()) == ("step", list(range(40)))
    with pytest.raises(UserError, match="several runs; choose one with --where rows=FIRST-LAST: 1-40, 41-80"):
        curve_of(tmp_path, run + run.replace("D loss: 1", "D loss: 3"), column="D loss")


def of_runs(names, steps=None):
    """Rows of 40 losses, each under the name of its run."""
    rows = [f"{name},{4 - i / 20}" if steps is None else f"{name},{4 - i / 20},{i}" for i, name in enumerate(names)]
    return "\n".join(["run,loss" + ",step" * (steps is not None), *rows])


def test_runs_that_a_column_names_are_told_apart_where_no_step_goes_back(tmp_path):
    with pytest.raises(
        UserError, match="'run' names several runs; choose one with --where run=VALUE: a, b; or --step"
    ) as error:
        curve_of(tmp_path, of_runs("a" * 20 + "b" * 20))
    assert "\n" not in str(error.value)
    assert curve_of(tmp_path, of_runs("a" * 20 + "b" * 20), where="run=b").loss[0] == 3
    assert len(curve_of(tmp_path, of_runs("a" * 20 + "b" * 20), step="none").loss) == 40
    with pytest.raises(UserError, match="or --resume keep-last takes all as one"):
        curve_of(tmp_path, of_runs("ab" * 20, steps=True))
    assert len(curve_of(tmp_path, of_runs("ab" * 20, steps=True), resume="keep-last").loss) == 40


def test_runs_that_continue_each_others_steps_are_one_and_said(tmp_path):
    curve = curve_of(tmp_path, of_runs("a" * 20 + "b" * 20, steps=True))
    assert curve.steps.tolist() == list(range(40))
    assert "'run' has 2 values, taken as one run, as the steps rise through all of them" in said(curve)


def test_a_name_of_each_row_and_a_run_named_once_are_no_several_runs(tmp_path):
    assert curve_of(tmp_path, "name,loss\n" + "".join(f"epoch_{i},{4 - i}\n" for i in range(4))).notes == ()
    named_once = "run,loss\na,4\n,3\n,2\n"
    assert curve_of(tmp_path, named_once).loss.tolist() == [4, 3, 2]


@pytest.mark.parametrize("arrow", [" -> ", "->", " --> ", " => ", " ==> ", " → "])
def test_of_two_values_with_an_arrow_between_the_taken_one_is_said(tmp_path, arrow):
    text = "".join(f"step {at} loss: 1{at}.0{arrow}{at}.5 lr 0.1\n" for at in range(1, 6))
    curve = curve_of(tmp_path, text)
    assert curve.loss.tolist() == [11, 12, 13, 14, 15]
    assert "'loss' is what stands before an arrow, --column 'loss ->' what follows it" in said(curve)
    assert curve_of(tmp_path, text, column="loss ->").loss.tolist() == [1.5, 2.5, 3.5, 4.5, 5.5]


def test_a_step_before_an_arrow_is_said_and_an_arrow_of_another_column_is_not(tmp_path):
    text = "".join(f"step {at} -> {at + 10} loss 2.{at} lr: 0.1 -> 0.01\n" for at in range(1, 6))
    curve = curve_of(tmp_path, text)
    assert curve.steps.tolist() == [1, 2, 3, 4, 5]
    assert said(curve) == "'step' is what stands before an arrow, --step 'step ->' what follows it"
    assert curve_of(tmp_path, text, step="step ->").steps.tolist() == [11, 12, 13, 14, 15]


def test_a_loss_of_another_name_with_an_arrow_is_refused_with_both_sides(tmp_path):
    text = "".join(f"step {at} train_loss: 1{at}.0 -> {at}.5\n" for at in range(1, 6))
    with pytest.raises(UserError, match="choose one with --column: train_loss, train_loss ->"):
        curve_of(tmp_path, text)


def named(number):
    """Return a name of letters alone, so that no two differ in digits."""
    return "k" + "".join("abcdefghij"[int(digit)] for digit in str(number))


def test_names_that_each_line_has_anew_take_little_memory(tmp_path):
    text = "".join(
        f"step: {at} loss: {2 + 1 / (at + 1):.4f} {' '.join(f'{named(at * 5 + one)}: {at}.5' for one in range(5))}\n"
        for at in range(4000)
    )
    tracemalloc.start()
    assert len(curve_of(tmp_path, text).loss) == 4000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * len(text)


@pytest.mark.parametrize("ending", ["log", "jsonl"])
def test_more_empty_cells_than_memory_is_for_are_refused_with_a_way(tmp_path, ending):
    rows = ({"step": at, "loss": 2.5} | {named(at // 2 * 5 + one): at + 0.5 for one in range(5)} for at in range(6000))
    lines = (json.dumps(row) if ending == "jsonl" else " ".join(f"{k}: {v}" for k, v in row.items()) for row in rows)
    with pytest.raises(UserError, match=r"rows with 15002 names, of which few .*; --pattern"):
        curve_of(tmp_path, "\n".join(lines) + "\n", f"log.{ending}")


def test_an_epochs_heading_holds_for_the_steps_below_it(tmp_path):
    text = "".join(
        f"Epoch {epoch}/6\n"
        + "".join(f"step {step}/40 - loss: {9 - epoch - step / 100:.2f}\n" for step in (10, 20, 30))
        for epoch in range(1, 7)
    )
    curve = curve_of(tmp_path, text)
    assert (curve.loss.tolist()[:3], len(curve.loss), curve.step_column) == ([7.9, 7.8, 7.7], 18, None)
    assert "rows are counted, for 'step' begins again in every epoch" in said(curve)


def test_runs_whose_epochs_begin_again_above_the_means_are_refused(tmp_path):
    one = "".join(f"Epoch: 000{at}\niter:0020 grad: 0.5\nthis epoch:\nloss= {9 - at}.5\n" for at in range(1, 9))
    with pytest.raises(UserError, match="Epoch 1 comes after 8, as in several runs"):
        curve_of(tmp_path, one * 2)


@pytest.mark.parametrize(
    ("form", "column"),
    [
        ("{at} train {loss}\n{at} val 9.5\n", "train"),
        ("epoch{at}\t{loss}\n", "value"),
        ("Loss at epoch 0 and iteration {at} is {loss}\nNCE Loss at epoch 0 and iteration {at} is 1.5\n", "Loss"),
        ("Training iter #{at}: Batch Loss = {loss}, Accuracy = 0.9\n", "Batch Loss"),
    ],
)
def test_more_lines_with_a_step_and_a_loss(tmp_path, form, column):
    text = "".join(form.format(at=at, loss=f"{9 - at / 10:.1f}") for at in range(1, 12))
    curve = curve_of(tmp_path, text)
    assert (curve.column, curve.steps.tolist()) == (column, list(range(1, 12)))
    np.testing.assert_allclose(curve.loss, 9 - np.arange(1, 12) / 10)


def test_the_training_beside_the_validation_is_the_loss_and_said(tmp_path):
    curve = curve_of(tmp_path, json.dumps({"train": [2.5, 2.25, 2.0], "val": [2.75, 2.5, 2.5]}), "a.json")
    assert (curve.column, curve.loss.tolist()) == ("train", [2.5, 2.25, 2.0])
    assert "no column is named loss: 'train' is taken for it" in said(curve)
    with pytest.raises(UserError, match="no column is named like a training loss"):
        curve_of(tmp_path, json.dumps({"train": [500, 600, 700], "val": [100, 200, 300]}), "sizes.json")


@pytest.mark.parametrize("text", ["0\n1.5\n1.25\n-1.0\n", ",0\n0,1.5\n1,1.25\n2,-1.0\n"])
def test_what_pandas_calls_a_column_without_a_name_is_no_loss(tmp_path, text):
    assert curve_of(tmp_path, text, "train_loss.csv").loss.tolist() == [1.5, 1.25, -1.0]


def test_a_zero_above_whole_numbers_is_a_row(tmp_path):
    assert curve_of(tmp_path, "0\n3\n2\n1\n", "train_loss.csv").loss.tolist() == [0, 3, 2, 1]


def test_trainings_that_a_sum_parts_are_said(tmp_path):
    one = [{"loss": 1.5 - epoch / 10, "epoch": epoch} for epoch in range(1, 11)]
    two = [{"loss": 0.5, "epoch": 9}, {"loss": 0.25, "epoch": 11}]
    end = {"train_runtime": 11.5, "train_loss": 1.25, "epoch": 11.0}
    rows = [*one, end, *two, end]
    note = "several trainings may be joined: sums of a whole one lie between the rows: 1"
    assert note in said(curve_of(tmp_path, "".join(f"{row}\n" for row in rows)))


def test_a_mean_of_another_loss_leaves_it_open_which_is_the_loss(tmp_path):
    text = "".join(f"Epoch {at} Average Loss_G: 0.{at + 10}, Loss_D: 0.3\n" for at in range(12))
    with pytest.raises(UserError, match="several columns may be the loss; choose one with --column: Loss_D, Average"):
        curve_of(tmp_path, text)


def test_a_name_that_tells_an_evaluation_from_the_training_does(tmp_path):
    text = "".join(f"[train_loop] step {at} loss {9 - at}.5\n[eval_loop] step {at} loss 9.5\n" for at in range(9))
    assert curve_of(tmp_path, text).loss.tolist() == [9.5 - at for at in range(9)]


def test_a_list_of_rows_as_python_prints_it_is_read(tmp_path):
    rows = [{"eval_loss": 2.75, "epoch": 1.0, "step": 7}]
    rows += [{"loss": 2.5 - at / 10, "epoch": 1.5, "step": 10 * at} for at in range(1, 9)]
    rows += [{"loss": float("nan"), "epoch": 1.5, "step": 90}]
    curve = curve_of(tmp_path, repr(rows), "history.txt")
    assert curve.steps.tolist() == [10 * at for at in range(1, 10)]
    np.testing.assert_allclose(curve.loss, [*(2.5 - at / 10 for at in range(1, 9)), np.nan])


def test_numbers_in_a_file_named_otherwise_are_said(tmp_path):
    text = "".join(f"0.{at + 10}\n" for at in range(30))
    assert said(curve_of(tmp_path, text, "train_loss.txt")) == ""
    for name in ("accuracy.txt", "val_loss.txt"):
        assert "no column is named loss: '1' is taken for it" in said(curve_of(tmp_path, text, name))


def test_a_long_line_is_parted_or_it_is_said_how_much_of_it_was_looked_at(tmp_path):
    glued = "".join(f"epoch: {at}/300, train_loss: {9 - at / 100:.2f}, note: {'x' * 20} 0.5" for at in range(1, 301))
    curve = curve_of(tmp_path, f"begin\n{glued}\n")
    assert (len(curve.loss), curve.steps[-1]) == (300, 300)
    assert "lines that no end of a line parted, parted: 1" in said(curve)
    text = "".join(f"step {at} {'x ' * (3000 * (at == 7))} loss {9 - at / 10}\n" for at in range(12))
    assert "lines of which only 5,000 characters were looked at: 1" in said(curve_of(tmp_path, text, "long.log"))


def test_lines_that_say_of_the_test_what_others_say_of_the_training_are_left_out(tmp_path):
    text = "".join(
        f"Epoch: {at} | Train. Acc.: 95.0% | Loss: {9 - at / 10:.1f}\nEpoch: {at} | Test. Acc.: 90.0% | Loss: 12.5\n"
        for at in range(1, 20)
    )
    curve = curve_of(tmp_path, text)
    np.testing.assert_allclose(curve.loss, 9 - np.arange(1, 20) / 10)
    assert "lines that say the same of an evaluation, left out: 19" in said(curve)


def test_bars_that_show_a_step_before_they_count_it_have_a_row_for_each(tmp_path):
    bar = "Epoch {epoch}:  {at}%|##    | {at}/20 [00:0{at}<00:09,  2.20s/it, loss:{loss}]"
    text = "".join(
        f"\r{bar.format(epoch=epoch, at=at, loss=9 - epoch - step / 100)}"
        for epoch in range(3)
        for step in range(20)
        for at in (step, step + 1)
    )
    curve = curve_of(tmp_path, text)
    np.testing.assert_allclose(curve.loss, [9 - epoch - step / 100 for epoch in range(3) for step in range(20)])


def test_rows_that_each_sum_up_a_training_are_said(tmp_path):
    rows = [{"train_runtime": 11.2 + at, "train_loss": 1.5 - at / 10, "epoch": 1.0} for at in range(4)]
    curve = curve_of(tmp_path, "".join(f"{row}\n" for row in rows))
    assert "each row sums up a training" in said(curve)


def test_an_epoch_with_several_rows_where_most_have_one_is_told(tmp_path):
    epochs = [0, 0, 0, *range(10)]
    text = "".join(f"Epoch {epoch}: Train Loss: {3 - at / 10:.2f}\n" for at, epoch in enumerate(epochs))
    assert "Epoch 0 has 4 rows, where most have one: they may be those of several runs" in said(
        curve_of(tmp_path, text)
    )
    text = "".join(f"Epoch {epoch / 100}: Train Loss: 2.5\n" for epoch in (1, 2, 3, 3, 4, 5, 6, 7))  # rounded
    assert "several runs" not in said(curve_of(tmp_path, text))


def test_trainings_that_end_below_each_other_are_told(tmp_path):
    one = "Epoch 1/1, Loss: {}\nValidation Loss: 0.7601\nTraining completed.\nTraced model saved to traced_model.pt\n"
    text = "".join(map(one.format, (12.25, 12.5, 15.25, 15.5)))
    assert "lines such as 'training completed' above losses: 3; the rows may be" in said(curve_of(tmp_path, text))


def test_a_loss_of_epochs_beside_an_error_of_batches_is_asked_about(tmp_path):
    batches = [f"Batch {at} - Train error {0.7 - at / 100:.4f}\n" for at in range(30)]
    text = "".join("".join(batches) + f"Training Epoch: {epoch}, Loss: 0.2{epoch}18.\n" for epoch in (1, 2))
    with pytest.raises(UserError, match=r"'Loss' has a tenth of the values of others, or fewer; .* Loss, Train error"):
        curve_of(tmp_path, text)
    assert len(curve_of(tmp_path, text, column="Train error", step="none").loss) == 60


def test_the_length_of_a_time_step_is_no_step(tmp_path):
    losses = "".join(f"loss {3 - at / 10:.2f}\n" for at in range(9))
    text = f"Stable time step: 0.007\nSaving at step: 5.\n{losses}Stable time step: 0.007\n{losses}"
    curve = curve_of(tmp_path, text)
    assert (curve.step_column, len(curve.loss)) == (None, 18)


def test_an_epoch_in_brackets_behind_iter_is_one(tmp_path):
    text = "".join(
        f"[2024/11/13 23:16:31] - Iter: [{epoch}][{at}/391]\tLoss {3 - epoch - at / 1000} (2.302)\n"
        for epoch in range(2)
        for at in range(0, 391, 50)
    )
    curve = curve_of(tmp_path, text)
    assert (curve.steps.tolist()[:3], curve.steps.tolist()[8:10]) == ([0, 50, 100], [391, 441])


def test_a_number_and_a_loss_with_a_dash_between_are_a_step_and_its_loss(tmp_path):
    curve = curve_of(tmp_path, "".join(f"{at:04d}-{30 / at:.4f}\n" for at in range(1, 30)), "loss.txt")
    assert (curve.steps.tolist(), curve.loss[0], curve.loss[9]) == (list(range(1, 30)), 30.0, 3.0)


def test_losses_that_only_an_evaluation_has_can_be_chosen(tmp_path):
    text = "".join(f"validating:\nmin_loss:None, val_loss:{3 - at / 10:.2f}, val_f1:0.5\n" for at in range(9))
    with pytest.raises(UserError, match=r"choose one with --column: .*val_loss"):
        curve_of(tmp_path, text)
    assert len(curve_of(tmp_path, text, column="val_loss").loss) == 9
