"""Losses that a line tells in words: what they are over, of or at is never taken for their value."""

import pytest

from s3bench.curve_files.phrases import in_pairs
from s3bench.errors import UserError
from tests.s3bench.curve_files.logs import curve_of, said

LOSSES = [2.75, 2.25, 2.5, 1.75, 1.5, 1.25]


def lines(pattern, losses=LOSSES):
    return "".join(pattern.format(at=at, loss=loss) + "\n" for at, loss in enumerate(losses, start=1))


@pytest.mark.parametrize(
    "pattern",
    [
        "The loss after {at} epochs is {loss}",
        "after {at} iterations loss: {loss}",
        "Loss in epoch {at} was {loss}",
        "Loss of epoch {at}: {loss}",
        "Loss at the end of epoch {at} is {loss}",
        "At step {at} the loss was {loss}",
        "Training loss [epoch {at}]: {loss}",
        "Training loss epoch[{at}]: {loss}",
        "Training loss epoch {at}: {loss}",
        "train loss @ step {at}: {loss}",
        "train_loss@{at}: {loss}",
        "loss[{at}] = {loss}",
        "loss({at}) = {loss}",
        "loss #{at}: {loss}",
        "loss no. {at}: {loss}",
        "Loss {at} = {loss}",
        "loss {at} {loss}",
        "loss = {loss} (epoch {at})",
        "epoch{at:03d}: loss={loss}",
        "ep{at:03d} loss={loss}",
        "epoch_{at} loss={loss}",
        "{at}     train loss={loss}    train acc=0.5",
        "{at}: {loss}",
        "{at} train {loss}",
        "{at}) loss {loss} after 3.1 s",
        "INFO:tensorflow:[     {at}] | gnorm  8.33 lr  0.000125 | loss  {loss}",
        "epoch{at}---trainloss{loss},logloss0.43",
        "epoch {at} | train_mean_nll: {loss} | test/nll: 9.5",
        "Training:  56%|#####  | 1{at}/32 [00:05<00:04,  3.39it/s, epoch=8, step={at}, loss={loss}]",
        "== {at} == loss {loss}",
        "Epoch no. {at} loss {loss}",
        "loss (step {at} of 12): {loss}",
        "loss at {at}/12: {loss}",
        "({at}/40) loss {loss}",
        "======>>>>>>[{at}] Train Loss: {loss}  Train ACC: 0.997",
        "Epoch: {at}, Batch(0/1417) done. Loss: {loss}",
        "2025-02-22 12:15:45,882 - mine - INFO - Epoch {at}: {{'loss': {loss}}}",
        "I1216 14:22:57.913980 139628846601088 train.py:577] [Train {at}/1882] {{'scale': 1.0, 'train_loss': {loss}}}",
        "[Train {at}/1882] loss {loss}",
        "2025-12-03 18:59:45,604 INFO     Training average positive_sample_loss at step {at}: 3.194196\n"
        "2025-12-03 18:59:45,604 INFO     Training average loss at step {at}: {loss}",
        "epoch {at:04d} | loss {loss} (train), 9.232 (dev) | error 0.370 (train), 0.384 (dev) | tt 0.27min",
        'json_stats: {{"_type": "train_iter", "epoch": "1/196", "iter": "{at}/29327", "loss": {loss}}}',
    ],
)
def test_a_step_beside_a_loss_is_the_step(tmp_path, pattern):
    curve = curve_of(tmp_path, lines(pattern))
    assert (curve.loss.tolist(), curve.steps.tolist()) == (LOSSES, list(range(1, 7)))


@pytest.mark.parametrize(
    "pattern",
    [
        "Average loss over 100 steps: {loss}",
        "Average loss over last 100 steps is {loss}",
        "Mean loss (last 100 batches) = {loss}",
        "mean loss (last 100): {loss}",
        "loss avg over 50 batches {loss}",
        "loss (avg of 100) {loss}",
        "total loss for 128 training samples: {loss}",
        "loss for batch of 128: {loss}",
        "loss per 100 tokens: {loss}",
        "loss (lr=0.01) {loss}",
        "Loss with lr 0.01: {loss}",
        "loss for class 1: {loss}",
        "loss for class 1 {loss}",
        "loss of rank 0 is {loss}",
        "loss on cuda:0: {loss}",
        "loss decreased from 9.5 to {loss}",
        "loss -> {loss}",
        "loss ...... {loss}",
        "loss: ~{loss}",
        'loss: "{loss}"',
        "**loss**: {loss}",
        "`loss`: `{loss}`",
        "loss: DeviceArray({loss}, dtype=float32)",
        "170000000{at} loss={loss}",
        "2024010{at} loss={loss}",
        "50{at} MB loss={loss}",
        "{at}% loss={loss}",
    ],
)
def test_a_number_in_the_words_on_a_loss_is_not_its_value(tmp_path, pattern):
    curve = curve_of(tmp_path, lines(pattern))
    assert (curve.loss.tolist(), curve.step_column) == (LOSSES, None)


