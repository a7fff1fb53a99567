"""What well-known trainers write, in their own formats: each is read with the right steps and losses."""

import json

import numpy as np
import pytest

from s3bench.curve_files.reader import read_curve
from s3bench.errors import UserError

LOSSES = [3.5, 2.25, 9.0, 2.125]
STEPS = [10, 20, 30, 40]


def lines(template):
    """Return a line per step; in the template, # is the step, @ the loss and ^ the row."""
    rows = enumerate(zip(STEPS, LOSSES, strict=True))
    return "".join(
        template.replace("#", str(step)).replace("@", f"{loss:.4f}").replace("^", str(row))
        for row, (step, loss) in rows
    )


BOX = """
-----------------------------------------
| time/                   |             |
|    iterations           | ^           |
|    total_timesteps      | #           |
| train/                  |             |
|    entropy_loss         | -0.686      |
|    loss                 | @           |
|    n_updates            | 1^          |
|    value_loss           | 54.2        |
-----------------------------------------
"""
FAIRSEQ = (
    "2021-01-01 00:00:00 | INFO | train_inner | epoch 001:   # / 5000 loss=@, ppl=12.1, num_updates=#, gnorm=1.2\n"
)
FAIRSEQ_EPOCH = (
    "2021-01-01 00:00:00 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 9 | num_updates 40\n"
    "2021-01-01 00:00:00 | INFO | train | epoch 001 | loss 8 | ppl 12.1 | num_updates 40 | gnorm 1.2\n"
)
KERAS = "Epoch #/40\n\r\x1b[1m  1/313\x1b[0m \x1b[32m━\x1b[0m \x1b[1m1s\x1b[0m 8ms/step - loss: 9.0"
KERAS += "\r\x1b[1m313/313\x1b[0m \x1b[32m━━━━\x1b[0m \x1b[1m0s\x1b[0m 8ms/step - loss: 8.0"
KERAS += "\r\x1b[1m313/313\x1b[0m \x1b[32m━━━━\x1b[0m \x1b[1m3s\x1b[0m 8ms/step - loss: @ - val_loss: 9.2\n"

LOGS = {  # text, the columns of the loss and of the steps
    "Markdown": ("# A run\n\n| step | loss |\n|-----:|:----:|\n" + lines("| # | @ |\n") + "\nDone.\n", "loss", "step"),
    "psql": (" step |  loss  \n------+--------\n" + lines("   # | @ \n") + "(4 rows)\n", "loss", "step"),
    "a grid": (
        "+------+------+\n| step | loss |\n+======+======+\n" + lines("|   # | @ |\n+------+------+\n"),
        "loss",
        "step",
    ),
    "columns of equal width": ("  step    loss\n------  ------\n" + lines("    #  @\n"), "loss", "step"),
    "rich": ("┏━━━━┳━━━━━━┓\n┃step┃ loss ┃\n┡━━━━╇━━━━━━┩\n" + lines("│ #  │@│\n") + "└────┴──────┘\n", "loss", "step"),
    "Excel": ("sep=;\nstep;loss\n" + lines("#;@\n").replace(".", ","), "loss", "step"),
    "names again after a resume": ("step,loss\n5,4\nstep,loss\n" + lines("#,@\n"), "loss", "step"),
    "tensors": (lines("step # loss tensor(@, device='cuda:0', grad_fn=<NllLossBackward0>)\n"), "loss", "step"),
    "Hugging Face, model card": (
        "| Training Loss | Epoch | Step | Validation Loss |\n|:---:|:---:|:---:|:---:|\n| No log | 0.5 | 5 | 9 |\n"
        + lines("| @ | ^.5 | # | 9.1 |\n"),
        "Training Loss",
        "Step",
    ),
    "quoted decimal commas": ('"step","loss"\n' + lines('"#","@"\n').replace(".", ","), "loss", "step"),
    "Stable-Baselines3": ("Using cpu device" + lines(BOX), "train/loss", "time/total_timesteps"),
    "objects over several lines": (lines('{\n  "step": #,\n  "loss": @\n}\n'), "loss", "step"),
    "objects on one line": (lines('{"step": #, "loss": @}'), "loss", "step"),
    "a JSON text sequence": (lines('\x1e{"step": #, "loss": @}\n'), "loss", "step"),
    "a list that is not closed": ("[\n" + lines('{"step": #, "loss": @},\n'), "loss", "step"),
    "fairseq": (lines(FAIRSEQ) + FAIRSEQ_EPOCH, "loss", "num_updates"),
    "Keras 3": (lines(KERAS), "loss", "Epoch"),
    "torchtitan": (
        lines("[titan] 2025-01-01 00:00:00,123 - root - INFO - \x1b[31mstep: #  \x1b[38;2;180;60;0mloss:  @\x1b[39m\n"),
        "loss",
        "step",
    ),
    "TensorFlow's object detection": (
        lines(
            "INFO:tensorflow:Step # per-step time 0.3s\nINFO:tensorflow:{'Loss/box_loss': 1,\n 'Loss/total_loss': @}\n"
        ),
        "Loss/total_loss",
        "Step",
    ),
    "OLMo-core": (
        lines(
            "2024-11-01 00:00:00.123\thost:0\tcallbacks:101\tINFO\t[step=#/739328,epoch=1,eta=3 days, 4:05:06]\n"
            "    optim/LR (group 0)=0.00001\n    train/CE loss=@\n    train/PPL=50.1\n"
        ),
        "train/CE loss",
        "step",
    ),
    "Composer": (
        lines("[batch=1#/1000]:\n\t Train time/epoch: 0\n\t Train time/batch: #\n\t Train loss/train/total: @\n"),
        "Train loss/train/total",
        "time/batch",
    ),
    "nanochat": (
        "".join(f"Step {step:05d} | Validation bpb: 0.9\n" for step in (0,))
        + lines("step 000#/21400 (0.1%) | loss: @ | lrm: 1.00 | tok/sec: 1,000,000 | mfu: 40.1\n"),
        "loss",
        "step",
    ),
    "a progress bar": (lines("\rtrain:  1%|█   | #/1000 [00:10<10:00, 1.2it/s, loss=@]") + "\n", "loss", "step"),
    "NeMo": (
        lines("Training epoch 0, iteration ^/99 | lr: 1e-05 | global_step: # | reduced_train_loss: @ | consumed: 8\n"),
        "reduced_train_loss",
        "global_step",
    ),
    "detectron2": (
        lines(
            "[01/01 12:00:00 d2.utils.events]:  eta: 1:23:45  iter: #  total_loss: @  loss_cls: 0.5  max_mem: 3000M\n"
        ),
        "total_loss",
        "iter",
    ),
    "Lightning's CSV": (
        "epoch,lr-AdamW,step,train_loss_epoch,train_loss_step,val_loss\n"
        + lines(",0.001,#,,,\n0,,#,,@,\n")
        + "0,,40,,,9.1\n0,,40,3.2,,\n",
        "train_loss_step",
        "step",
    ),
    "wandb's download": (
        '"train/global_step","sun-1 - _step","sun-1 - _step__MIN","sun-1 - train/loss","sun-1 - train/loss__MIN"\n'
        + lines('"#","^","^","@","@"\n'),
        "sun-1 - train/loss",
        "train/global_step",
    ),
    "LLaMA-Factory": (
        lines('{"current_steps": #, "total_steps": 40, "loss": @, "epoch": 0.^}\n')
        + '{"current_steps": 40, "total_steps": 40, "eval_loss": 9.1, "epoch": 1.0}\n',
        "loss",
        "current_steps",
    ),
    "steps with commas": (lines("step #,000: loss @\n"), "loss", "step"),
    "steps in thousands": (lines("step #k loss @\n"), "loss", "step"),
    "several lists": (
        json.dumps(
            {
                "train": [{"step": step, "loss": loss} for step, loss in zip(STEPS, LOSSES, strict=True)],
                "val": [{"step": 10, "loss": 9}, {"step": 20, "loss": 9}],
            }
        ),
        "loss",
        "step",
    ),
}


