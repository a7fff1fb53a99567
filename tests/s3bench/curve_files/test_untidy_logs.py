"""Logs of public repositories that are nearly a table or a console's pairs: each is read right, and said how."""

import json

import numpy as np
import pytest

from s3bench.errors import UserError
from tests.s3bench.curve_files.logs import curve_of, said


def test_numbers_that_are_wrapped_as_tensors_are_numbers(tmp_path):
    text = "Epoch,Train_loss\n" + "".join(
        f"{at},\"tensor({3 - at / 10:.1f}, device='cuda:0', grad_fn=<DivBackward0>)\"\n" for at in range(1, 9)
    )
    curve = curve_of(tmp_path, text, "losses.csv")
    assert curve.loss.tolist() == [2.9, 2.8, 2.7, 2.6, 2.5, 2.4, 2.3, 2.2]
    assert curve.step_column == "Epoch"
    bare = "epoch,loss\n" + "".join(f"{at},tensor({3 - at / 10:.1f}, requires_grad=True)\n" for at in range(1, 9))
    assert curve_of(tmp_path, bare).loss.tolist() == curve.loss.tolist()


def test_values_in_brackets_belong_to_the_words_before_them(tmp_path):
    text = "".join(
        f"Epoch [{e}] Batch [{b}] Disc Loss [1.{b}] Gen Loss [0.{e}{b}]\n" for e in (0, 1) for b in (1, 2, 3)
    )
    with pytest.raises(UserError, match="choose one with --column: Disc Loss, Gen Loss"):
        curve_of(tmp_path, text)
    assert curve_of(tmp_path, text, column="Gen Loss").loss.tolist() == [0.01, 0.02, 0.03, 0.11, 0.12, 0.13]
    assert curve_of(tmp_path, "".join(f"step {at} loss: [2.{at}]\n" for at in range(5))).loss.tolist()[-1] == 2.4


def test_a_fraction_of_the_epochs_before_the_word_is_the_epoch(tmp_path):
    text = "".join(f"{at}/10 epoch G_loss : {4 - at / 10:.1f}, D_loss : 0.{at} \n" for at in range(1, 9))
    with pytest.raises(UserError, match="several columns may be the loss; choose one with --column: G_loss, D_loss"):
        curve_of(tmp_path, text)
    curve = curve_of(tmp_path, text, column="G_loss")
    assert curve.steps.tolist() == list(range(1, 9))
    assert curve.loss[0] == 3.9


def test_a_number_alone_after_the_epoch_is_the_loss(tmp_path):
    curve = curve_of(tmp_path, "".join(f"epoch {at}:{900.5 - at}\n" for at in range(6)))
    assert (curve.column, curve.step_column) == ("value", "step")
    assert curve.loss.tolist() == [900.5, 899.5, 898.5, 897.5, 896.5, 895.5]


def test_the_time_per_step_is_no_step(tmp_path):
    text = "".join(f"Average per iter: 0.31{at} second.\nloss:{2 - at / 10}\n" for at in range(6))
    curve = curve_of(tmp_path, text)
    assert (len(curve.loss), curve.step_column) == (6, None)


@pytest.mark.parametrize("separator", [" ", ", ", "\t"])
def test_a_long_row_of_numbers_is_a_curve(tmp_path, separator):
    losses = [f"{3 - at / 1000:.3f}" for at in range(900)]
    curve = curve_of(tmp_path, separator.join(losses) + "\n")
    assert curve.loss.tolist() == [float(loss) for loss in losses]
    assert "a row of 900 numbers, taken as a column" in said(curve)


def test_several_long_rows_are_a_curve_each(tmp_path):
    text = "\n".join(",".join(f"{row}.{at:03d}" for at in range(100)) for row in (5, 7))
    with pytest.raises(UserError, match="choose one with --column: 1, 2"):
        curve_of(tmp_path, text, "loss.csv")
    curve = curve_of(tmp_path, text, "loss.csv", column="2")
    assert (len(curve.loss), curve.loss[0], curve.loss[-1]) == (100, 7.0, 7.099)
    assert "2 rows of 100 numbers, taken as a column each" in said(curve)


def test_headings_with_a_number_between_the_losses_are_left_out(tmp_path):
    losses = [float(f"1.{epoch}{at}") for epoch in range(1, 6) for at in range(1, 9)]
    text = "".join(f"epoch {epoch}\n\n" + "".join(f"1.{epoch}{at}\n" for at in range(1, 9)) for epoch in range(1, 6))
    curve = curve_of(tmp_path, text, "losses.txt")
    assert curve.loss.tolist() == losses
    assert "headings such as 'epoch 1', left out: 5" in said(curve)


