"""Plain logs that look like a special form: what is read of them is what they say, or it is refused."""

import json

import numpy as np
import pytest

from s3bench.errors import UserError
from tests.s3bench.curve_files.logs import curve_of, said

LOSSES = [9.05, 8.11, 9.42, 6.83, 6.19, 5.74, 5.32, 4.88]
NUMBERS = "[" + ", ".join(f"{at}.5" for at in range(12)) + "]"


def lines(form, losses=LOSSES):
    return "".join(form.format(at=10 * at, loss=loss) for at, loss in enumerate(losses))


PLAIN = {
    "words on the best": lines("step {at} loss {loss}\nNew best model saved\n"),
    "an option named best": "save_best_only True\n" + lines("step {at} loss {loss}\n"),
    "a list at the end": lines("step {at} loss {loss}\n") + f"last losses: {NUMBERS}\n",
    "a list of sizes": f"layer_dims: {NUMBERS}\n" + lines("step {at} loss {loss}\n"),
    "a dict of lists at the end": lines("step {at} loss {loss}\n") + "{'loss': " + NUMBERS + "}\n",
    "the evaluation's name on top": "Evaluation every epoch\n"
    + lines("step {at} loss {loss} lr 0.1\n", LOSSES[:4])
    + "".join(f"step {40 + 10 * at} loss {loss} lr 0.1 mem 3\n" for at, loss in enumerate(LOSSES[4:])),
    "a number that lines begin with": lines("{at}: loss {loss}\n"),
    "a place in a source file": lines("[train.py:{at}] step {at} loss {loss}\n"),
    "a run of stages": "step,stage,loss\n"
    + lines("{at},1,{loss}\n", LOSSES[:4])
    + "".join(f"{40 + 10 * at},2,{loss}\n" for at, loss in enumerate(LOSSES[4:])),
    "words on the training": "step,training,loss\n"
    + lines("{at},warm,{loss}\n", LOSSES[:4])
    + "".join(f"{40 + 10 * at},cold,{loss}\n" for at, loss in enumerate(LOSSES[4:])),
    "messages beside numbers": "".join(
        f'{{"message": "train", "step": {10 * at}, "loss": {loss}}}\n' for at, loss in enumerate(LOSSES)
    ),
    "bars that are all at their end": "".join(
        f"Epoch {10 * at}: 100%|##| 500/500 [00:09<00:00, 50.0it/s, loss={loss}]\n" for at, loss in enumerate(LOSSES)
    ),
    "the best of a side": lines("step {at} train: loss {loss} | val: loss 2.7 | best train: loss 1.1\n"),
}


@pytest.mark.parametrize("form", PLAIN)
def test_every_row_of_a_plain_log_counts(tmp_path, form):
    curve = curve_of(tmp_path, PLAIN[form])
    assert curve.loss.tolist() == LOSSES
    assert curve.steps.tolist() == list(range(0, 80, 10))


def test_unnamed_bars_that_are_all_at_their_end_are_counted(tmp_path):
    curve = curve_of(tmp_path, lines(" 100%|##| 500/500 [00:09<00:00, 50.0it/s, loss={loss}]\n"))
    assert (curve.loss.tolist(), curve.step_column) == (LOSSES, None)


@pytest.mark.parametrize("form", ["loss [{at}]: {loss}\n", "step {at} train_loss [5] {loss}\n"])
def test_a_number_in_brackets_before_the_value_is_not_the_value(tmp_path, form):
    curve = curve_of(tmp_path, lines(form))
    assert (curve.loss.tolist(), curve.steps.tolist()) == (LOSSES, list(range(0, 80, 10)))


