"""Logs as people's own scripts and notebooks leave them: each is read right, and what is doubtful is said."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3bench.curve_files.html_table import drawn_tables
from s3bench.errors import UserError
from tests.s3bench.curve_files.logs import curve_of, said

LOSSES = [2.5, 2.25, 2.0, 1.75]


def lines(pattern, losses=LOSSES, first=1):
    return "".join(pattern.format(at=at, loss=loss) + "\n" for at, loss in enumerate(losses, start=first))


@pytest.mark.parametrize(
    "pattern",
    [
        "{at} epoch, loss: {loss}",
        "{at} epochs: loss={loss}",
        "{at}th epoch loss: {loss}",
        "{at}th iteration, loss {loss}",
        "-----Iteration: {at}-----\nLoss: {loss}",
        "===== Epoch {at} =====\nloss {loss}",
        "Round {at}\nserver stats: [loss: {loss}",
        "epoch {at} loss {loss} (val improved)",
        "epoch {at} loss {loss} (validation did not improve)",
        '{{"epoch": "{at}/400", "loss": {loss}}}',
        '{{"step": "step {at}", "loss": {loss}}}',
        "epoch:\t{at}\tlr:\t0.001\ttrainLoss\t{loss}",
        "epoch {at} train/val loss: {loss} / 2.6",
        "step {at} loss (train/valid): {loss}/2.6",
        "第{at}轮，训练损失：{loss}，验证损失：2.6，准确率：0.5",
        "第 {at} 次迭代 损失值: {loss}",
        "エポック {at} 損失: {loss} 検証損失: 2.6",
    ],
)
def test_steps_are_found_however_they_are_written(tmp_path, pattern):
    curve = curve_of(tmp_path, lines(pattern))
    assert (curve.loss.tolist(), curve.steps.tolist()) == (LOSSES, [1, 2, 3, 4])


@pytest.mark.parametrize("step", ["1/400", "[1/400]", "epoch 1", "1 of 400"])
def test_a_table_whose_steps_say_of_how_many_is_read_by_them(tmp_path, step):
    rows = "".join(f"{step.replace('1', str(at), 1)},{loss}\n" for at, loss in enumerate(LOSSES, start=1))
    curve = curve_of(tmp_path, f"epoch,loss\n{rows}")
    assert (curve.steps.tolist(), curve.step_column) == ([1, 2, 3, 4], "epoch")


def test_an_underscore_between_two_numbers_makes_no_number_of_them(tmp_path):
    with pytest.raises(UserError, match="--pattern"):
        curve_of(tmp_path, lines("{at}_{loss}"))
    curve = curve_of(tmp_path, lines("{at}_{loss}"), pattern=r"(?P<epoch>\d+)_(?P<loss>\S+)")
    assert curve.loss.tolist() == LOSSES


def test_thousands_with_underscores_are_numbers(tmp_path):
    curve = curve_of(tmp_path, "step,loss\n1_000,2.5\n2_000,2.25\n10_000,2.0\n")
    assert curve.steps.tolist() == [1000, 2000, 10000]


def test_comments_between_lines_of_json_are_left_out(tmp_path):
    text = lines('{{"epoch": {at}, "loss": {loss}}}').replace("\n", "\n// another batch size\n", 1)
    curve = curve_of(tmp_path, f"{text}\n# the end\n")
    assert (curve.loss.tolist(), said(curve)) == (LOSSES, "comment lines, left out: 2")


def test_names_in_a_comment_are_those_of_rows_that_begin_with_words(tmp_path):
    rows = "".join(f"adam,{at},{loss}\n" for at, loss in enumerate(LOSSES))
    curve = curve_of(tmp_path, f"#Model,Step,Loss\n{rows}")
    assert (curve.loss.tolist(), curve.column, curve.step_column) == (LOSSES, "Loss", "Step")


@pytest.mark.parametrize("name", ["cost", "Error", "train_cost", "objective", "MSE"])
def test_beside_steps_another_word_for_a_loss_is_taken_and_said(tmp_path, name):
    curve = curve_of(tmp_path, lines(f"Iteration: {{at}}, {name}: {{loss}}, accuracy: 0.5"))
    assert (curve.column, curve.loss.tolist()) == (name, LOSSES)
    assert f"no column is named loss: {name!r} is taken for it" in said(curve)


def test_a_pixel_loss_alone_is_the_loss_and_beside_another_term_is_asked_for(tmp_path):
    line = "INFO: [epoch:  0, iter: {at}, lr:(2.000e-04,)] l_pix: {loss}"
    curve = curve_of(tmp_path, lines(line))
    assert (curve.column, curve.loss.tolist()) == ("l_pix", LOSSES)
    assert "no column is named loss: 'l_pix' is taken for it" in said(curve)
    with pytest.raises(UserError, match="l_percep"):
        curve_of(tmp_path, lines(f"{line} l_percep: 0.5"))


@pytest.mark.parametrize(
    "text",
    [
        lines("Iteration {at} cost: {loss}s, accuracy: 0.5"),  # of time
        lines("cost: {loss}, accuracy: 0.5"),  # no steps
        lines("Iteration: {at}, errors: 3, accuracy: {loss}"),
        "step,nll,loss_tokens\n1,2.5,100\n2,2.25,100\n",
    ],
)
def test_a_word_that_may_be_something_else_is_asked_for(tmp_path, text):
    with pytest.raises(UserError, match="choose one with --column"):
        curve_of(tmp_path, text)


KERAS = "224/224 ━━━━━━━━━━━━━━━━━━━━ 10s 37ms/step - accuracy: 0.3 - loss: {loss}"


def test_a_keras_bar_that_is_shown_again_below_a_saved_model_counts_once(tmp_path):
    epoch = f"Epoch {{at}}/50\n{KERAS}0\nEpoch {{at}}: val_loss improved from inf to 1.3, saving model to model.h5\n"
    curve = curve_of(tmp_path, lines(f"{epoch}{KERAS} - val_accuracy: 0.5 - val_loss: 1.3"))
    assert (curve.loss.tolist(), curve.step_column) == (LOSSES, "Epoch")


def test_a_keras_bar_below_each_first_epoch_of_one_is_an_epoch_of_its_own(tmp_path):
    curve = curve_of(tmp_path, lines(f"Epoch 1/1\n{KERAS}"))
    assert curve.loss.tolist() == LOSSES


def test_bars_that_never_end_are_read_and_said(tmp_path):
    text = "".join(f" {at}/11408 [>.....] - ETA: 9:09 - loss: {loss}\n" for at, loss in enumerate(LOSSES, start=1))
    curve = curve_of(tmp_path, f"Epoch 1/5\n{text}")
    assert curve.loss.tolist() == LOSSES
    assert "no progress bar reached its end" in said(curve)


YOLO = "     Epoch   gpu_mem       box       obj       cls     total    labels  img_size"
YOLO8 = "      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size"


def yolo(header, cells):
    text = []
    for epoch, loss in enumerate(LOSSES):
        text.append(header)
        for share, value in ((97, loss + 1), (100, loss)):
            row = f"     {epoch}/299       11G   {cells.format(loss=value)}        25       640"
            text.append(f"{row}: {share}%|█████████▋| 37/38 [00:30<00:00,  1.22it/s]")
        text.append("                 Class     Images     Labels           P           R      mAP@.5")
        text.append("                   all        128        929       0.6       0.5       0.55")
    return "\n".join(text) + "\n"


def test_the_total_of_yolov7s_table_is_read_at_the_end_of_each_epoch(tmp_path):
    curve = curve_of(tmp_path, yolo(YOLO, "0.03018    0.0153         0   {loss}"))
    assert (curve.loss.tolist(), curve.steps.tolist()) == (LOSSES, [0, 1, 2, 3])
    assert "lines of a progress bar before its last, left out: 4" in said(curve)


def test_which_of_yolov8s_losses_is_asked(tmp_path):
    text = yolo(YOLO8, "{loss}    1.5    1.2")
    with pytest.raises(UserError, match="choose one with --column: box_loss, cls_loss, dfl_loss"):
        curve_of(tmp_path, text)
    assert curve_of(tmp_path, text, column="box_loss").loss.tolist() == LOSSES


def notebook(*cells, counts=(3, 7)):
    def cell(text, count):
        outputs = [{"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}]
        return {"cell_type": "code", "execution_count": count, "source": [], "outputs": outputs}

    return json.dumps({"nbformat": 4, "cells": [cell(*one) for one in zip(cells, counts, strict=True)]})


@pytest.mark.parametrize("pattern", ["epoch {at} loss {loss}", "loss: {loss} acc: 0.5"])
def test_trainings_of_several_cells_are_told_apart(tmp_path, pattern):
    text = notebook(lines(pattern), lines(pattern, [1.5, 1.25]))
    with pytest.raises(UserError, match="choose one with --where cell=VALUE: 3, 7"):
        curve_of(tmp_path, text)
    assert curve_of(tmp_path, text, where="cell=7").loss.tolist() == [1.5, 1.25]


def test_cells_without_execution_counts_are_counted_from_one(tmp_path):
    text = notebook(lines("loss: {loss} acc: 0.5"), lines("loss: {loss} acc: 0.5"), counts=(None, None))
    with pytest.raises(UserError, match="choose one with --where cell=VALUE: 1, 2"):
        curve_of(tmp_path, text)


def test_a_training_that_the_next_cell_continues_is_one_run(tmp_path):
    text = notebook(lines("epoch {at} loss {loss}"), lines("epoch {at} loss {loss}", [1.5, 1.25], first=5))
    curve = curve_of(tmp_path, text)
    assert curve.loss.tolist() == [*LOSSES, 1.5, 1.25]
    assert "'cell' has 2 values, taken as one run" in said(curve)


@pytest.mark.parametrize("heading", ["Start training", "Optimizer adam", "[1/5] fold"])
def test_headings_above_losses_without_steps_are_told_of(tmp_path, heading):
    curve = curve_of(tmp_path, f"{heading}\n{lines('loss: {loss} acc: 0.5')}" * 3)
    assert "above losses: 3; the rows may be those of several runs" in said(curve)
    assert "several runs" not in said(curve_of(tmp_path, f"{heading}\n{lines('loss: {loss} acc: 0.5')}"))


def test_a_loss_that_has_few_values_is_told_of(tmp_path):
    curve = curve_of(tmp_path, "".join(f"step {at} loss {LOSSES[at % 4]}\n" for at in range(500)))
    assert "500 rows have only 4 different values" in said(curve)


def test_a_trainings_loss_below_an_evaluations_bar_is_no_evaluations(tmp_path):
    text = lines(
        "Epoch {at}/50 [Train]: 100%|███| 9/9 [06:03<00:00, 15.0it/s, Loss=0.5]\nEpoch {at}/50 [Val]: done\n"
        "  Train Loss: {loss} | Val Loss: 0.6"
    )
    assert curve_of(tmp_path, text, column="Train Loss").loss.tolist() == LOSSES


@pytest.mark.parametrize(
    "pattern",
    [
        "Epoch {at}, loss per epoch: {loss}",
        "step {at} loss per batch: {loss}",
        "Loss (step {at}): {loss}",
        "train_loss (epoch {at}) = {loss}",
        "[{at}]\ttraining's l2: {loss}\tvalid_0's l2: 2.6",
        "[{at}]\ttrain-rmse:{loss}\teval-rmse:2.6",
    ],
)
def test_what_the_loss_is_per_or_at_does_not_hide_it(tmp_path, pattern):
    curve = curve_of(tmp_path, lines(pattern))
    assert (curve.loss.tolist(), curve.steps.tolist()) == (LOSSES, [1, 2, 3, 4])


@pytest.mark.parametrize("unit", ["%", "s", "it/s", "MB"])
@pytest.mark.parametrize(
    ("names", "row", "step"),
    [("epoch loss last", "{at} {loss} 50.{at} ", "epoch"), ("loss last", "{loss} 7.{at} ", None)],
)
def test_a_unit_at_the_end_of_each_row_moves_no_column(tmp_path, names, row, step, unit):
    curve = curve_of(tmp_path, f"{names}\n{lines(row + unit)}")
    assert (curve.column, curve.loss.tolist(), curve.step_column) == ("loss", LOSSES, step)


def test_an_index_without_a_name_before_whole_steps_is_one(tmp_path):
    rows = "".join(f"{at}  {at + 1}  {loss}\n" for at, loss in enumerate(LOSSES))
    curve = curve_of(tmp_path, f"   epoch  loss\n{rows}")
    assert (curve.loss.tolist(), curve.step_column) == (LOSSES, "epoch")


TABULATE = "  epoch    train loss    time\n-------  ------------  ------\n"


def test_columns_are_as_wide_as_the_dashes_below_their_names(tmp_path):
    rows = "".join(f"{at:7}  {loss:12}  {'1.5 s':>6}\n" for at, loss in enumerate(LOSSES))
    curve = curve_of(tmp_path, f"Training begins\n{TABULATE}{rows}done\n")
    assert (curve.column, curve.loss.tolist(), curve.step_column) == ("train loss", LOSSES, "epoch")
    assert "lines beside the table, left out: 2" in said(curve)


def test_which_of_spacys_losses_is_asked_and_its_step_is_known(tmp_path):
    head = "E    #       LOSS TOK2VEC  LOSS NER  ENTS_F\n---  ------  ------------  --------  ------\n"
    text = head + "".join(f"  0  {at * 200:6}          0.5  {loss:8}   50.0 \n" for at, loss in enumerate(LOSSES))
    with pytest.raises(UserError, match="choose one with --column: LOSS TOK2VEC, LOSS NER"):
        curve_of(tmp_path, text)
    curve = curve_of(tmp_path, text, column="LOSS NER")
    assert (curve.loss.tolist(), curve.steps.tolist()) == (LOSSES, [0, 200, 400, 600])


def test_keys_that_were_sorted_as_text_are_steps_in_their_order(tmp_path):
    rows = {str(at * 10): {"loss": 3 - at / 10} for at in range(20)}
    curve = curve_of(tmp_path, json.dumps(rows, sort_keys=True))
    assert curve.steps.tolist() == [at * 10 for at in range(20)]
    assert curve.loss.tolist() == [3 - at / 10 for at in range(20)]


@pytest.mark.parametrize("row", ["({at}, {loss})", "[{at}, {loss}]", "({at}, {loss}),"])
def test_tuples_as_python_prints_them_are_rows(tmp_path, row):
    curve = curve_of(tmp_path, lines(row))
    assert (curve.loss.tolist(), curve.steps.tolist()) == (LOSSES, [1, 2, 3, 4])
    assert "no column is named loss" in said(curve)


def test_a_list_of_lists_is_a_table_and_tensorboards_only_with_times(tmp_path):
    pairs = [[at * 100, loss] for at, loss in enumerate(LOSSES)]
    assert curve_of(tmp_path, json.dumps(pairs)).steps.tolist() == [0, 100, 200, 300]
    with pytest.raises(UserError, match="choose one with --column: 1, 2, 3"):
        curve_of(tmp_path, json.dumps([[*pair, 2.6] for pair in pairs]))
    downloaded = curve_of(tmp_path, json.dumps([[1.7e9 + pair[0], *pair] for pair in pairs]))
    assert (downloaded.kind, downloaded.steps.tolist()) == ("TensorBoard download", [0, 100, 200, 300])


def test_losses_beside_wins_are_games(tmp_path):
    rows = "".join(f"agent{at},1500,{at},{3 - at},0\n" for at in range(3))
    with pytest.raises(UserError, match="no column is named like a training loss"):
        curve_of(tmp_path, f"Agent,ELO,Wins,Losses,Draws\n{rows}")


KERAS3 = "Epoch {at}/4\n600/600 [==============================] - 15s 26ms/step - loss: {loss}\n"


def test_an_evaluation_in_another_cell_is_no_row_of_the_training(tmp_path):
    evaluated = "54/54 [==============================] - 8s 156ms/step - loss: 2.6\nTest Loss: 2.6\n"
    curve = curve_of(tmp_path, notebook(lines(KERAS3), evaluated))
    assert (curve.loss.tolist(), curve.step_column) == (LOSSES, "Epoch")
    assert "losses of cells without steps, or of one each, left out: 1" in said(curve)
    curve = curve_of(tmp_path, notebook(lines("loss: {loss} acc: 0.5"), "loss: 2.6 acc: 0.5\n"))
    assert curve.loss.tolist() == LOSSES


def test_a_training_without_steps_is_not_left_out_for_a_line_with_one(tmp_path):
    curve = curve_of(tmp_path, notebook(lines("loss: {loss} acc: 0.5"), "epoch 1 loss 2.6\n"))
    assert curve.loss.tolist() == LOSSES


@pytest.mark.parametrize(
    "before",
    [
        " #   Column  Non-Null Count  Dtype\n---  ------  --------------  -----\n 0   Date    2715 non-null   object\n",
        "array([ 1.78246237e-02, -1.06189400e-01, -2.44729444e-02, -2.21012142e-02,\n"
        + "        1.78246237e-02, -1.06189400e-01, -2.44729444e-02, -2.21012142e-02,\n" * 40,
    ],
)
def test_what_other_cells_print_is_no_table_of_losses(tmp_path, before):
    curve = curve_of(tmp_path, notebook(before, lines(KERAS3)))
    assert (curve.loss.tolist(), curve.step_column) == (LOSSES, "Epoch")


def test_what_a_library_prints_between_a_bar_and_the_same_again_ends_no_epoch(tmp_path):
    first = KERAS3.format(at=1, loss=2.75) + "2024-03-25 18:23:40: I optimizer_registry.cc:113] Plugin version 3\n"
    again = "600/600 [==============================] - 15s 26ms/step - loss: 2.5 - val_loss: 2.6\n"
    rest = lines(KERAS3, LOSSES[1:], first=2)
    assert curve_of(tmp_path, first + again + rest).loss.tolist() == LOSSES


def shown(header, rows):
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    names = "".join(f"<th>{name}</th>\n" for name in header)
    html = f'<div>[840/840 11:15]</div><table border="1" class="dataframe"><tr>{names}</tr>{cells}</table><p>'
    data = {"text/html": html, "text/plain": "<IPython.core.display.HTML object>"}
    return {"output_type": "display_data", "data": data}


@pytest.mark.parametrize(
    ("header", "first", "loss"),
    [
        (["Step", "Training Loss", "Validation Loss"], [50, "No log", 2.6], "Training Loss"),
        (["epoch", "train_loss", "valid_loss", "time"], None, "train_loss"),
    ],
)
def test_the_table_that_a_notebook_shows_is_read(tmp_path, header, first, loss):
    rows = [[at * 100, value, 2.6, "00:23"][: len(header)] for at, value in enumerate(LOSSES, start=1)]
    printed = {"output_type": "stream", "text": "num_examples: 100\nbatch: 8\n"}
    outputs = [printed, shown(header, [*([first] if first else []), *rows])]
    cell = {"cell_type": "code", "execution_count": 1, "source": [], "outputs": outputs}
    curve = curve_of(tmp_path, json.dumps({"nbformat": 4, "cells": [cell]}))
    assert (curve.column, curve.loss.tolist()) == (loss, LOSSES)
    assert (curve.steps.tolist(), curve.step_column) == ([100, 200, 300, 400], header[0])


def test_chinese_in_its_own_encoding_is_read(tmp_path):
    text = lines("当前Batch：{at}0/6035 | 当前epoch:0/50 | 当前损失值：{loss} | 当前准确率：0.00%")
    assert curve_of(tmp_path, text.encode("gbk")).loss.tolist() == LOSSES
    latin = lines("époque {at} loss {loss} durée 3 précision 0.5").encode("latin-1")
    assert curve_of(tmp_path, latin).loss.tolist() == LOSSES


@pytest.mark.parametrize(
    "pattern",
    [
        "iteration,{at},train_loss,{loss},train_accuracy,0.5",
        "Epoch {at} trained with loss: {loss}\nEpoch {at} evaluated with loss: 2.6",
        "Epoch {at} Avg. loss: {loss}\nNo improvement in loss 2.6 over best loss 2.5",
    ],
)
def test_of_two_losses_the_trainings_is_known_by_its_words(tmp_path, pattern):
    curve = curve_of(tmp_path, lines(pattern))
    assert (curve.loss.tolist(), curve.steps.tolist()) == (LOSSES, [1, 2, 3, 4])


def test_a_sum_of_one_loss_is_asked(tmp_path):
    with pytest.raises(UserError, match="choose one with --column: loss:sum, dpo_loss"):
        curve_of(tmp_path, lines('{{"step": {at}, "loss:sum": 3.5, "dpo_loss": {loss}}}'))


def test_lines_of_text_in_a_table_are_no_rows_of_it(tmp_path):
    rows = "".join(f"{at}, 0.025, {loss}, 50.0%\n" for at, loss in enumerate(LOSSES))
    text = f"Epoch, lr, Train_Loss, Acc\n===== AMP =====\n{rows}===== TESTING =====\nDataset val\tACC:91.26\n"
    curve = curve_of(tmp_path, text)
    assert (curve.loss.tolist(), curve.step_column) == (LOSSES, "Epoch")
    assert "lines of text, left out: 3" in said(curve)


def test_an_epoch_that_the_last_line_says_again_is_an_evaluation(tmp_path):
    losses = [2.5, 2.25, 2.0, 1.75, 1.5, 1.25, 1.0]
    text = lines("Epoch {at}/7\n79/79 [=====] - 1s - loss: {loss} - val_loss: 2.6", losses)
    curve = curve_of(tmp_path, text + "79/79 - 1s - loss: 2.6 - accuracy: 0.7\n")
    assert (curve.loss.tolist(), curve.step_column) == (losses, "Epoch")
    assert "the last row is of 'Epoch' again" in said(curve)
    kept = curve_of(tmp_path, text + "79/79 - 1s - loss: 2.6 - accuracy: 0.7\n", resume="keep-last")
    assert kept.loss.tolist() == [*losses, 2.6]


def test_a_counter_that_begins_again_once_is_a_counter(tmp_path):
    rows = "".join(f"{at},{3 - at / 100}\n" for at in [*range(1, 24), *range(1, 200)])
    with pytest.raises(UserError, match="--where rows=FIRST-LAST: 1-23, 24-222"):
        curve_of(tmp_path, rows)


@given(
    st.lists(
        st.sampled_from(["<table>", "</table>", "<tr>", "</tr>", "<td>", "<th>", "</td>", "loss", "2.5", "<", "&#"])
    )
)
def test_broken_html_is_read_without_an_error(parts):
    drawn_tables("<table><tr><td>loss" + "".join(parts))


def test_a_bar_that_is_drawn_twice_with_its_loss_before_it_counts_once(tmp_path):
    drawn = "Epoch={epoch} | Batch_id={at} | Loss={loss}:  25%|██▍       | {count}/4 [00:30<01:32,  2.78it/s]\n"
    text = ""
    for epoch, more in enumerate((1.0, 0.0)):
        for at, loss in enumerate(LOSSES):
            text += "".join(drawn.format(epoch=epoch, at=at, loss=loss + more, count=at + ahead) for ahead in (0, 1))
    curve = curve_of(tmp_path, text)
    assert curve.loss.tolist() == [loss + more for more in (1.0, 0.0) for loss in LOSSES]


def test_names_that_all_stand_in_one_cell_are_names(tmp_path):
    text = '"Iteration\td_loss\tloss",,\n' + lines("{at},9.5,{loss}")
    curve = curve_of(tmp_path, text)
    assert (curve.loss.tolist(), curve.step_column) == (LOSSES, "Iteration")


def test_phases_that_follow_each_other_are_one_run(tmp_path):
    row = '{{"step": {at}, "phase": "warmup", "loss": {loss}}}'
    text = lines(row) + lines(row.replace("warmup", "decay"), first=5)
    curve = curve_of(tmp_path, text)
    assert curve.loss.tolist() == 2 * LOSSES
    assert "'phase' has 2 values one after the other, taken as one run: warmup, decay" in said(curve)
    with pytest.raises(UserError, match="'phase' tells kinds of rows apart"):  # they take turns
        curve_of(tmp_path, text + row.format(at=9, loss=2.5) + "\n")
    with pytest.raises(UserError, match="'phase' tells kinds of rows apart"):  # no steps rise through both
        curve_of(tmp_path, text.replace('"step"', '"score"'))


def test_a_table_of_runs_is_said(tmp_path):
    text = "run_id,lr,training_loss\n" + "".join(f"a{at}x,0.1,{3 - 0.1 * at}\n" for at in range(9))
    assert "nearly each row has another 'run_id', so that each may be of a run" in said(curve_of(tmp_path, text))


OTHER_LINES = {
    "another logger": ("INFO:fit: loss={loss}", "INFO:score: loss=9.5"),
    "what it is on": ("loss {loss}", "loss 9.5 on 1000 unseen images"),
    "a word before": ("loss: {loss}", "generalisation: loss 9.5"),
}


@pytest.mark.parametrize("form", OTHER_LINES)
def test_losses_in_lines_with_other_words_are_said_where_there_are_no_steps(tmp_path, form):
    train, other = OTHER_LINES[form]
    text = lines(train, LOSSES * 5 + [1.5])
    curve = curve_of(tmp_path, 2 * (text + other + "\n"))
    assert "whose losses may be an evaluation's: 2" in said(curve)
    assert curve_of(tmp_path, 2 * text).notes == ()
    saved = train + "\n" + train + " (new best model, saved)\n"
    assert "evaluation" not in said(curve_of(tmp_path, lines(saved)))
    in_steps = lines("step {at} " + train, LOSSES * 5)
    assert curve_of(tmp_path, in_steps).notes == ()


def test_rows_of_json_with_another_message_are_said_where_there_are_no_steps(tmp_path):
    rows = [{"msg": "stepped", "loss": loss} for loss in LOSSES] + [{"msg": "scored", "loss": 9.5}]
    curve = curve_of(tmp_path, "".join(json.dumps(row) + "\n" for row in 3 * rows))
    assert "'msg' has 2 values, of which rows may be of other kinds: stepped, scored; --where msg=VALUE" in said(curve)
    rows = [{**row, "step": at} for at, row in enumerate(3 * rows)]
    assert curve_of(tmp_path, "".join(json.dumps(row) + "\n" for row in rows)).notes == ()


def test_a_heading_of_a_run_with_its_settings_is_said_where_there_are_no_steps(tmp_path):
    runs = "".join(f"=== run {name}, lr=1e-{at}\n" + lines("loss {loss}") for at, name in enumerate("AB"))
    assert "above losses: 2; the rows may be those of several runs" in said(curve_of(tmp_path, runs))


def test_a_gap_or_a_change_of_a_loss_is_no_loss(tmp_path):
    for name in ("loss_gap", "delta_loss", "loss change"):
        curve = curve_of(tmp_path, lines("step {at} | " + name + ": 0.5 | xent: {loss}"))
        assert (curve.column, curve.loss.tolist()) == ("xent", LOSSES)
        assert curve.notes == ("no column is named loss: 'xent' is taken for it",)


def test_thousands_before_a_point_are_one_number(tmp_path):
    text = "".join(f"Step {at},000: loss {loss} tok/s 12,345\n" for at, loss in enumerate(("1,791.5", "991.5"), 1))
    for written in (text, text.replace(" tok/s 12,345", "")):
        curve = curve_of(tmp_path, written)
        assert (curve.steps.tolist(), curve.loss.tolist()) == ([1000, 2000], [1791.5, 991.5])


def test_a_column_that_is_better_the_higher_is_said_to_be_read_as_a_loss(tmp_path):
    text = "step,loss,reward\n" + "".join(f"{at},{loss},{at}\n" for at, loss in enumerate(LOSSES))
    assert curve_of(tmp_path, text, column="reward").notes == (
        "'reward' is read as a loss: a rise counts as bad, and a fall is not seen",
    )
    assert curve_of(tmp_path, text, column="loss").notes == ()


@pytest.mark.parametrize("name", ["step", "epoch"])
def test_steps_that_begin_again_are_epochs_where_the_loss_goes_on_and_runs_where_it_begins_again(tmp_path, name):
    falling = [[4.0 - 0.3 * part - 0.025 * at for at in range(10)] for part in range(4)]
    text = "".join(f"{name} {at} loss {loss}\n" for part in falling for at, loss in enumerate(part))
    curve = curve_of(tmp_path, text)
    assert (curve.step_column, curve.loss.tolist()) == (None, [loss for part in falling for loss in part])
    told = f"'{name}' begins again 3 times, where the loss goes on: taken as epochs of one run, rows are counted"
    assert told in said(curve)
    anew = [[(1 + 0.05 * run) * loss for loss in falling[0]] for run in range(4)]
    noisy = [[3 + at % 2 + 0.1 * part for at in range(10)] for part in range(4)]
    for unclear in (anew, noisy, falling[:2]):
        with pytest.raises(UserError, match="as in several runs"):
            curve_of(
                tmp_path, "".join(f"{name} {at} loss {loss}\n" for part in unclear for at, loss in enumerate(part))
            )


def test_an_epoch_in_brackets_before_a_step_is_one(tmp_path):
    text = "".join(
        f"Train: [{part:2}/3] Step {at:03}/100 Loss {3 - part / 10}\n" for part in (1, 2, 3) for at in (50, 100)
    )
    curve = curve_of(tmp_path, text)
    assert (curve.step_column, curve.steps.tolist()) == ("step", [50, 100, 150, 200, 250, 300])


@pytest.mark.parametrize("pattern", ["{at}: {loss}", "{at}_{loss}"])
@pytest.mark.parametrize("losses", [[4469 - 7 * at for at in range(30)], [2.5 - at / 20 for at in range(30)]])
def test_lines_of_a_step_and_a_number_are_a_curve_where_all_are_so_and_the_step_rises(tmp_path, pattern, losses):
    curve = curve_of(tmp_path, lines(pattern, losses), name="loss.txt")
    assert (curve.column, curve.step_column, curve.steps[0]) == ("value", "step", 1)
    assert curve.loss.tolist() == pytest.approx(losses)


def test_times_of_a_day_are_no_curve(tmp_path):
    with pytest.raises(UserError):
        curve_of(tmp_path, "".join(f"12:{at}\n" for at in range(10, 50)))


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("Epoch\tTraining loss.\tVal acc.\tmean IU\t\n" + lines(" {at}\t {loss}\t 0.5\t"), "Epoch"),
        ("lr\tepoch\tTrain Loss\tValid Loss\t\n" + lines("0.1|{at}.0|{loss}|9.5|"), "epoch"),
        ("epoch;train loss\n" + lines("{at},{loss}"), "epoch"),
        ("Cost function value\t\n" + lines(" {loss}\t"), None),
    ],
)
def test_names_and_numbers_may_have_other_separators_or_one_at_the_end(tmp_path, text, step):
    curve = curve_of(tmp_path, text)
    assert (curve.step_column, curve.loss.tolist()) == (step, LOSSES)
    few = "rows have 3 numbers below 4 names: taken as those of the first"
    assert (few in said(curve)) == text.startswith("Epoch\tTraining")


def test_an_object_after_the_word_losses_has_losses(tmp_path):
    curve = curve_of(tmp_path, lines("Losses {{'ner': {loss}}}"))
    assert (curve.column, curve.loss.tolist()) == ("ner loss", LOSSES)
    with pytest.raises(UserError, match="several columns may be the loss; choose one with --column: D loss, G loss"):
        curve_of(tmp_path, lines("Losses: {{'D': {loss}, 'G': 2.5}}"))
    assert curve_of(tmp_path, lines("losses {{'total': {loss}, 'kl': 0.5}}")).column == "total loss"


def test_a_total_of_the_terms_of_boxes_is_the_loss(tmp_path):
    pattern = "[Epoch 0/3, Batch {at}/9] [Losses: x {loss}, y 1.0, w 1.0, h 1.0, conf 1.0, cls 1.0, total {total}]"
    text = "".join(pattern.format(at=at, loss=loss, total=loss + 5) + "\n" for at, loss in enumerate(LOSSES))
    curve = curve_of(tmp_path, text)
    assert (curve.column, curve.loss.tolist()) == ("total", [loss + 5 for loss in LOSSES])


def test_of_two_losses_the_one_of_steps_is_taken_and_said(tmp_path):
    steps = [3 - at / 100 for at in range(40)]
    few = "Train loss: 2.5\n" + lines("iter {at} | Train loss: 2.4", [1], 41)
    joey = "Epoch {at} Step: {at}00 Batch Loss: {loss} Lr: 0.1\nEpoch {at}: total training loss 81{at}.5\n"
    for text, column, other in (
        (lines("iter {at} | total_loss: {loss}", steps) + few, "total_loss", "Train loss"),
        (lines(joey, steps), "Batch Loss", "total training loss"),
    ):
        curve = curve_of(tmp_path, text)
        assert (curve.column, curve.loss.tolist()) == (column, steps)
        assert f"{column!r} is of steps, and {other} of epochs or the like" in said(curve)
    both = "Epoch {at} Step: {at}00 Batch Loss: {loss} total training loss 2.5\n"
    with pytest.raises(UserError, match="several columns may be the loss"):
        curve_of(tmp_path, lines(both, steps))