def test_words_below_the_last_loss_between_headings_are_left_out_and_a_nan_is_not(tmp_path):
    losses = [f"1.{epoch}{at}" for epoch in range(3) for at in range(1, 9)]
    text = "".join(f"Epoch {epoch}\n" + "\n".join(losses[8 * epoch : 8 * epoch + 8]) + "\n" for epoch in range(3))
    curve = curve_of(tmp_path, text + "nan\nDone!\nSaved the model.\n", "train_log.txt")
    assert curve.loss[:-1].tolist() == list(map(float, losses))
    assert np.isnan(curve.loss[-1])
    assert "lines of text at the end, left out: 2" in said(curve)


def test_other_words_between_numbers_may_begin_another_curve(tmp_path):
    text = "Generator loss:\n" + "2.5\n" * 9 + "Discriminator loss:\n" + "0.5\n" * 9
    with pytest.raises(UserError, match=r"is not a number.*--where rows=FIRST-LAST takes some of"):
        curve_of(tmp_path, text)
    assert curve_of(tmp_path, text, where="rows=11-19").loss.tolist() == [0.5] * 9


def test_a_few_longer_rows_are_left_out_and_said(tmp_path):
    rows = [f"{epoch},{batch},0.{epoch}{batch:02d}" for epoch in range(1, 4) for batch in range(1, 40)]
    rows.insert(39, "Epoch 1 Summary,train_loss=0.72,val_loss=1.87,val_acc=0.53")
    text = "epoch,batch,loss\n" + "\n".join(rows) + "\n"
    curve = curve_of(tmp_path, text, "log.csv")
    assert (len(curve.loss), curve.loss[39]) == (117, 0.201)
    assert "rows with more cells than there are names, left out: 1" in said(curve)
    with pytest.raises(UserError, match="cannot be read as CSV"):
        curve_of(tmp_path, "epoch,loss\n1,2.5\n2,2.4,8\n3,2.3,8\n4,2.2\n", "log.csv")


def test_a_tqdm_bar_shows_each_step_twice_and_first_with_the_loss_before(tmp_path):
    text, loss = "", 9.0
    for at in range(1, 9):
        text += f"Epoch 0:   {at}%|#  | {at}/80 [00:05<43:12,  0.19it/s, v_num=0, train/loss={loss}]\r"
        loss = round(9 - at / 10, 1)
        text += f"Epoch 0:   {at}%|#  | {at}/80 [00:05<43:12,  0.19it/s, v_num=0, train/loss={loss}]\r"
    curve = curve_of(tmp_path, text)
    assert curve.steps.tolist() == list(range(1, 9))
    assert curve.loss.tolist() == [8.9, 8.8, 8.7, 8.6, 8.5, 8.4, 8.3, 8.2]
    assert "lines of a progress bar before its last, left out: 8" in said(curve)


def test_steps_that_are_rounded_to_thousands_are_counted(tmp_path):
    steps = ["400", "600", "800", "1K", "1K", "1K", "2K", "2K"]
    curve = curve_of(tmp_path, "".join(f"step:{step} smpl:13K loss:2.{at}15\n" for at, step in enumerate(steps)))
    assert curve.steps.tolist() == list(range(8))
    assert "rows are counted, for 'step' is rounded" in said(curve)
    twice = "".join(f"step:{at} loss:2.{at}\nstep:{at} loss:3.{at}\n" for at in (500, 1000, 2000))
    with pytest.raises(UserError, match="step 500 appears twice"):
        curve_of(tmp_path, twice)


