"""Lines that are read at once give what each gives alone."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3bench.curve_files import alike
from s3bench.curve_files.console_line import read_line
from tests.s3bench.curve_files.test_trainers import LOGS

CASES = Path(__file__).parent / "cases"
TEMPLATES = [
    "iter #: loss @, time #.#ms, mfu #.#%",
    " [2024-05-01 1#:0#:00] iteration    #/  900 | learning rate: @E-0# | lm loss: @E+00 | nan iterations:   # |",
    "{'loss': @, 'grad_norm': @, 'learning_rate': #e-0#, 'epoch': 0.#}",
    '{"step": #, "loss": @, "lr": 1e-0#, "at": "12:0#"}',
    "training:  #%|███       | #/9000 [00:0#<10:00, 12.#it/s, loss=@]",
    "training:  #%|███       | 1.#k/9.0k [00:0#<10:00, 12.#it/s, loss=@]",
    "Epoch: [#][ #/500]  Loss @ (@)",
    "step # loss_1 @ loss_# @",
    "step #,### loss #,#",
    "step #: loss -@ lr +@ x1#",
    "loss: nan step #",
    "step #: loss: 1e### z: #e99",
    "{'step': 0x##, 'loss': @}",
    "{'step': ##, 'loss': 1_0#, 'name': '#'}",
    "{'step': ################, 'loss': @}",
    "#/9 [====] - loss: @",
    "step # validation loss @",
    "step #.# #.#.# loss @ 1#-1# v#",
    "[#]\ttraining's binary_logloss: ~\tvalid_1's binary_logloss: ~",
    "2024-05-0# 1#:0#:0#,### - step: #  loss: ~  memory: ~GiB(~%)  tps: #,###  mfu: ~%",
    "2024/05/0# 1#:0#:0# - mmengine - INFO - Epoch(train) [#][ ##/500]  lr: ~  eta: 0:1#:0#  loss: ~",
    "Epoch: [#][ ##/500]\tTime ~ (~)\tLoss ~ (~)\tAcc 1: ~ (~)",
    "step ##,### loss ~ tokens #,###.# rate ~K total: #.#M",
    '2024-05-0# | INFO | train_inner | {"epoch": #, "loss": "~", "num_updates": "##", "lr": "~", "wall": "##"}',
    "{'loss': ~, 'grad_norm': ~, 'rewards/chosen': ~, 'logps': ~, 'epoch': #.##}",
    "step:#/9000 train_loss:~ at:-~ step_avg:~ms",
    "step #: loss ~ (~z)| norm +~ -~ [~, ~]",
]
USUAL = [*TEMPLATES[:3], *TEMPLATES[-9:]]


def exact(rows):
    return [([(key, kind(value), str(value)) for key, value in row.items()], told) for row, told in rows]


def kind(value):
    return float if isinstance(value, float) else type(value)


def at_once(lines):
    forms, columns = alike.read_alike(lines, read_line)
    return [({key: columns[key].value(at) for key in form.keys}, form.label) for at, form in enumerate(forms)]


def same(lines):
    assert exact(at_once(lines)) == exact(map(read_line, lines))


def written(template, random, decimals, count=alike.FEWEST + 10):
    lines = []
    for _ in range(count):
        line = template
        while "@" in line:
            line = line.replace("@", f"{random.random() * 10 ** random.randint(0, 1):.{decimals}f}", 1)
        while "~" in line:
            number = random.gauss(0, 1) * 10 ** random.randint(-4, 4)
            line = line.replace("~", random.choice([repr(number), f"{number:.4f}", f"{number:.6g}"]), 1)
        while "#" in line:
            line = line.replace("#", str(random.randint(0, 9)), 1)
        lines.append(line)
    return lines


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TEMPLATES), st.randoms(use_true_random=False), st.integers(2, 8))
def test_lines_of_one_shape_give_what_each_gives_alone(template, random, decimals):
    same(written(template, random, decimals, alike.FEWEST + 60))


@pytest.mark.parametrize("name", sorted(LOGS))
def test_the_lines_of_trainers_give_what_each_gives_alone(monkeypatch, name):
    monkeypatch.setattr(alike, "FEWEST", 2)
    same([line for line in LOGS[name][0].split("\n") if line.strip()])


@pytest.mark.parametrize("name", sorted(file.name for file in CASES.iterdir()))
def test_the_lines_of_files_give_what_each_gives_alone(monkeypatch, name):
    monkeypatch.setattr(alike, "FEWEST", 2)
    lines = (CASES / name).read_bytes().decode(errors="replace").splitlines()
    same([line[:2000] for line in lines if line.strip()][:400])


@pytest.mark.parametrize("template", USUAL)
def test_the_numbers_of_usual_lines_are_found_without_reading_each(template):
    read = []

    def counting(line):
        read.append(line)
        return read_line(line)

    lines = written(template, Random(0), 4, 4000)
    alike.read_alike(lines, counting)
    assert len(read) < 0.2 * len(lines)


def test_lines_whose_keys_have_other_digits_are_read_apart():
    lines = [f"step {at} loss_{at % 3}: {at / 7}" for at in range(100, 999)]
    assert {form.keys for form in alike.read_alike(lines, read_line)[0]} == {("step", f"loss_{at}") for at in range(3)}
    same(lines)


def test_digits_behind_an_underscore_are_thousands_only_if_there_are_three():
    random = Random(0)
    for _ in range(10):
        same(
            [f"loss 3_{random.randrange(10 ** random.choice([3, 4, 5]))}.{random.randrange(10**9)}" for _ in range(99)]
        )
