"""Progress bars of a training and of its test: each loss of the training counts once, and none of the test."""

import pytest

from s3bench.errors import UserError
from tests.s3bench.curve_files.logs import curve_of, said

TURNS = "bars of 10 steps, which take turns with those of 40, are taken for an evaluation's"


def tqdm(heading="", name="", epochs=4):
    """Return bars as tqdm draws them: of 40 steps with the losses 8, 7, 6, ..., then of 10 steps with the loss 9."""
    text = ""
    for epoch in range(epochs):
        text += heading.format(epoch + 1)
        for at in (13, 26, 40):
            shown = f"{at}/40 [00:05<00:03, 8.1it/s, loss={8 - epoch - at / 100}]"
            text += f"\r{name}{at * 100 // 40:3d}%|###   | {shown}"
        text += f"\n{name}100%|######| 10/10 [00:01<00:00, 9.1it/s, loss=9]\n"
    return text


@pytest.mark.parametrize(("heading", "name"), [("Epoch {}/4\n", ""), ("", ""), ("Epoch {}/4\n", "batch: ")])
def test_shorter_bars_that_take_turns_with_longer_ones_are_an_evaluations(tmp_path, heading, name):
    curve = curve_of(tmp_path, tqdm(heading, name))
    assert curve.loss.tolist() == [8 - epoch - at / 100 for epoch in range(4) for at in (13, 26, 40)]
    assert TURNS in said(curve)


def test_bars_that_take_turns_once_or_before_their_end_may_be_of_two_trainings(tmp_path):
    with pytest.raises(UserError, match="step 10 comes after 40, as in several runs"):
        curve_of(tmp_path, tqdm(epochs=1))
    early = tqdm().replace(" 40/40 ", " 27/40 ").replace("100%|###   |", " 67%|###   |")
    with pytest.raises(UserError, match="as in several runs"):
        curve_of(tmp_path, early)


def test_shorter_bars_that_name_an_evaluation_keep_their_names(tmp_path):
    text = tqdm("Epoch {}/4\n").replace("loss=9", "val_loss=9")
    assert "are taken for an evaluation's" not in said(curve_of(tmp_path, text))
    assert curve_of(tmp_path, text, column="val_loss", step="none").loss.tolist() == [9] * 4


def test_counts_in_brackets_with_blanks_are_no_bars(tmp_path):
    text = "".join(f"Epoch [ {at} / 10 ] Iter [ {40 * at}/800 ] loss {3 - at / 10}\n" for at in range(1, 9))
    curve = curve_of(tmp_path, text)
    assert (curve.step_column, curve.steps.tolist()) == ("Iter", [40 * at for at in range(1, 9)])


def backspaced(at, of, loss):
    """Return a bar as pytorch-cifar draws it: backspaces lead back into it, and its count is written there."""
    bar = "=" * at + ">" + "." * (of - at)
    end = "\n" if at == of else "\r"
    return (
        f" [{bar}]  Step: 1s{at}ms | Tot: {at}s885ms | Loss: {loss} | Acc: 9.5% (7/80)"
        + "\b" * 60
        + f" {at}/{of} {end}"
    )


def test_a_bar_of_the_test_behind_backspaces_is_told_from_that_of_the_training(tmp_path):
    text = ""
    for epoch in range(3):
        text += f"\nEpoch: {epoch}\n" + "".join(backspaced(at, 40, 8 - epoch - at / 100) for at in range(1, 41))
        text += "".join(backspaced(at, 10, 9) for at in range(1, 11)) + "Saving..\n"
    curve = curve_of(tmp_path, text)
    assert curve.loss.tolist() == [8 - epoch - at / 100 for epoch in range(3) for at in range(1, 41)]
    assert TURNS in said(curve)


def test_bars_with_their_count_in_them_are_told_apart_and_a_time_is_no_step(tmp_path):
    bar = " [====== {of}/{of} =====>]  Step: {time} | Tot: 3s6ms | Loss: {loss} | Acc: 9.5% (7/80)\n"
    text = "".join(
        f"Epoch: {epoch}\n" + bar.format(of=40, time="1s4ms", loss=8 - epoch) + bar.format(of=10, time="4ms", loss=9)
        for epoch in range(5)
    )
    curve = curve_of(tmp_path, text)
    assert (curve.step_column, curve.steps.tolist(), curve.loss.tolist()) == ("Epoch", [0, 1, 2, 3, 4], [8, 7, 6, 5, 4])


def test_the_last_step_of_a_bar_whose_loss_is_that_of_the_step_before_is_kept(tmp_path):
    text = "\rSFT:   0%|      | 0/5 [00:00<?, ?it/s]"
    text += "".join(f"\rSFT: {20 * at:3d}%|###   | {at}/5 [54:15<00:38,  7.77s/it, loss 0.5]" for at in range(1, 6))
    text += "\rSFT: 100%|######| 5/5 [55:03<00:00,  8.81s/it, loss 0.5]\n"
    assert curve_of(tmp_path, text).steps.tolist() == [1, 2, 3, 4, 5]


def test_a_bar_of_something_else_gives_no_step_to_lines_that_count_by_themselves(tmp_path):
    bar = "Writing model shards: 100%|##########| {count}/{count} [00:00<00:00, 2.69it/s]\n"
    text = "".join(
        bar.format(count=9 // epoch) * (epoch != 3)
        + "".join(f"  Epoch {epoch}/4 | batch {at}/30 | loss {3 - epoch / 2 + at / 100}\n" for at in (10, 20, 30))
        for epoch in (1, 2, 3, 4)
    )
    curve = curve_of(tmp_path, text)
    assert len(curve.loss) == 12
    assert (curve.loss[0], curve.loss[-1]) == (2.6, 1.3)
