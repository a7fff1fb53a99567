"""Lines of trainers and launchers in the forms that these print: read right, or refused with what to pass."""

import json

import pytest

from s3bench.errors import UserError
from tests.s3bench.curve_files.logs import curve_of, said

LOSSES = [9.05, 8.11, 7.42, 6.83, 6.19, 5.74, 5.32, 4.88]


def lines(form, losses=LOSSES):
    return "".join(form.format(at=10 * (at + 1), loss=loss) for at, loss in enumerate(losses))


RIGHT = {
    "after so many steps": lines("Average loss after {at} steps: {loss}\n"),
    "LightGBM's": lines("[{at}]\ttraining's binary_logloss: {loss}\tvalid_1's binary_logloss: 3.5\n")
    + "Early stopping, best iteration is:\n[20]\ttraining's binary_logloss: 2.1\tvalid_1's binary_logloss: 2.2\n",
    "both sides of a line": lines("Step {at} | train: loss {loss} acc 0.5 | val: loss 3.5 acc 0.4\n"),
    "both sides without bars": lines("step {at} Train: loss={loss} acc=0.5 Valid: loss=3.5 acc=0.4\n"),
    "Fortran's": lines("step {at} loss {loss}D+00\n"),
    "of a source file": lines("2023-01-01 10:00:00 INFO [train.py:876] Epoch 1, step {at}, loss={loss}, lr: 1\n")
    + "2023-01-01 10:09:00 INFO [train.py:876] Epoch 1, validation: loss=2.01, simple_loss=0.9\n",
    "without a line's end": lines("step {at} loss {loss}\n").replace("\nstep 40", "step 40"),
    "below a heading of an evaluation": lines("step {at} loss: {loss}\n")
    + "***** Running validation *****\n  loss = 2.1\n  ppl = 8.2\n",
    "Docker's": "".join(
        json.dumps({"log": f"step {10 * at} loss {loss}\n", "stream": "stdout"}) + "\n"
        for at, loss in enumerate(LOSSES, 1)
    ),
    "JSON with a line that was cut": "".join(
        json.dumps({"step": at, "loss": at / 10}) + "\n" + '{"step": 41, "lo\n' * (at == 40) for at in range(100)
    ),
    "names that change": "step,loss\n" + lines("{at},{loss}\n") + "step,lr,loss\n90,0.1,4.5\n100,0.1,4.4\n",
    "a notebook's": " [240/240 03:05, Epoch 3/3]\n\nStep\tTraining Loss\tAccuracy\n5\tNo log\t0.1\n"
    + lines("{at}\t{loss}\t0.1\n"),
    "pandas'": "   step  loss\n" + "".join(f"{at}  {10 * (at + 1)}  {loss}\n" for at, loss in enumerate(LOSSES)),
    "a comma at each end": "step,loss\n" + lines("{at},{loss},\n"),
    "the newest first": "step,loss\n" + "".join(reversed(lines("{at},{loss}\n").splitlines(keepends=True))),
    "a flag of the training": "step,is_train,loss\n" + lines("{at},True,{loss}\n{at},False,3.5\n"),
}
OTHERS = {"JSON with a line that was cut": [at / 10 for at in range(100)], "names that change": [*LOSSES, 4.5, 4.4]}


@pytest.mark.parametrize("form", RIGHT)
def test_the_form_is_read_right(tmp_path, form):
    losses = OTHERS.get(form, LOSSES)
    curve = curve_of(tmp_path, RIGHT[form])
    assert curve.loss.tolist() == pytest.approx(losses)
    if form not in OTHERS:
        assert curve.steps.tolist() == list(range(10, 90, 10))


def test_what_is_no_number_on_windows_is_no_loss_of_one(tmp_path):
    curve = curve_of(tmp_path, lines("step {at} loss: {loss}\n") + "step 90 loss: 1.#QNAN\nstep 100 loss: -1.#INF\n")
    assert [str(loss) for loss in curve.loss[-2:]] == ["nan", "-inf"]


def test_thousands_are_such_in_losses_too(tmp_path):
    assert curve_of(tmp_path, lines("step {at} | loss: {loss}K | lr: 0.1\n")).loss[0] == 9050
    assert (
        curve_of(tmp_path, lines("step {at} | loss: 9_0{loss} | lr: 0.1\n").replace("_09", "_019")).loss[0] == 9019.05
    )