def test_losses_that_are_not_finite_in_broken_json_are_kept(tmp_path):
    text = "".join(f'{{"step": {at}, "loss": {2.5 if at < 390 else "nan"}}}\n' for at in range(400))
    assert np.isnan(curve_of(tmp_path, text).loss).sum() == 10
    glued = "".join(f'{{"step": {at}, "loss": 2.5}}' + "\n" * (at != 7) for at in range(100))
    assert len(curve_of(tmp_path, glued).loss) == 100


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("run 1\n" + "2.5\n" * 20 + "run 2\n" + "3.5\n" * 20, "choose one with --column: run 1"),
        ("".join(f"Epoch {at}\n3.{at}6\n0.5{at}\n" for at in range(9)), "choose one with --column: Epoch 0"),
        ("".join(f"Epoch {at}: 2.{at}\nEpoch {at}: 0.4{at}\n" for at in range(9)), "step 0 appears twice"),
        ("{'loss': " + NUMBERS + "}\n{'loss': " + NUMBERS.replace(".5", ".7") + "}\n", "none of these"),
        (f"steps = {NUMBERS}\nlosses = [{', '.join(['2.5'] * 30)}]\n", "none of these"),
        ("step,loss\n" + "".join(f"{at},2.5\n" for at in range(60)) + "70,1,234.5\n", "Expected 2 fields in line 62"),
    ],
)
def test_what_may_be_two_curves_is_refused(tmp_path, text, refusal):
    with pytest.raises(UserError, match=refusal):
        curve_of(tmp_path, text)


def test_a_plateau_is_not_one_row(tmp_path):
    text = "acc,loss\n" + "".join(f"0.{at},{3 - at / 10}\n" for at in range(9)) + "0.1,0.6931\n" * 30
    assert len(curve_of(tmp_path, text).loss) == 39


def test_rows_of_several_seeds_are_not_sorted_together(tmp_path):
    text = "seed,step,loss\n" + "".join(
        f"{seed},{100 * seed + at},2.{at}{seed}\n" for at in range(9) for seed in (0, 1)
    )
    with pytest.raises(UserError, match="choose one with --where seed=VALUE"):
        curve_of(tmp_path, text)


def test_empty_cells_below_changed_names_are_losses_that_are_not_finite(tmp_path):
    text = "step,loss\n" + lines("{at},{loss}\n") + "step,loss,lr\n80,2.3,1\n90,,1\n100,,1\n"
    assert np.isnan(curve_of(tmp_path, text).loss).tolist() == [False] * 9 + [True] * 2


def test_sections_of_one_form_are_told_apart_by_their_headings(tmp_path):
    curve = curve_of(tmp_path, lines("Training:\nloss: {loss}\nValidation:\nloss: 2.9\n"))
    assert curve.loss.tolist() == LOSSES
    assert "lines below the heading of an evaluation, left out: 8" in said(curve)


HEADINGS = ["Validation:", "=== Validation ===", "Running evaluation", "Validation at epoch {at}", "[Eval] epoch {at}"]
HEADINGS += ["Epoch {at} validation", "Performing validation on 100 images", "Validating...", "***** Testing *****"]


@pytest.mark.parametrize("heading", HEADINGS)
@pytest.mark.parametrize("training", ["--- train ---", "Training epoch {at}"])
def test_headings_that_take_turns_tell_sections_of_one_form_apart(tmp_path, heading, training):
    curve = curve_of(tmp_path, lines(f"{training}\nloss: {{loss}} lr: 0.1\n{heading}\nloss: 2.9 lr: 0.1\n"))
    assert curve.loss.tolist() == LOSSES


@pytest.mark.parametrize("heading", HEADINGS)
def test_losses_of_one_form_below_a_heading_of_an_evaluation_are_said(tmp_path, heading):
    curve = curve_of(tmp_path, lines(f"loss: {{loss}} lr: 0.1\n{heading}\nloss: 2.9 lr: 0.1\n"))
    assert len(curve.loss) == 2 * len(LOSSES)
    assert "below which losses may be an evaluation's: 8" in said(curve)


