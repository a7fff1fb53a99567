"""Files that hold no curve: each is refused in one line, and at once."""

import os

import numpy as np
import pytest

from s3bench.curve_files.reader import read_curve
from s3bench.errors import UserError

ROWS = 100


def refused(file, why):
    with pytest.raises(UserError, match=why) as error:
        read_curve(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [100, 20_000_000])
def test_junk_is_called_binary(tmp_path, size):
    (tmp_path / "junk").write_bytes(np.random.default_rng(0).bytes(size))
    refused(tmp_path / "junk", "junk is binary, but none of these: a table")


def test_zeros_are_called_binary_and_not_read(tmp_path):
    with (tmp_path / "zeros.csv").open("wb") as file:
        os.truncate(file.fileno(), 5 * 10**9)
    refused(tmp_path / "zeros.csv", "zeros.csv is binary")


def test_more_text_than_fits_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "long.csv").open("wb") as file:
        file.write(b"step,loss\n" + b"1,2.5\n" * 1000)
        file.flush()
        os.truncate(file.fileno(), 5 * 10**9)
    refused(tmp_path / "long.csv", "has 5.0 GB of text, and at most 2 GB are read; keep the columns and rows")


@pytest.mark.parametrize("template", ["step {0}: loss: {1}\n", "step {0} loss {1} lr 0.1\n"])
@pytest.mark.parametrize("written", ["0x1F", "0x10", "1,234"])
def test_what_is_no_decimal_number_in_a_console_is_quoted(tmp_path, template, written):
    lines = [template.format(step, written if step in (50, 60) else "2.5") for step in range(ROWS)]
    (tmp_path / "log").write_text("".join(lines))
    refused(tmp_path / "log", f"row 51: '{written}' is not a number \\(column 'loss'\\)")


@pytest.mark.parametrize("written", ["1e999", "nan", "inf"])
def test_a_loss_that_is_not_finite_is_a_loss(tmp_path, written):
    lines = [f"step {step}: loss: {written if step == 50 else 2.5}\n" for step in range(ROWS)]
    (tmp_path / "log").write_text("".join(lines))
    curve = read_curve(tmp_path / "log")
    assert len(curve.loss) == ROWS
    assert np.flatnonzero(~np.isfinite(curve.loss)).tolist() == [50]
