"""Logs as trainers write them: each is read right, or refused with what to choose."""

import codecs
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest

from s3bench.curve_files.reader import read_curve
from s3bench.errors import UserError
from s3bench.spikes import find_spikes

CASES = Path(__file__).parent / "cases"


def curve_of(tmp_path, text, name="log", **reading):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_curve(tmp_path / name, **reading)


def pairs(curve):
    return list(zip(curve.steps.tolist(), curve.loss.tolist(), strict=True))


def said(curve):
    return "; ".join(curve.notes)


@pytest.mark.parametrize(
    ("name", "reading", "column", "step", "onset"),
    [
        ("comment_first.csv", {}, "loss", "step", 90),
        ("console.log", {}, "train/CrossEntropyLoss", "step", 89),
        ("cut_last_line.csv", {}, "loss", "step", 50),
        ("each_twice.jsonl", {}, "loss", "current_steps", 305),
        ("epoch_mean_only.csv", {}, "train_loss_epoch", "step", 3639),
        ("history.json", {}, "loss", None, 58),
        ("loss_tokens.csv", {"column": "nll"}, "nll", "step", 90),
        ("megatron.log", {}, "lm loss", "iteration", 670),
        ("metric_loss", {}, "value", "step", 350),
        ("output.log", {}, "loss", "iter", 39),
        ("powershell.csv", {}, "loss", "step", 90),
        ("semicolon.csv", {}, "loss", "step", 90),
        ("split_rows.csv", {}, "loss", "step", 180),
        ("steps_current.jsonl", {}, "loss", "current_steps", 910),
        ("steps_iteration_capital.csv", {}, "Train Loss", "Iteration", 1600),
        ("tensorboard_download.csv", {}, "Value", "Step", 4500),
        ("trainer_state.json", {}, "loss", "step", 910),
        ("training.log", {}, "loss", "epoch", 91),
        ("two_runs_long.csv", {"where": "run=a"}, "loss", "epoch", 90),
        ("two_runs_long.csv", {"where": "run=b"}, "loss", "epoch", 90),
        ("two_runs_table.csv", {"column": "sgd loss"}, "sgd loss", "step", 40),
        ("wandb_history_iter.jsonl", {}, "train/loss", "iter", 13000),
        ("wandb_history_pl.csv", {}, "train_loss_step", "trainer/global_step", 3549),
    ],
)
def test_the_one_spike_of_a_log_is_found_at_its_step(name, reading, column, step, onset):
    curve = read_curve(CASES / name, **reading)
    assert (curve.column, curve.step_column) == (column, step)
    assert [curve.in_steps(spike).onset for spike in find_spikes(curve.loss)] == [onset]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (
            "loss_tokens.csv",
            "no column is named like a training loss; choose one with --column: step, nll, loss_tokens",
        ),
        ("two_runs_long.csv", "epoch 0 comes after 149, as in several runs; choose one with --where run=VALUE: a, b"),
        ("two_runs_table.csv", "several columns may be the loss; choose one with --column: adam loss, sgd loss"),
    ],
)
def test_a_log_that_leaves_it_open_is_refused_with_what_to_choose(name, why):
    with pytest.raises(UserError, match=why):
        read_curve(CASES / name)


@pytest.mark.parametrize(
    ("name", "reading", "note"),
    [
        ("cut_last_line.csv", {}, "an unfinished last line, left out"),
        ("each_twice.jsonl", {}, "rows that repeat a step's loss, merged: 150 of 300"),
        ("split_rows.csv", {}, "rows in which split is not train, left out: 6 of 156"),
        (
            "two_runs_table.csv",
            {"column": "sgd loss"},
            "before 'sgd loss' begins or after it ends, left out: 70 of 150",
        ),
        ("console.log", {}, "without the side terms train/loss_aux"),
        ("comment_first.csv", {}, "comment lines, left out: 1"),
        ("epoch_mean_only.csv", {}, "named like a mean over an epoch"),
    ],
)
def test_what_was_left_out_is_said(name, reading, note):
    assert note in said(read_curve(CASES / name, **reading))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " ", "   "])
def test_any_separator_and_any_encoding(tmp_path, separator):
    text = "\n".join(
        separator.join(row) for row in (["step", "loss", "lr"], ["0", "3.5", "1"], ["5", "2.5", "1"], ["9", "nan", "1"])
    )
    expected = [0, 5, 9]
    for data in (
        text.encode(),
        codecs.BOM_UTF8 + text.encode(),
        text.encode("utf-16"),
        text.encode("utf-16-le"),
        gzip.compress(text.encode()),
        text.replace("\n", "\r\n").encode(),
        ("# a comment\n\n" + text).encode(),
    ):
        curve = curve_of(tmp_path, data, name="any.data")
        assert curve.steps.tolist() == expected
        np.testing.assert_array_equal(curve.loss, [3.5, 2.5, np.nan])