@pytest.mark.parametrize(
    "words",
    ["Running evaluation\nval loss: 2.9", "Validation accuracy: 0.93", "Validation done", "val loss improved, saving"],
)
def test_nothing_is_said_of_an_evaluation_that_has_lines_of_its_own(tmp_path, words):
    curve = curve_of(tmp_path, lines(f"loss: {{loss}} lr: 0.1\n{words}\n"))
    assert curve.loss.tolist() == LOSSES
    assert "may be an evaluation's" not in said(curve)


def test_the_training_goes_on_below_an_evaluation_without_a_heading_of_its_own(tmp_path):
    text = (
        "Start training\n" + lines("loss: {loss}\n") + "Running evaluation\neval loss: 2.9\n" + lines("loss: {loss}\n")
    )
    text += "Running evaluation\neval loss: 2.8\n"
    assert curve_of(tmp_path, text).loss.tolist() == LOSSES * 2


def test_a_loss_that_a_line_has_twice_is_said(tmp_path):
    text = lines("loss: {loss} step: {at}\n").replace("step: 20\n", "step: 20")
    assert "lines with a loss of one name twice, of which the first counts: 1" in said(curve_of(tmp_path, text))


@pytest.mark.parametrize(
    "form",
    [
        "step {at} loss {loss} grad_norm {norm}\n",
        "iteration {at}/100 | lm loss: {loss} | grad norm: {norm} |\n",
        "Epoch {at} - loss: {loss} - val_loss: {norm}\n",
        "step: {at}  loss: {loss}  grad_norm: {norm}  tps: 1,000\n",
    ],
)
@pytest.mark.parametrize("nans", [range(20, 40), [17]])
def test_a_written_nan_is_a_loss_whatever_else_of_its_line_is_nan(tmp_path, form, nans):
    text = "".join(
        form.format(at=at, loss="nan" if at in nans else 3 - at / 50, norm="nan" if at in nans else 0.5)
        for at in range(40)
    )
    curve = curve_of(tmp_path, text)
    assert np.flatnonzero(np.isnan(curve.loss)).tolist() == list(nans)
    assert curve.notes == ()


def test_rows_at_the_end_that_have_nothing_but_a_step_are_losses_that_are_not_finite(tmp_path):
    text = "step,loss,grad\n" + lines("{at},{loss},0.5\n")
    curve = curve_of(tmp_path, text + "80,,\n90,,\n")
    assert np.isnan(curve.loss).tolist() == [False] * 8 + [True] * 2
    assert "empty cells of 'loss' taken as non-finite losses: 2" in said(curve)
    assert len(curve_of(tmp_path, text + "80,,\n").loss) == 8


TRAINED = "".join(f"batch {at}/8 loss {loss} lr 0.1\n" for at, loss in enumerate(LOSSES, 1))
EVALUATED = "Validation\n" + "".join(f"batch {at}/3 loss 9.{at}\n" for at in range(1, 4))


def test_an_evaluation_whose_steps_begin_again_is_left_out(tmp_path):
    curve = curve_of(tmp_path, "".join(f"Epoch {at}/3\n{TRAINED}{EVALUATED}" for at in range(1, 4)))
    assert curve.loss.tolist() == LOSSES * 3
    assert "lines below the heading of an evaluation, left out: 9" in said(curve)
    epochs = "".join(f"epoch {at} loss {loss}\nEvaluating...\nepoch {at} loss 2.9\n" for at, loss in enumerate(LOSSES))
    assert curve_of(tmp_path, epochs).loss.tolist() == LOSSES
    assert curve_of(tmp_path, epochs).steps.tolist() == list(range(8))