@pytest.mark.parametrize("trainer", LOGS)
def test_the_log_of_a_trainer_is_read_right(tmp_path, trainer):
    text, column, step = LOGS[trainer]
    (tmp_path / "log").write_text(text, encoding="utf-8")
    curve = read_curve(tmp_path / "log")
    assert (curve.column, curve.step_column) == (column, step)
    times = 1000 if trainer.startswith("steps") else 1
    assert curve.steps[-4:].tolist() == [times * one for one in STEPS]
    np.testing.assert_array_equal(curve.loss[-4:], LOSSES)
    assert len(curve.loss) == 4 + (trainer == "names again after a resume")


@pytest.mark.parametrize(
    "line",
    [
        "{'loss': @, 'grad_norm': 1.5, 'epoch': 0.^}\n",  # Hugging Face's console
        "  1%|█  | #/600 [00:10<01:00, 1.0it/s]\n{'loss': @, 'epoch': 0.^}\n",  # its bar may lag behind
        "[12:00:00] [^] loss=@\n",
    ],
)
def test_where_lines_have_no_step_rows_are_counted(tmp_path, line):
    (tmp_path / "log").write_text(lines(line), encoding="utf-8")
    curve = read_curve(tmp_path / "log")
    assert (curve.step_column, curve.loss.tolist()) == (None, LOSSES)
    assert "rows counted from 0" in curve.how_read()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Dear all,\n\nsee loss 3 above, and\nloss 2 below.\nRegards\n", "is none of these"),
        ("loss 3\nThat was that.\nWe went on.\nloss 2\n", "is none of these"),
        (lines("step # loss @\n").replace(".", ","), "'3,5000' is not a number"),
        ('step,loss\n1,"3,512"\n2,"2,250"\n', "'3,512' is not a number"),
        ("| step | loss |\n|---|---|\n| 1 | 2 |\n\n| epoch | loss |\n|---|---|\n| 1 | 2 |\n", "has several tables"),
        ('{"a": [{"loss": 3}, {"loss": 2}], "b": [{"loss": 3}]}', "holds several lists of rows: a, b"),
        ('{"history": {"loss": [3, 2]}, "events": [{"loss": 3}, {"loss": 2}]}', "holds several lists of rows"),
    ],
)
def test_what_is_no_log_or_leaves_it_open_is_refused(tmp_path, text, why):
    (tmp_path / "log").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=why):
        read_curve(tmp_path / "log")


@pytest.mark.parametrize(
    ("trainer", "note"),
    [
        ("Markdown", "lines beside the table, left out: 1"),
        ("Hugging Face, model card", "rows with 'No log', left out: 1"),
        ("Stable-Baselines3", "lines beside the boxes, left out: 1"),
        ("names again after a resume", "rows that repeat the names, left out: 1"),
        ("fairseq", "lines of another kind at a step or epoch of those above, left out: 1 of 6"),
        ("several lists", "the list 'train' is taken, and not val"),
    ],
)
def test_what_is_left_out_of_a_trainers_log_is_said(tmp_path, trainer, note):
    (tmp_path / "log").write_text(LOGS[trainer][0], encoding="utf-8")
    assert note in read_curve(tmp_path / "log").notes
