"""Tables among other lines, bars of several processes, and losses that stand where an evaluation's would."""

import numpy as np
import pytest

from s3bench.errors import UserError
from tests.s3bench.curve_files.logs import curve_of, said

LOSSES = [2.5, 2.25, 2.0, 1.75]


def lines(pattern, losses=LOSSES, first=1):
    return "".join(pattern.format(at=at, loss=loss) + "\n" for at, loss in enumerate(losses, start=first))


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("Epoch    Train Loss   Test Loss    Time    \n" + 40 * "-", "{at}        {loss}       9.5       0.55    s"),
        ("Epoch\tTrain Loss\tTest Loss\tTime", "{at} | {loss} | 9.5 | 0.55 s"),
        (" step | loss | lr ", " {at}/4 | {loss} | - "),
        ("Iter  Loss  Accuracy", "{at} {loss} 0.5"),
    ],
)
def test_a_table_that_a_program_prints_among_other_lines_is_read(tmp_path, head, row):
    text = f"Learning rate: 0.01\nTraining for 4 epochs\n\n{head}\n{lines(row)}{40 * '-'}\nBest test accuracy: 0.52\n"
    curve = curve_of(tmp_path, text + "Class 1  0.5  0.25\n")
    assert (curve.loss.tolist(), curve.steps.tolist()) == (LOSSES, [1, 2, 3, 4])


def test_text_below_a_table_is_left_out_and_said(tmp_path):
    text = "epoch,train_loss,val_loss\n" + lines("{at},{loss},9.5") + "\n===== TEST =====\nmAP: 0.65\nRecall: 0.9\n"
    curve = curve_of(tmp_path, text)
    assert (curve.loss.tolist(), curve.step_column) == (LOSSES, "epoch")
    assert "lines below the table, left out: 3" in said(curve)


def lightning(epoch, at, loss, behind=""):
    return f"Epoch {epoch}: {at * 10}%|##  | {at}/10 [00:01<00:09, 2.4it/s, v_num=2, loss={loss:.3f}]{behind}\r"


def test_a_bar_that_begins_again_with_the_old_epochs_name_is_not_counted(tmp_path):
    text, losses = "", []
    for epoch in range(3):
        for at in range(1, 11):
            losses.append(3 - 0.01 * (10 * epoch + at))
            text += lightning(epoch, at, losses[-1])
        text += lightning(epoch, 10, losses[-1], "Loss Mean - 6.89\n")  # of another process
        text += lightning(epoch, 0, losses[-1]) + lightning(epoch + 1, 0, losses[-1])
    curve = curve_of(tmp_path, text)
    assert curve.loss.tolist() == pytest.approx(losses)


def test_a_bar_that_moves_on_with_the_validation_counts_the_training_alone(tmp_path):
    text = ""
    for epoch in range(3):
        text += "".join(lightning(epoch, at, 3 - 0.1 * (7 * epoch + at)) for at in range(1, 8))
        for at in range(8, 11):
            text += f"\nValidation DataLoader 0:  10%|# | {at - 7}/3 [00:01<00:09, 2.4it/s]\x1b[A\n"
            text += 2 * lightning(epoch, at, 3 - 0.1 * (7 * epoch + 7))
    assert curve_of(tmp_path, text).loss.tolist() == pytest.approx([3 - 0.1 * at for at in range(1, 22)])


def box(step, loss):
    lost = "" if step is None else f"| step      | {step:<8} |\n"
    return f"{'-' * 24}\n| loss      | {loss:<8} |\n| grad_norm | 2.5      |\n{lost}{'-' * 24}\n"


def test_steps_of_three_digits_are_rounded_and_a_torn_box_is_left_out(tmp_path):
    steps = [f"{30 * at:.3g}" for at in range(400)]
    text = "".join(box(step, 3 - at / 1000) for at, step in enumerate(steps[:200])) + box(None, 9.5)
    curve = curve_of(tmp_path, text + "".join(box(step, 2.8 - at / 1000) for at, step in enumerate(steps[200:])))
    assert (len(curve.loss), curve.step_column) == (400, None)
    assert "rows with a loss but no step, left out: 1 of 401" in said(curve)
    assert "rows are counted, for 'step' is rounded" in said(curve)


def test_losses_that_may_be_an_evaluations_are_said(tmp_path):
    text = lines("acc: 0.5\nLoss: {loss}") + "OK: Finished training for 25 epochs\n" + lines("acc: 0.6\nLoss: {loss}")
    assert "which may be an evaluation's: 4" in said(curve_of(tmp_path, text))
    text = lines("epoch {at}\n100\nDev:\ncorrect: 3\nLoss: {loss}")
    assert "all losses have lines such as 'dev' above, so they may be an evaluation's" in said(curve_of(tmp_path, text))
    assert not said(curve_of(tmp_path, "Evaluation every epoch\n" + lines("epoch {at} loss {loss}")))


def test_tasks_one_after_the_other_are_asked_for(tmp_path):
    rows = lines("[ {at} / 4 ]\tLoss: {loss}")
    text = "".join(f"----- Task {task} Training Begin -----\n{rows}" for task in (1, 2))
    with pytest.raises(UserError, match="'Task' names several runs; choose one with --where Task=VALUE: 1, 2"):
        curve_of(tmp_path, text)


def test_losses_that_are_all_one_are_said(tmp_path):
    assert "all losses are 0" in said(curve_of(tmp_path, lines("epoch {at} loss {loss}", [0.0] * 5)))


def test_a_number_that_several_lines_begin_with_is_their_epoch(tmp_path):
    curve = curve_of(tmp_path, "".join(f"[{at // 3}] loss={3 - 0.1 * at:.1f} acc=0.5\n" for at in range(12)))
    assert (len(curve.loss), curve.step_column) == (12, None)
    again = "".join(f"[{at % 6 // 3}] loss={3 - 0.1 * at:.1f} acc=0.5\n" for at in range(60))
    with pytest.raises(UserError, match="rows of several processes"):
        curve_of(tmp_path, again)


def test_a_bar_that_counts_thousands_does_not_begin_again_with_them(tmp_path):
    shown = ["800", "999", "1.20k", "1.40k", "11.9k"]
    bar = "Training:  5%|# | {at}/12.0k [00:01<00:09, 9.0it/s, loss={loss}]\r"
    curve = curve_of(tmp_path, "".join(bar.format(at=at, loss=3 - 0.5 * n) for n, at in enumerate(shown)))
    assert (curve.steps.tolist(), curve.step_column) == ([800, 999, 1200, 1400, 11900], "step")
    assert not said(curve)


def test_zeros_that_hide_losses_that_are_not_finite_are_not_finite(tmp_path):
    row = "{{'loss': '{loss}', 'grad_norm': '{norm}', 'epoch': '{at}'}}\n"
    text = "".join(row.format(at=at, loss=loss, norm=norm) for at, loss, norm in [(1, 2.5, 1.5), (2, 2.25, 1.5)])
    text += "".join(row.format(at=at, loss=0, norm="nan") for at in (3, 4)) + row.format(at=5, loss=0, norm=1.5)
    curve = curve_of(tmp_path, text)
    assert np.isnan(curve.loss).tolist() == [False, False, True, True, False]
    assert "losses of 0 beside a 'grad_norm' that is not finite, taken as not finite, too: 2" in said(curve)


def test_two_optimizers_one_after_the_other_are_said(tmp_path):
    curve = curve_of(tmp_path, "opt,step,loss\n" + lines("adam,{at},{loss}") + lines("sgd,{at},{loss}", first=5))
    assert "'opt' has 2 values, taken as one run, as the steps rise through all of them" in said(curve)