def test_a_training_that_begins_its_steps_again_below_an_evaluation_that_says_nothing_is_kept(tmp_path):
    silent = "".join(f"Epoch {at}/3\n{TRAINED}Validating...\n" for at in range(1, 4))
    assert curve_of(tmp_path, silent).loss.tolist() == LOSSES * 3
    counters = "".join(
        lines("step {at} loss {loss}\n", [loss - at for loss in LOSSES]) + "Validating...\n" for at in (0, 1)
    )
    with pytest.raises(UserError, match="step 0 comes after 70, as in several runs"):  # and no line ends an evaluation
        curve_of(tmp_path, counters)
    global_steps = lines("step {at} loss {loss}\nValidating...\n")
    assert curve_of(tmp_path, global_steps).loss.tolist() == LOSSES


def test_curves_that_take_turns_in_each_epoch_are_said_or_refused(tmp_path):
    pairs = "[teacher] epoch {0} loss {1}\n[pupil] epoch {0} loss {2}\n"
    near = "".join(pairs.format(at, loss, loss - 0.02) for at, loss in enumerate(LOSSES))
    assert "each 'epoch' has 2 rows, which may be those of 2 curves" in said(curve_of(tmp_path, near))
    apart = "".join(pairs.format(at, loss, loss + 5) for at, loss in enumerate(LOSSES))
    with pytest.raises(UserError, match="each epoch has 2 rows, of as many curves; --step epoch --resume keep-first"):
        curve_of(tmp_path, apart)
    assert curve_of(tmp_path, apart, step="epoch", resume="keep-first").loss.tolist() == LOSSES
    assert len(curve_of(tmp_path, apart, step="none").loss) == 2 * len(LOSSES)
    rows = "epoch,what,loss\n" + "".join(f"{at},t,{loss}\n{at},v,2.9\n" for at, loss in enumerate(LOSSES))
    with pytest.raises(
        UserError, match="each epoch has 2 rows, told apart by column 'what'; choose one with --where what=VALUE: t, v"
    ):
        curve_of(tmp_path, rows)
    assert curve_of(tmp_path, rows, where="what=t").loss.tolist() == LOSSES
    batches = "epoch,batch,loss\n" + "".join(f"{at},0,{loss}\n{at},100,2.9\n" for at, loss in enumerate(LOSSES))
    assert curve_of(tmp_path, batches).notes == ()
    clients = "".join(f"round {at} client {who} loss {loss}\n" for at, loss in enumerate(LOSSES) for who in (1, 2))
    with pytest.raises(UserError, match="'client' names several runs"):
        curve_of(tmp_path, clients)


EVALUATED_LINES = {
    "a word beside an object": "TRAIN: {{'epoch': {at}, 'loss': {loss}}}\nEVAL: {{'epoch': {at}, 'loss': 2.9}}\n",
    "a tag in brackets": "[Train][{at}][9/9] Loss {loss}\n[Valid][{at}][1/4] Loss 2.9\n",
    "a Chinese word": "[训练] epoch {at} loss {loss}\n[验证] epoch {at} loss 2.9\n",
    "a Spanish word": "Entrenamiento: epoch {at} loss {loss}\nValidación: epoch {at} loss 2.9\n",
    "a French word": "epoch {at} apprentissage : loss {loss}\nepoch {at} évaluation : loss 2.9\n",
}


@pytest.mark.parametrize("form", EVALUATED_LINES)
def test_lines_of_an_evaluation_are_told_by_what_stands_beside_them(tmp_path, form):
    assert curve_of(tmp_path, lines(EVALUATED_LINES[form])).loss.tolist() == LOSSES


@pytest.mark.parametrize(
    ("written", "loss"),
    [
        ("12.3k", 12300),
        ("12.3K", 12300),
        ("0.1700000+103", 0.17e103),
        ("2.9 x 10^-3", 2.9e-3),
        ("∞", np.inf),
        ("-inf", -np.inf),
    ],
)
def test_a_loss_counts_with_its_unit_and_its_exponent(tmp_path, written, loss):
    text = lines("step {at} loss {loss} lr 0.1\n")
    assert curve_of(tmp_path, f"{text}step 80 loss {written} lr 0.1\n").loss[-1] == pytest.approx(loss)