def test_a_decimal_comma_is_a_point(tmp_path):
    assert pairs(curve_of(tmp_path, "step;loss\n0;3,5\n1;2,25\n2;nan\n"))[:2] == [(0, 3.5), (1, 2.25)]


def test_a_table_without_names_is_read_by_numbers(tmp_path):
    text = "0,3.5\n10,2.5\n"
    assert pairs(curve_of(tmp_path, text, column="2", step="1")) == [(0, 3.5), (10, 2.5)]
    curve = curve_of(tmp_path, text)
    assert (curve.column, pairs(curve)) == ("2", [(0, 3.5), (10, 2.5)])
    assert "no column is named loss: '2' is taken for it" in said(curve)
    for other in ("0,3.5,1\n10,2.5,2\n", "0.5,3.5\n0.7,2.5\n"):
        with pytest.raises(UserError, match="choose one with --column: 1, 2"):
            curve_of(tmp_path, other)
    named = curve_of(tmp_path, "# step loss\n0 3.5\n10 2.5\n")
    assert (named.column, pairs(named)) == ("loss", [(0, 3.5), (10, 2.5)])


def test_stdin_is_read(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"loss": 3}\n{"loss": 2}\n')))
    assert read_curve("-").loss.tolist() == [3, 2]


LINES = {
    "nanoGPT": (
        "iter 0: loss 3.5, time 21ms\nstep 0: train loss 9, val loss 9\niter 10: loss nan, time 2ms\n",
        "loss",
        "iter",
    ),
    "modded-nanogpt": (
        "step:0/6200 train_loss:3.5 train_time:2ms\nstep:0/6200 val_loss:9 train_time:2ms\n"
        "step:10/6200 train_loss:nan train_time:2ms\nstep:10/6200 val_loss:9 train_time:2ms\n",
        "train_loss",
        "step",
    ),
    "llm.c": (
        "step    0/19560 | loss 3.500000 (+nanz)| norm 15.4 (+nanz)| lr 4.29e-07 | 185k tok/s\nval loss 9.5\n"
        "step   10/19560 | loss nan (+nanz)| norm 15.4 (+nanz)| lr 4.29e-07 | 185k tok/s\nval loss 9.1\n",
        "loss",
        "step",
    ),
    "fairseq": (
        '2021-01-01 00:00:00 | INFO | train_inner | {"epoch": 1, "update": 0.1, "loss": "3.5", "num_updates": "0"}\n'
        '2021-01-01 00:00:00 | INFO | valid | {"epoch": 1, "valid_loss": "9", "valid_num_updates": "5"}\n'
        '2021-01-01 00:00:00 | INFO | train_inner | {"epoch": 1, "update": 0.2, "loss": "nan", "num_updates": "10"}\n',
        "loss",
        "num_updates",
    ),
    "torchtitan": (
        "[rank0]:2025-01-01 00:00:00,123 - root - INFO - "
        "\x1b[31mstep:  0  \x1b[32mloss:  3.5  \x1b[33mmemory: 0.95GiB(1.2%)\x1b[0m\n"
        "[rank0]:2025-01-01 00:00:01,123 - root - INFO - "
        "\x1b[31mstep: 10  \x1b[32mloss:  nan  \x1b[33mmemory: 0.95GiB(1.2%)\x1b[0m\n",
        "loss",
        "step",
    ),
    "Caffe": (
        "I0101 12:00:00.123456  1234 solver.cpp:228] Iteration 0, loss = 3.5\n"
        "I0101 12:00:00.123456  1234 solver.cpp:244]     Train net output #0: loss = 3.4 (* 1 = 3.4 loss)\n"
        "I0101 12:00:00.123456  1234 solver.cpp:337] Iteration 5, Testing net (#0)\n"
        "I0101 12:00:00.123456  1234 solver.cpp:404]     Test net output #1: loss = 9 (* 1 = 9 loss)\n"
        "I0101 12:00:00.123456  1234 solver.cpp:228] Iteration 10 (1.2 iter/s, 8s/10 iters), loss = nan\n",
        "loss",
        "Iteration",
    ),
    "Darknet": (
        " 0: 3.500000, 4.000000 avg loss, 0.000000 rate, 1.2 seconds, 64 images, 1 hours left\nLoaded: 0.00 seconds\n"
        " 10: nan, 4.000000 avg loss, 0.000000 rate, 1.2 seconds, 128 images, 1 hours left\n",
        "loss",
        "iteration",
    ),
    "TensorFlow": (
        "INFO:tensorflow:loss = 3.5, step = 0\nINFO:tensorflow:global_step/sec: 200\n"
        "INFO:tensorflow:Saving dict for global step 5: accuracy = 0.9, global_step = 5, loss = 9\n"
        "INFO:tensorflow:loss = nan, step = 10 (0.5 sec)\n",
        "loss",
        "step",
    ),
    "a trainer's dicts": (
        "{'loss': 3.5, 'step': 0, 'grad_norm': tensor(1.5)}\n{'eval_loss': 9, 'step': 0}\n{'loss': nan, 'step': 10}\n",
        "loss",
        "step",
    ),
    "an evaluation's lines": (
        "step 0 loss 3.5\n[eval] step 0 loss 9.0\nstep 10 loss nan\n[eval] step 10 loss 9.0\n",
        "loss",
        "step",
    ),
}