def test_columns_of_one_name_have_the_titles_above_them(tmp_path):
    text = (
        "┏━━━━━━━━━┳━━╸T╺╸R╺╸A╺╸I╺╸N╺━━┳━━╸V╺╸A╺╸L╺╸I╺╸D╺━━┓\n"
        "┃         ┃         ╷         ┃         ╷         ┃\n"
        "┃  epoch  ┃  loss   │   acc   ┃  loss   │   acc   ┃\n"
        "┠─────────╂─────────┼─────────╂─────────┼─────────┨\n"
    )
    for at in range(6):
        text += f"┃      {at}  ┃   1.{at}   │    20 % ┃   3.{at}   │    30 % ┃\n"
        text += f"   3.{at}   │    30 % ┃\n"  # the end of a bar that the row replaced
    curve = curve_of(tmp_path, text)
    assert (curve.column, curve.loss.tolist()) == ("TRAIN loss", [1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    assert curve_of(tmp_path, text, column="VALID loss").loss.tolist()[-1] == 3.5
    assert "lines beside the table, left out: 7" in said(curve)


def test_text_of_another_encoding_is_text(tmp_path):
    text = "".join(f"epoch: {at}, 损失 loss: 2.{at}\n" for at in range(6)) + "──────" * 300
    curve = curve_of(tmp_path, text.encode("gbk"))
    assert curve.loss.tolist() == [2.0, 2.1, 2.2, 2.3, 2.4, 2.5]


def test_a_step_that_few_rows_have_is_not_theirs(tmp_path):
    text = "".join(f"Epoch[0] Batch [{at}] Speed: 9.1 samples/sec\tTrain-loss=2.{at}\n" for at in range(20, 90, 10))
    text = text.replace("Batch [50]", "Update[340]: Batch [50]")
    curve = curve_of(tmp_path, text)
    assert (len(curve.loss), curve.step_column) == (7, "Batch")


def test_a_notebook_is_read_by_what_its_cells_printed(tmp_path):
    stream = {"output_type": "stream", "name": "stdout", "text": [f"step {at} loss 2.{at}\n" for at in range(5)]}
    shown = {"output_type": "execute_result", "data": {"text/plain": "'step 5 loss 2.5'"}}
    cell = {"cell_type": "code", "source": ["loss = 9.9"], "outputs": [stream, shown]}
    notebook = {"cells": [{"cell_type": "markdown", "source": ["# loss 8.8"]}, cell], "nbformat": 4}
    curve = curve_of(tmp_path, json.dumps(notebook))
    assert curve.loss.tolist() == [2.0, 2.1, 2.2, 2.3, 2.4, 2.5]
    assert "a notebook: what its cells printed" in said(curve)
    with pytest.raises(UserError, match="a notebook whose cells have printed nothing"):
        curve_of(tmp_path, json.dumps(notebook | {"cells": []}))


@pytest.mark.parametrize("footer", ["mean,1.23\n", ",1.23\n", "\nAverage,1.23\nMax,2.3\n"])
@pytest.mark.parametrize("name", ["step", "epoch"])
def test_what_stands_below_a_table_is_no_row_of_it(tmp_path, name, footer):
    rows = f"{name},loss\n" + "".join(f"{at},2.{at}\n" for at in range(9))
    curve = curve_of(tmp_path, rows + footer)
    assert (len(curve.loss), curve.step_column) == (9, name)
    assert "rows at the end without a step" in said(curve)


def test_runs_below_headings_that_name_them_are_refused(tmp_path):
    runs = "".join(f"Seed: {seed}\n" + "".join(f"loss: {seed}.{at}\n" for at in range(9)) for seed in (1, 2))
    with pytest.raises(UserError, match="'Seed' names several runs; choose one with --where Seed=VALUE: 1, 2"):
        curve_of(tmp_path, runs)
    assert curve_of(tmp_path, runs, where="Seed=2").loss[0] == 2.0


@pytest.mark.parametrize(
    "value", ["tf.Tensor({}, shape=(), dtype=float32)", "Array({}, dtype=float32, weak_type=True)", "jnp.float32({})"]
)
def test_a_number_in_a_tensor_is_read(tmp_path, value):
    text = "".join(f"step {at} loss: {value.format(f'2.{at}')}\n" for at in range(5))
    assert curve_of(tmp_path, text).loss.tolist() == [2.0, 2.1, 2.2, 2.3, 2.4]


def test_tables_of_the_same_names_are_one(tmp_path):
    head = "+-------+------+\n| Epoch | Loss |\n+-------+------+\n"
    curve = curve_of(tmp_path, "".join(f"{head}| {at:5} | 2.{at}0 |\n+-------+------+\n" for at in range(5)))
    assert (curve.loss.tolist(), curve.steps.tolist()) == ([2.0, 2.1, 2.2, 2.3, 2.4], list(range(5)))
    tables = "".join(head.replace("Loss", loss) + "| 1 | 2.5 |\n+---+---+\n" for loss in ("D loss", "G loss"))
    with pytest.raises(UserError, match=r"has several tables; .*: Epoch D loss, Epoch G loss"):
        curve_of(tmp_path, tables)


def test_rows_that_begin_with_their_names_are_columns(tmp_path):
    rows = {"epoch": range(1, 61), "train_loss": [3 - at / 50 for at in range(60)], "val_loss": [2.5] * 60}
    curve = curve_of(tmp_path, "".join(f"{name},{','.join(map(str, cells))}\n" for name, cells in rows.items()))
    assert (curve.column, curve.steps[-1], curve.loss[-1]) == ("train_loss", 60, pytest.approx(1.82))
    assert "3 rows of 60 numbers, taken as a column each" in said(curve)


def test_rows_by_their_numbers_are_rows_of_these_steps(tmp_path):
    curve = curve_of(tmp_path, json.dumps({str(at): {"train_loss": 2.5 - at / 10, "val_loss": 3} for at in range(4)}))
    assert (curve.steps.tolist(), curve.loss.tolist()) == ([0, 1, 2, 3], [2.5, 2.4, 2.3, 2.2])


def bars(epochs, batches, evaluated=0):
    """Return what a bar of a popular CIFAR-10 script prints: a line, and its count moved back into the bar."""
    lines = []
    for epoch in range(epochs):
        lines.append(f"\nEpoch: {epoch}\n")
        for count in (batches, evaluated):
            for batch in range(count):
                loss = 2.3 - 0.01 * (epoch * batches + batch) + (count == evaluated)
                line = f" [==>....]  Step: 12ms | Tot: {batch}s40ms | Loss: {loss:.3f} | Acc: 41.000% (40/128)"
                lines.append(f"{line}{' ' * 20}{chr(8) * 30} {batch + 1}/{count} " + "\r\n"[batch == count - 1])
    return "".join(lines)


def test_a_bar_that_moves_its_count_back_has_a_row_for_each_line(tmp_path):
    curve = curve_of(tmp_path, bars(6, 20))
    np.testing.assert_allclose(curve.loss, 2.3 - 0.01 * np.arange(120), atol=6e-4)


def test_a_bar_whose_count_begins_again_within_an_epoch_is_said(tmp_path):
    assert "'batch' begins again 6 times within one 'Epoch'" in said(curve_of(tmp_path, bars(6, 20, evaluated=20)))


def test_a_bar_that_is_drawn_anew_from_its_beginning_is_one_row_an_epoch(tmp_path):
    text = ""
    for epoch in range(8):
        text += f"Epoch {epoch + 1}/8\n"
        for batch in range(20):
            text += chr(8) * (40 * bool(batch)) + f"{batch + 1:2d}/20 [{'=' * batch}>] - ETA: 5s - loss: {9 - epoch}.25"
        text += "\n"
    np.testing.assert_allclose(curve_of(tmp_path, text).loss, 9.25 - np.arange(8))


def test_a_duration_named_like_a_step_is_no_step(tmp_path):
    text = "".join(f"Data: 0.01s | Batch: 0.{at % 3}00s | Loss: {9 - 0.1 * at:.3f}\n" for at in range(30))
    curve = curve_of(tmp_path, text)
    assert curve.step_column is None
    np.testing.assert_allclose(curve.loss, 9 - 0.1 * np.arange(30), atol=1e-9)


def test_a_carriage_return_alone_ends_a_row_also_in_a_table_with_blank_lines(tmp_path):
    curve = curve_of(tmp_path, "step;loss\r\n0;1.5\r\n\r\n1;2.5\r2;3.5\r\n3;2.5\r\n", "log.csv")
    assert (curve.steps.tolist(), curve.loss.tolist()) == ([0, 1, 2, 3], [1.5, 2.5, 3.5, 2.5])
    assert "blank lines, left out: 1" in said(curve)


def test_a_history_behind_a_loggers_words_is_read(tmp_path):
    history = {"val_loss": [3.5 + at for at in range(9)], "loss": [2.5 - at / 10 for at in range(9)]}
    before = "2018-09-15 22:55:41,311 -mine-INFO-fit:batch_size   :   16\n"
    curve = curve_of(tmp_path, f"{before}2018-09-16 19:41:41,939 -mine-INFO-fit:{history}\n{before}", "keras.log")
    assert curve.loss.tolist() == history["loss"]
    assert "other lines, left out: 2" in said(curve)


@pytest.mark.parametrize("separator", [",", ";", ", "])
def test_numbers_with_a_separator_at_each_line_end_are_one_column(tmp_path, separator):
    curve = curve_of(tmp_path, "".join(f"{9 - at}.25{separator}\n" for at in range(9)), "loss_curve.csv")
    assert curve.loss.tolist() == [9.25 - at for at in range(9)]