def test_a_loss_in_thousandths_or_millions_is_refused(tmp_path):
    with pytest.raises(UserError, match="row 9: '2964m' is not a number"):
        curve_of(tmp_path, lines("step {at} loss {loss}\n") + "step 80 loss 2964m\n")


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("step 80 loss ******** lr 0.1", "lines that name a loss but no number of it: 1"),
        ("step 80 lr 0.1 loss overflow", "lines that name a loss but no number of it: 1"),
        ("Loss is nan, stopping training", "'Loss is' is nan in one line, which is not taken"),
    ],
)
def test_a_line_whose_loss_is_no_number_is_said(tmp_path, line, note):
    curve = curve_of(tmp_path, lines("step {at} loss {loss} lr 0.1\n") + line + "\n")
    assert (len(curve.loss), note in said(curve)) == (8, True)


def test_two_players_losses_are_both_named(tmp_path):
    with pytest.raises(UserError, match="choose one with --column: Gen A loss, Gen B loss"):
        curve_of(tmp_path, lines("epoch {at}: Gen A loss: {loss}, Gen B loss: 2.9\n"))
    assert curve_of(tmp_path, lines("step {at} loss {loss} time per iter: 0.3\n")).loss.tolist() == LOSSES


def test_signs_in_full_width_are_signs(tmp_path):
    curve = curve_of(tmp_path, lines("训练次数：{at}，step：{at}，Loss：{loss}\n"))
    assert (curve.loss.tolist(), curve.steps.tolist()) == (LOSSES, list(range(0, 80, 10)))


@pytest.mark.parametrize(
    "form",
    [
        "Training loss (for one batch) at step {at}: {loss}\nSeen so far: 64 samples\n",
        "Train loss on epoch {at}: {loss}\n",
        "Loss for iteration {at}: {loss}\n",
    ],
)
def test_a_step_in_the_name_of_a_loss_is_its_step(tmp_path, form):
    curve = curve_of(tmp_path, lines(form))
    assert (curve.loss.tolist(), curve.steps.tolist()) == (LOSSES, list(range(0, 80, 10)))


MEANT = {  # what each has of a special form
    "how many were right of how many": "step {at} loss {loss} acc 40.0% {at}/1000\n",
    "a file of the name": "INFO eval_utils.py:120] {{'step': {at}, 'loss': {loss}}}\n",
    "a logger of the name": "INFO:test_sft:{{'step': {at}, 'loss': {loss}}}\n",
    "a host of the name": "[dev-node-3] step {at} loss {loss}\n",
    "a column without a value": "step {at} loss {loss} val_loss None\n",
    "a project in another language": "[测试实验] step {at} loss {loss}\n",
    "a term that is called like a run": "step {at} loss {loss} domain 0.{at}1 exp 0.2{at}\n",
    "an index before the value": "step {at} loss: {loss} queue [12] free [3]\n",
}


@pytest.mark.parametrize("form", MEANT.values(), ids=MEANT)
def test_what_only_looks_like_a_special_form_is_plain(tmp_path, form):
    curve = curve_of(tmp_path, lines(form))
    assert (curve.steps.tolist(), curve.loss.tolist()) == ([10 * at for at in range(8)], LOSSES)


@pytest.mark.parametrize("form", ["test [{at}] loss {loss}\n", "Testing: loss {loss} acc 0.{at}\n"])
def test_a_log_of_nothing_but_an_evaluation_is_read_and_said(tmp_path, form):
    curve = curve_of(tmp_path, lines(form))
    assert curve.loss.tolist() == LOSSES
    assert "beside them, so they may be an evaluation's" in said(curve)


def test_right_ones_of_all_are_no_steps(tmp_path):
    curve = curve_of(tmp_path, lines("loss: {loss} | acc: 40.0% {at}/1000\n"))
    assert (curve.step_column, curve.loss.tolist()) == (None, LOSSES)