@pytest.mark.parametrize("trainer", LINES)
def test_the_lines_of_consoles(tmp_path, trainer):
    text, column, step = LINES[trainer]
    curve = curve_of(tmp_path, text, name="output.log")
    assert (curve.kind, curve.column, curve.step_column) == ("console", column, step)
    assert curve.steps.tolist() == [0, 10]
    np.testing.assert_array_equal(curve.loss, [3.5, np.nan])


def test_a_progress_bar_of_keras_has_a_row_per_epoch(tmp_path):
    text = ""
    for epoch, loss in ((1, 3.5), (2, 2.5)):
        text += f"Epoch {epoch}/2\n 32/64 [==>...] - ETA: 1s - loss: 9.0\r"
        text += f"64/64 [====] - 3s 2ms/step - loss: {loss} - val_loss: 9\n"
    curve = curve_of(tmp_path, text)
    assert pairs(curve) == [(1, 3.5), (2, 2.5)]
    assert "lines of a progress bar before its last, left out: 2" in said(curve)


def test_the_steps_within_epochs_of_consoles_go_on(tmp_path):
    text = "".join(f"Epoch: [{e}][ {i}/2]  Time 0.1 (0.2)  Loss {e + i}.5 (9.0)\n" for e in (0, 1) for i in (0, 1))
    assert pairs(curve_of(tmp_path, text)) == [(0, 0.5), (1, 1.5), (2, 1.5), (3, 2.5)]


@pytest.mark.parametrize(
    ("lines", "steps"),
    [
        ("step {at:05d}/21400 (0.10%) | loss: {loss:.6f} | lrm: 1.00 | tok/sec: 1,000,000\n", [1, 2, 3]),
        ("Epoch [{at}/10], Train Loss: {loss:.2f}, Val Loss: 9.12\n", [1, 2, 3]),
        ("mmengine - INFO - Iter(train) [  {at}/80000]  lr: 2.0e-04  eta: 10:33:01  loss: {loss}\n", [1, 2, 3]),
        ("Train: 2 [  {at}/10 (  1%)]  Loss: {loss} (9.5)  Time: 0.5s,  900.1/s\n", [21, 22, 23]),
        ("Epoch 1 | iter {at} step 0 | loss train: {loss}, val: n/a | iter time: 300.12 ms\n", [1, 2, 3]),
    ],
)
def test_steps_in_brackets_and_before_a_slash(tmp_path, lines, steps):
    curve = curve_of(tmp_path, "".join(lines.format(at=at, loss=at + 0.5) for at in (1, 2, 3)))
    assert pairs(curve) == list(zip(steps, [1.5, 2.5, 3.5], strict=True))


def test_runs_with_the_same_losses_are_several_all_the_same(tmp_path):
    text = "seed,step,loss\n" + "".join(f"{seed},{step},{9 - step}\n" for step in range(4) for seed in (0, 1))
    with pytest.raises(UserError, match="choose one with --where seed=VALUE: 0, 1"):
        curve_of(tmp_path, text)
    assert len(curve_of(tmp_path, text, where="seed=1").loss) == 4
    assert len(curve_of(tmp_path, text.replace("seed", "rank")).loss) == 4


def test_a_step_is_never_taken_for_a_loss(tmp_path):
    with pytest.raises(UserError, match="no column is named like a training loss"):
        curve_of(tmp_path, "Drew the loss at step 0\nDrew the loss at step 2000\n")