@pytest.mark.parametrize(
    "line",
    [
        "step 3 train loss 2.5 acc: 0.6",
        "train loss 2.5 tokens: 100",
        "loss: 2.5 (2.6)",
        "loss: 2.5 (avg 2.6)",
        "loss G 2.5 samples: 100",
        "loss D: 2.5 loss G: 0.5",
        "loss 2.5 2.6",
        "loss L1: 2.5",
        "loss at 12:30:05 2.5",
        "lr 0.1 loss 2.5 step 3: 1.5 s",
        "loss 2.5 = 1.0 + 1.5",
        "loss total 2.5 = 1.0 + 1.5",
    ],
)
def test_what_is_no_such_phrase_is_left_as_it_is(line):
    assert in_pairs(line) == line


@pytest.mark.parametrize(
    "pattern",
    [
        "[valid] loss 9.5 [train] loss {loss}",
        "(train) loss {loss} (valid) loss 9.5",
        "Train Loss / Val Loss: {loss} / 9.5",
        "train/val losses: {loss}, 9.5",
        "Loss train/val {loss}/9.5",
    ],
)
def test_the_side_of_the_training_is_read(tmp_path, pattern):
    assert curve_of(tmp_path, lines(pattern)).loss.tolist() == LOSSES


def test_losses_of_several_classes_are_told_apart(tmp_path):
    text = lines("loss for class 1: {loss}\nloss for class 2: 9.5")
    with pytest.raises(UserError, match="'of class' names several runs; choose one with --where of class=VALUE: 1, 2"):
        curve_of(tmp_path, text)
    assert curve_of(tmp_path, text, where="of class=1").loss.tolist() == LOSSES


def test_short_starts_before_a_run_are_left_out_and_said(tmp_path):
    long = lines("epoch {at} loss {loss}", [9 - 0.1 * at for at in range(40)])
    short = lines("epoch {at} loss {loss}", LOSSES[:2])
    curve = curve_of(tmp_path, short + short + long)
    assert (len(curve.loss), curve.loss[0], curve.steps[0], curve.step_column) == (40, 9, 1, "epoch")
    assert "as of starts that were given up, left out: 4" in said(curve)
    with pytest.raises(UserError, match="as in several runs"):  # the first goes further
        curve_of(tmp_path, "epoch 1 loss 2.5\nepoch 50 loss 2\n" + long)
    with pytest.raises(UserError, match="as in several runs"):
        curve_of(tmp_path, lines("epoch {at} loss {loss}") + long)


BAR = "{share}%|###   | {at}/200 [00:01<00:10, 9.0it/s, loss={loss:.2f}]\r"


def bars(ends):
    text, losses = "", []
    for end in ends:
        for at in range(20, end + 1, 20):
            losses.append(3 - 0.01 * len(losses))
            text += BAR.format(share=at // 2, at=at, loss=losses[-1])
        text += "\n"
    return text, losses


def test_bars_that_begin_again_at_their_end_are_epochs(tmp_path):
    text, losses = bars([200, 180, 200, 60])
    curve = curve_of(tmp_path, text)
    assert curve.loss.tolist() == pytest.approx(losses)
    assert "bars that begin again at their end, taken as the epochs of one run: 3" in said(curve)
    anew = ((200, ""), (100, "1"), (200, "2"))  # a run was killed, and others began
    runs = "".join(bars([end])[0].replace("loss=", f"loss={more}") for end, more in anew)
    with pytest.raises(UserError, match="as in several runs"):
        curve_of(tmp_path, runs)
    text, losses = bars([200, 100, 200])  # an epoch was cut short
    curve = curve_of(tmp_path, text)
    assert curve.loss.tolist() == pytest.approx(losses)
    assert "'step' begins again 2 times, where the loss goes on: taken as epochs of one run" in said(curve)


def test_bars_of_several_trainings_that_take_turns_are_refused(tmp_path):
    bar = "[Training] {at}/{of} [====>...............] - ETA: 3:30  [ loss={loss} ]\n"
    text = "".join(bar.format(at=at, of=of, loss=loss) for at in range(30, 50) for of, loss in ((656, 2.5), (160, 9.5)))
    with pytest.raises(UserError, match="step 30 appears twice"):
        curve_of(tmp_path, text)


@pytest.mark.parametrize(
    "joined",
    [
        "==> run1.log <==\nstep 1 loss 2.5\nstep 2 loss 2.4\n\n==> run2.log <==\nstep 3 loss 9.5\nstep 4 loss 9.4\n",
        "run1.log:1:step 1 loss 2.5\nrun1.log:2:step 2 loss 2.4\nrun2.log:7:step 3 loss 9.5\nrun2.log:8:step 4 loss 9",
    ],
)
def test_the_lines_of_several_files_are_refused(tmp_path, joined):
    with pytest.raises(UserError, match=r"joins the lines of several files; pass these instead: run1\.log, run2\.log"):
        curve_of(tmp_path, joined)
    assert curve_of(tmp_path, joined.replace("run2", "run1")).loss.tolist()[:3] == [2.5, 2.4, 9.5]


def test_prose_that_speaks_of_tests_is_no_heading(tmp_path):
    prose = (
        "The tests that the committee had asked for were not held before the end of the year, so that all had to wait."
    )
    curve = curve_of(tmp_path, lines("loss {loss} = 1.0 + 1.5\n" + prose))
    assert curve.loss.tolist() == LOSSES