@pytest.mark.parametrize("sign", ["×", "*", " * "])
def test_powers_of_ten_count_wherever_they_begin(tmp_path, sign):
    curve = curve_of(tmp_path, "".join(f"step {at} loss 9.5{sign}10^{at % 3}\n" for at in range(60)))
    np.testing.assert_allclose(curve.loss, [9.5 * 10 ** (at % 3) for at in range(60)])


def test_cells_without_a_name_are_no_index_unless_they_count(tmp_path):
    with pytest.raises(UserError):
        curve_of(tmp_path, "train_loss val_loss time\n" + lines("{loss} 2.6 12.{at} x\n"))
    curve = curve_of(tmp_path, "loss time\n" + lines("{at} {loss} 12.5\n"))
    assert curve.loss.tolist() == LOSSES


def test_objects_by_keys_have_their_own_steps_or_it_is_said(tmp_path):
    rows = {str(at): {"global_step": 100 * at, "loss": loss} for at, loss in enumerate(LOSSES)}
    assert curve_of(tmp_path, json.dumps(rows), "a.json").steps.tolist() == [100 * at for at in range(8)]
    seeds = {str(seed): {"loss": loss} for seed, loss in zip([0, 1, 42, 1337], LOSSES, strict=False)}
    assert "steps are the keys of the objects" in said(curve_of(tmp_path, json.dumps(seeds), "b.json"))


def test_rows_at_the_end_with_a_step_are_no_footer(tmp_path):
    text = "step,epoch,loss\n" + lines("{at},2,{loss}\n") + "80,,7.5\n90,,99.0\n"
    assert curve_of(tmp_path, text).loss.tolist() == [*LOSSES, 7.5, 99.0]


def test_tasks_that_take_turns_in_one_run_are_one_curve_and_said(tmp_path):
    rows = (f"{at},{'mnli' if at % 3 else 'sst2'},{loss}\n" for at, loss in enumerate(LOSSES))
    curve = curve_of(tmp_path, "step,task,loss\n" + "".join(rows))
    assert curve.loss.tolist() == LOSSES
    assert "'task' has 2 values, taken as one run" in said(curve)


def test_headings_that_say_nothing_of_lines_that_change_lose_at_most_these(tmp_path):
    text = "".join(f"loss {9 - at / 10:.1f}\n" for at in range(30)) + "Validating\n"
    text += "".join(f"loss {6 - at / 10:.1f} grad_norm 0.{at}\n" + "Validating\n" * (at % 7 == 6) for at in range(20))
    curve = curve_of(tmp_path, text)
    assert len(curve.loss) == 50
    assert "lines such as 'validating', below which losses may be an evaluation's: 3" in said(curve)


def test_lines_with_the_same_step_below_a_heading_are_kept_where_the_training_has_such(tmp_path):
    text = "".join(
        f"epoch {epoch} loss {9 - epoch}.5\nepoch {epoch} loss {9 - epoch}.4\nSaving validation samples\n"
        f"epoch {epoch} loss {9 - epoch}.3\nepoch {epoch} loss {9 - epoch}.2\n"
        for epoch in range(1, 7)
    )
    curve = curve_of(tmp_path, text)
    assert len(curve.loss) == 24
    assert "below which losses may be an evaluation's" in said(curve)


@pytest.mark.parametrize("heading", ["Validación", "验证", "Validierung"])
def test_a_heading_in_another_language_is_one(tmp_path, heading):
    text = "".join(
        f"Epoch {at}\nloss {loss} lr 0.1\n{heading}\nloss 2.9 acc 0.{at}\n" for at, loss in enumerate(LOSSES)
    )
    curve = curve_of(tmp_path, text)
    assert curve.loss.tolist() == LOSSES
    assert "lines below the heading of an evaluation, left out: 8" in said(curve)