def test_other_lines_are_read_by_a_pattern(tmp_path):
    text = "it 0 >> 3.5 <<\nit 10 >> 2.5 <<\n"
    curve = curve_of(tmp_path, text, pattern=r"it (?P<step>\d+) >> (?P<loss>\S+)")
    assert pairs(curve) == [(0, 3.5), (10, 2.5)]
    for pattern, why in (("(", "no regular expression"), ("it", "names no group"), ("(?P<loss>x)", "matches nowhere")):
        with pytest.raises(UserError, match=why):
            curve_of(tmp_path, text, pattern=pattern)


@pytest.mark.parametrize(
    "document",
    [
        [{"step": 0, "loss": 3.5}, {"step": 5, "loss": 2.5}],
        {"log_history": [{"step": 0, "loss": 3.5}, {"step": 0, "eval_loss": 9}, {"step": 5, "loss": 2.5}]},
        {"history": {"step": [0, 5], "loss": [3.5, 2.5], "val_loss": [9]}},
        {"step": {"0": 0, "1": 5}, "loss": {"0": 3.5, "1": 2.5}},
        [[1e9, 0, 3.5], [1e9, 5, 2.5]],
        [{"step": 0, "train": {"loss": 3.5}}, {"step": 5, "train": {"loss": 2.5}}],
    ],
)
def test_documents_of_json(tmp_path, document):
    assert pairs(curve_of(tmp_path, json.dumps(document), name="x.txt")) == [(0, 3.5), (5, 2.5)]


def test_rows_of_a_validation_are_told_apart(tmp_path):
    rows = [
        {"mode": "train", "iter": 0, "loss": 3},
        {"mode": "val", "iter": 1, "loss": 9},
        {"mode": "train", "iter": 2, "loss": 2},
    ]
    assert pairs(curve_of(tmp_path, "\n".join(map(json.dumps, rows)))) == [(0, 3), (2, 2)]
    flags = "step,loss,is_eval\n0,3,False\n0,9,True\n1,2,False\n"
    assert pairs(curve_of(tmp_path, flags)) == [(0, 3), (1, 2)]
    shapes = "step,loss,lr,eval_runtime\n0,3,1,\n1,2,1,\n1,9,,7\n2,1,1,\n"
    assert pairs(curve_of(tmp_path, shapes)) == [(0, 3), (1, 2), (2, 1)]
    with pytest.raises(
        UserError, match="column 'phase' tells kinds of rows apart; choose one with --where phase=VALUE: a, b"
    ):
        curve_of(tmp_path, "step,loss,phase\n0,3,a\n1,2,b\n2,1,a\n3,1,a\n")


def test_a_resumed_run_keeps_its_last_rows_and_says_so(tmp_path):
    rows = [(step, 5 - step / 100) for step in range(100)] + [(step, 6 - step / 100) for step in range(60, 120)]
    text = "step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in rows)
    curve = curve_of(tmp_path, text)
    assert (len(curve.loss), curve.loss[60]) == (120, 5.4)
    assert "steps of 'step' go back 1 time, taken as a resumed run (keep-last): repeated rows, left out: 40" in said(
        curve
    )
    assert curve_of(tmp_path, text, resume="keep-first").loss[60] == 4.4


def test_several_runs_below_each_other_are_refused(tmp_path):
    rows = [(step, loss) for loss in (3, 2) for step in range(50)]
    text = "step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in rows)
    why = "row 51: step 0 comes after 49, as in several runs; choose one with --where rows=FIRST-LAST: 1-50, 51-100; or"
    with pytest.raises(UserError, match=why):
        curve_of(tmp_path, text)
    assert curve_of(tmp_path, text, where="rows=51-100").loss.tolist() == [2] * 50
    assert curve_of(tmp_path, text, resume="keep-last").loss.tolist() == [2] * 50
    assert curve_of(tmp_path, text, resume="keep-first").loss.tolist() == [3] * 50


def test_a_counter_that_begins_again_in_each_epoch_is_no_step(tmp_path):
    text = "epoch,iter,loss\n" + "".join(f"{e},{i},{9 - e - i}\n" for e in range(3) for i in range(2))
    curve = curve_of(tmp_path, text)
    assert (curve.step_column, curve.steps.tolist()) == (None, list(range(6)))
    assert "rows are counted, for 'iter' begins again in every epoch" in said(curve)


def test_of_several_losses_the_sum_is_taken_or_one_is_asked_for(tmp_path):
    curve = curve_of(tmp_path, "step,a_loss,b_loss,ab_loss\n0,1,2,3\n1,1,1,2\n")
    assert (curve.column, "is the sum of a_loss, b_loss" in said(curve)) == ("ab_loss", True)
    assert curve_of(tmp_path, "step,total_loss,loss_cls,loss_box\n0,3,1,2\n1,2,1,1\n").column == "total_loss"
    with pytest.raises(UserError, match="choose one with --column: loss, total_loss"):
        curve_of(tmp_path, "step,loss,total_loss\n0,3,4\n1,2,3\n")


