"""What is read at once, because it is faster, gives what reading it piece by piece gives."""

import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3bench.curve_files import json_file, text
from s3bench.curve_files.json_file import read_json
from s3bench.errors import UserError

CELLS = st.one_of(
    st.floats(), st.integers(-(2**70), 2**70), st.booleans(), st.none(), st.text("a{},\\\n é", max_size=4)
)
ROWS = st.dictionaries(st.sampled_from(["step", "loss", "a", "{"]), CELLS, max_size=3)
ODD = ['{"a":"x}', '{y":1}', '{"a":1},{"a":2}', '{"a":1}{"a":2}', '{"a":[1', "2]}", '{"a":1,"a":2}', "{}", "[{}]", ""]
ODD += ['{"a":01}', '{"a":1}\r', '\xa0{"a":1}', '{"a":1} ', "3", '{"a":1', '{"a":-Infinity}', '{"a":[1,{}]}', " "]
LINES = st.one_of(ROWS.map(json.dumps), st.sampled_from(ODD))


def read(written):
    """Return all that is read, by columns, or the mistake."""
    try:
        table = read_json("a.jsonl", written)
    except UserError as mistake:
        return str(mistake)
    if table is None:
        return None
    named = pd.DataFrame({name: table.named(name) for name in table.names})
    frames = [repr(frame.to_dict("list")) for frame in (table.cells, table.empty, named)]
    return [table.kind, table.notes, table.cells.dtypes.to_dict(), *frames]


def both(written):
    """Return what is read at once where that is possible, and line by line."""
    with pytest.MonkeyPatch.context() as patch:
        found = read(written)
        patch.setattr(json_file, "_at_once", lambda _: [])
        return found, read(written)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=6), st.sampled_from(["", "\n", "\n\n", '\n{"st', "\n{}x"]))
def test_json_lines_at_once_are_those_one_by_one(lines, end):
    at_once, one_by_one = both("\n".join(lines) + end)
    assert at_once == one_by_one


def test_plain_lines_are_read_at_once():
    lines = "\n".join(json.dumps({"step": at, "loss": float("nan") if at == 7 else 1 / (at + 1)}) for at in range(9))
    assert len(json_file._at_once(lines)) == 9
    assert read(lines + "\n")[0] == "JSON lines"


@given(st.text("a,\n {\xe9\ud800☃𝄞", max_size=40), st.integers(1, 9))
def test_beginnings_of_lines_are_found_in_any_text(written, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "AT_ONCE", size)
        found = text.beginnings(written)
    begins = [at for at in range(len(written)) if at == 0 or written[at - 1] == "\n"]
    assert found == {written[at] for at in begins}