def test_flair_is_read_although_its_summaries_have_other_steps(tmp_path):
    text = ""
    for epoch in (1, 2):
        text += "".join(f"epoch {epoch} - iter {at}/80 - loss {9 - epoch - at / 100:.2f}\n" for at in (20, 40, 60, 80))
        text += f"EPOCH {epoch} done: loss 3.12 - lr 0.1\nDEV : loss 2.1 - f1-score 0.5\n"
    assert curve_of(tmp_path, text).loss.tolist() == [7.8, 7.6, 7.4, 7.2, 6.8, 6.6, 6.4, 6.2]


@pytest.mark.parametrize(
    "prefix", ["{}: ", "[rank{}]: ", "[1,{}]<stdout>:", "(RayTrainWorker pid=12{}, ip=10.0.0.1) ", "[t.py:8] ({}/2) "]
)
@pytest.mark.parametrize("line", ["loss: {}", "{{'loss': {}, 'epoch': 0.5}}"])
def test_rows_of_several_processes_are_told_apart(tmp_path, prefix, line):
    text = "".join(prefix.format(rank) + line.format(loss + rank) + "\n" for loss in LOSSES for rank in (0, 1))
    with pytest.raises(UserError, match="rows of several processes; choose one with --where process=VALUE") as error:
        curve_of(tmp_path, text)
    first = str(error.value).split("VALUE: ")[1].split(", ")[0]
    assert curve_of(tmp_path, text, where=f"process={first}").loss.tolist() == LOSSES


def test_a_number_before_each_line_is_a_step_where_it_rises(tmp_path):
    curve = curve_of(tmp_path, lines("{at}: loss {loss}\n"))
    assert (curve.step_column, curve.steps.tolist()) == ("step", list(range(10, 90, 10)))


def test_lines_that_a_logger_says_again_are_merged(tmp_path):
    row = "{{'loss': {loss}, 'learning_rate': 1e-05, 'epoch': 0.{at}}}\n"
    text = lines(row + "2023-01-01 10:00:00 - INFO - " + row)
    curve = curve_of(tmp_path, text)
    assert curve.loss.tolist() == LOSSES
    assert "rows that repeat the row above, merged: 8 of 16" in said(curve)


def test_pairs_of_one_epoch_and_rate_are_said(tmp_path):
    row = "{{'loss': {loss}, 'learning_rate': {at}, 'epoch': 0.{at}}}\n"
    curve = curve_of(tmp_path, lines(row + row.replace("{loss}", "1{loss}")))
    assert "each epoch and learning rate has 2 rows, which may be those of 2 processes" in said(curve)


def test_a_sum_beside_the_loss_per_token_is_asked(tmp_path):
    text = lines("step {at} loss_sum 9047.1 loss_per_token {loss} ntokens 1000\n")
    with pytest.raises(UserError, match="choose one with --column: loss_sum, loss_per_token"):
        curve_of(tmp_path, text)


def test_bars_of_a_validation_do_not_repeat_the_loss(tmp_path):
    def bar(epoch, at, loss):
        return f"Epoch {epoch}: {at}0%|#| {at}/10 [00:02<00:00, 10.0it/s, loss={loss + epoch:.2f}, v_num=0]\r"

    text = ""
    for epoch in range(2):
        text += "".join(bar(epoch, at, loss) for at, loss in enumerate(LOSSES, 1))
        for at in (9, 10):
            text += f"Validating: 50%|#| {at - 8}/2 [00:00<00:00, 9.0it/s]\r" + bar(epoch, at, LOSSES[-1])
    curve = curve_of(tmp_path, text)
    assert curve.loss.tolist() == pytest.approx([loss + epoch for epoch in (0, 1) for loss in LOSSES])


def test_lists_are_columns_of_their_names(tmp_path):
    losses = [round(3 - at / 50, 2) for at in range(24)]
    text = f"train_losses = {losses}\nval_losses = {losses[::-1]}\n"
    curve = curve_of(tmp_path, text)
    assert (curve.column, curve.loss.tolist()) == ("train_losses", losses)
    history = curve_of(tmp_path, f"done\n{{'loss': {losses}, 'accuracy': {losses}}}\n")
    assert history.loss.tolist() == losses
    assert "other lines, left out: 1" in said(history)
    plain = "[" + "\n ".join(" ".join(map(str, losses[at : at + 8])) for at in (0, 8, 16)) + "]"
    assert curve_of(tmp_path, plain).loss.tolist() == losses


def test_a_long_wrong_half_of_json_lines_is_refused(tmp_path):
    text = '{"step": 1, "loss": 2.5}\n{"step": 2, "lo\n{"step": 3, "loss": 2.4}\n'
    with pytest.raises(UserError, match="line 2 is not JSON"):
        curve_of(tmp_path, text)