def terms(rows, change=0.0):
    """Return steps with two losses and what they make with the weights 1 and 0.01, changed in the last row."""
    first, second = np.random.default_rng(0).uniform(1, 2, (2, rows)) * [[1], [50]]
    total = first + 0.01 * second
    total[-1] += change
    return list(zip(range(rows), first.round(5), second.round(5), total.round(5), strict=True))


@pytest.mark.parametrize("head", ["step,loss_rec,loss_kl,loss_vae", "step,rec,kl,total"])
def test_of_several_losses_the_weighted_sum_is_taken(tmp_path, head):
    text = "".join(f"{','.join(map(str, row))}\n" for row in terms(40))
    curve = curve_of(tmp_path, f"{head}\n{text}")
    assert curve.column == head.split(",")[-1]
    assert ("is a weighted sum of loss_rec, loss_kl" in said(curve)) == ("loss" in head)
    assert ("no column is named loss: 'total' is taken for it" in said(curve)) == ("loss" not in head)


def test_a_total_is_the_sum_of_its_terms_whatever_stands_beside_them(tmp_path):
    rows = "".join(f"{at},0.5,0.25,0.{at + 1},{0.75 + (at + 1) / 10},0.9,0.8,0.7,0.6\n" for at in range(3))
    head = "batch,x,conf,cls,total,recall,precision,AP,lr"
    assert curve_of(tmp_path, f"{head}\n{rows}").loss.tolist() == pytest.approx([0.85, 0.95, 1.05])


def test_a_total_of_times_is_no_loss(tmp_path):
    text = "".join(f"{','.join(map(str, row))}\n" for row in terms(40))
    with pytest.raises(UserError, match="no column is named like a training loss"):
        curve_of(tmp_path, f"step,forward,backward,total\n{text}")


@pytest.mark.parametrize(("rows", "change"), [(19, 0.0), (40, 0.05)])
def test_a_sum_of_too_few_rows_or_that_is_off_in_one_is_asked_for(tmp_path, rows, change):
    text = "".join(f"{','.join(map(str, row))}\n" for row in terms(rows, change))
    with pytest.raises(UserError, match="choose one with --column: loss_rec, loss_kl, loss_vae"):
        curve_of(tmp_path, f"step,loss_rec,loss_kl,loss_vae\n{text}")


def test_a_loss_that_is_another_times_a_number_is_no_sum(tmp_path):
    text = "".join(f"{at},{first},{second},{2 * first:.5f}\n" for at, first, second, _ in terms(40))
    with pytest.raises(UserError, match="choose one with --column: loss_a, loss_b, loss_c"):
        curve_of(tmp_path, f"step,loss_a,loss_b,loss_c\n{text}")


def test_the_value_is_taken_before_its_running_mean(tmp_path):
    assert curve_of(tmp_path, "step,avg_loss,train_loss\n0,3,4\n1,2,3\n").column == "train_loss"
    assert "named like a mean" in said(curve_of(tmp_path, "step,avg_loss\n0,3\n1,2\n"))


@pytest.mark.parametrize(
    "name", ["Iteration", "current_steps", "num_updates", "train/global_step", "time/total_timesteps"]
)
def test_a_trainers_step_goes_before_wandbs(tmp_path, name):
    curve = curve_of(tmp_path, f"_step,{name},loss\n0,7,3\n1,9,2\n")
    assert (curve.step_column, curve.steps.tolist()) == (name, [7, 9])


def test_an_unfinished_last_line_is_left_out_and_said(tmp_path):
    for text in (
        '{"loss": 3}\n{"loss": 2}\n{"loss": 1',
        "step,loss\n0,3.25\n1,2.25\n2,2.25\n3,2.25\n4,1",
        "step 0 loss 3.25\nstep 1 loss 2.25\nstep 2 loss 2.25\nstep 3 lo",
        "step 0 loss 3.25\nstep 1 loss 2.25\nstep 2 loss 2.25\nstep 3 loss 1.",
    ):
        curve = curve_of(tmp_path, text)
        assert "an unfinished last line, left out" in said(curve)
        assert curve.loss.min() >= 2


def test_one_number_a_line_is_the_loss(tmp_path):
    file = tmp_path / "losses.txt"
    file.write_text("3.5\n2.5\n2.25\n")
    curve = read_curve(file)
    assert (curve.column, list(curve.loss)) == ("1", [3.5, 2.5, 2.25])
