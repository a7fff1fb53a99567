"""Reads JSON: lines, objects below each other, a trainer's state, lists of rows or of cells, TensorBoard's download."""

import ast
import json
import re
from typing import Any

from s3bench.curve_files.html_table import drawn_tables
from s3bench.curve_files.names import OF_EVALUATION, OF_TRAINING, listed, losses_among, steps_among, words
from s3bench.curve_files.table import Table, from_rows
from s3bench.curve_files.text import COLOURS
from s3bench.errors import UserError, one_line

Row = dict[str, Any]
DECODER = json.JSONDecoder(parse_constant=str)  # NaN stays text: it is not an empty cell
BARE = re.compile(r"(?<=[:\[,])(\s*-?)(nan|inf(?:inity)?)(?=\s*[,}\]])", re.IGNORECASE)
HISTORY = re.compile(r"^(?:.*[ \t:])?(\{'\w+': \[.*\]\})[ \t]*$", re.MULTILINE)
TEXTS = ("log", "message", "msg", "textpayload", "line")  # of Docker's and cloud's lines
MOST_BROKEN = 0.05  # of the lines: a run that was killed leaves one
SINCE_2001 = 1e9  # seconds of a time
MOST_CELLS = 10  # of a line that is a list, such as [10, 2.5]
DEEPEST = 20  # levels of a document
BETWEEN = re.compile(r"[\s,]*")  # what separates objects; a record separator (RFC 7464) is a blank, too
BEGINS = re.compile(r"^\{", re.MULTILINE)
COMMENT = re.compile(r"^\s*(?://|#)")


def read_json(file: str, text: str) -> Table | None:
    """Read a JSON document or JSON lines; None if the text is neither.

    Raises:
        UserError: a line is not JSON, or the document holds no rows.
    """
    start = text.lstrip()
    if not start.startswith(("{", "[")):
        return None
    try:
        return _of_document(file, _whole(DECODER.decode(text), "\\u" in text))
    except RecursionError as error:
        raise UserError(f"{file} is not JSON ({one_line(error)})") from error
    except ValueError:
        pass
    if start.startswith("[{'") and (rows := _as_python(start)) is not None:
        return from_rows("a list of Python's", _flat(rows))
    first = start.split("\n", 1)[0]
    try:
        DECODER.decode(first)
    except ValueError:
        return _of_objects(text)
    except RecursionError as error:
        raise UserError(f"{file}, line 1 is not JSON ({one_line(error)})") from error
    return _of_lines(file, text)


def _as_python(text: str) -> list[Row] | None:
    """Return a list of objects as Python prints it; None if the text is none."""
    try:
        rows = ast.literal_eval(BARE.sub(r"\1'\2'", text.strip()))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return rows if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows) else None


def outputs_in(text: str) -> dict[int, str] | None:
    """Return what the cells of a Jupyter notebook printed, by their execution counts; None if the text is no notebook.

    Where these are missing or come again, cells are counted from 1.
    """
    if '"nbformat"' not in text or '"cells"' not in text:
        return None
    try:
        cells = json.loads(text)["cells"]
        counts = [cell.get("execution_count") for cell in cells if cell.get("outputs")]
        is_counted = all(isinstance(count, int) for count in counts) and len(set(counts)) == len(counts)
        return {
            cell["execution_count"] if is_counted else place: "\n".join(map(_printed, cell["outputs"]))
            for place, cell in enumerate(cells, start=1)
            if cell.get("outputs")
        }
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None


def _printed(output: Row) -> str:
    """Return the text of one output."""
    data = output.get("data", {})
    html = data.get("text/html", "")
    if drawn := drawn_tables(html if isinstance(html, str) else "".join(html)):
        return drawn
    text = output.get("text", data.get("text/plain", ""))
    return COLOURS.sub("", text if isinstance(text, str) else "".join(text))


def _of_objects(text: str) -> Table | None:
    """Return the rows of objects that are written over several lines each, or without lines between them."""
    rows: list[Row] = []
    notes: list[str] = []
    at = _past_blanks(text, 0)
    while at < len(text):
        try:
            row, end = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            if len(rows) < 2 or BEGINS.search(text, at + 1):
                return None  # not JSON to its end
            notes = ["an unfinished last object, left out"]
            break
        if not isinstance(row, dict):
            return None
        rows.append(row)
        at = _past_blanks(text, end)
    return from_rows("JSON objects", _flat(_whole(rows, "\\u" in text)), notes) if rows else None


def _past_blanks(text: str, at: int) -> int:
    between = BETWEEN.match(text, at)
    return at if between is None else between.end()


def _of_lines(file: str, text: str) -> Table:
    ended = text.rfind("\n")  # what follows may be unfinished
    rows = _at_once(text[:ended]) if ended > 0 else []
    lines = text[ended + 1 :].split("\n") if rows else text.split("\n")
    last = len(rows) + len(lines)
    notes: list[str] = []
    broken: list[str] = []
    comments = 0
    for number, line in enumerate(lines, start=len(rows) + 1):
        if COMMENT.match(line):
            comments += 1
            continue
        try:
            if line.strip():
                rows += _of_line(line.strip())
        except (ValueError, RecursionError) as error:
            if number == last and isinstance(error, ValueError):
                notes.append("an unfinished last line, left out")
                continue
            broken.append(f"line {number} is not JSON ({one_line(error)})")
    if len(broken) > MOST_BROKEN * last:
        raise UserError(f"{file}, {broken[0]}")
    notes += [f"comment lines, left out: {comments}"] * bool(comments)
    notes += [f"lines that are not JSON, left out: {len(broken)} of {last}"] * bool(broken)
    if all(isinstance(row, list) and 1 < len(row) <= MOST_CELLS for row in rows):
        return from_rows("JSON lines", [{str(at): cell for at, cell in enumerate(row, start=1)} for row in rows], notes)
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f'{file} is not JSON lines: each line must be an object, such as {{"step": 1, "loss": 2.5}}')
    return from_rows("JSON lines", _flat(_whole(rows, "\\u" in text)), notes)


def _of_line(line: str) -> list[Row]:
    """Return the objects of a line: one, several that no end of a line parted, or one with nan, which JSON lacks."""
    try:
        return [DECODER.decode(line)]
    except ValueError:
        rows, at = [], 0
        line = BARE.sub(lambda found: found[1] + {"n": "NaN", "i": "Infinity"}[found[2][0].lower()], line)
        while at < len(line):
            row, end = DECODER.raw_decode(line, at)
            rows.append(row)
            at = _past_blanks(line, end)
        return rows


def _at_once(text: str) -> list[Row]:
    """Return the objects of lines that hold one each, and no other braces; none if a line is not surely such.

    Far faster than line by line. Fewer or more objects than lines would show that one goes on in the next line.
    """
    count = text.count("\n") + 1
    is_plain = text.startswith("{") and text.endswith("}") and text.count("}\n{") == count - 1
    if not is_plain or text.count("{") != count or text.count("}") != count:
        return []
    try:
        rows = DECODER.decode(f"[{text.replace(chr(10), ',')}]")
    except (ValueError, RecursionError):
        return []
    return rows if len(rows) == count and all(isinstance(row, dict) for row in rows) else []


def _of_document(file: str, document: Any) -> Table:
    """Return the rows of a document, which it may hold in many ways."""
    if isinstance(document, list) and document:
        if all(isinstance(row, dict) for row in document):
            return from_rows("JSON", _flat(document))
        width = len(document[0]) if isinstance(document[0], list) else 0
        if 1 < width <= MOST_CELLS and all(isinstance(row, list) and len(row) == width for row in document):
            is_download = width == 3 and all(isinstance(row[0], float) and row[0] >= SINCE_2001 for row in document)
            names = ("Wall time", "Step", "Value") if is_download else tuple(map(str, range(1, width + 1)))
            kind = "TensorBoard download" if is_download else "JSON"
            return from_rows(kind, [dict(zip(names, row, strict=True)) for row in document])
        if not any(isinstance(row, list | dict) for row in document):
            return from_rows("JSON", [{"1": cell} for cell in document])
    if isinstance(document, dict):
        if isinstance(document.get("log_history"), list):
            rows = [row for row in document["log_history"] if isinstance(row, dict)]
            return from_rows("trainer_state.json", _flat(rows))
        if len(document) > 1 and all(key.isdecimal() and isinstance(row, dict) for key, row in document.items()):
            rows = _flat(list(document.values()))
            if not any(isinstance(cell, list) for row in rows for cell in row.values()):
                return _by_key(list(document), rows)
        lists = _lists(document)
        tables = {name: rows for name, rows in lists.items() if any(isinstance(row, dict) for row in rows)}
        if tables:
            losses = [name for name, cells in lists.items() if "loss" in words(name) and len(cells) > 1]
            return _of_one_list(file, tables | {name: lists[name] for name in losses})
        columns = {name: cells for name, cells in lists.items() if cells}
        if columns:
            longest = max(map(len, columns.values()))
            return from_rows("JSON history", [_row_at(columns, at) for at in range(longest)])
        return from_rows("JSON lines", _flat([document]))
    raise UserError(f"{file} is JSON, but neither a list of rows nor one of lists")


def _by_key(keys: list[str], rows: list[dict[str, Any]]) -> Table:
    """Return the rows of an object by their keys, which are the steps unless the rows have steps of their own."""
    if steps_among(name for row in rows for name in row):
        return from_rows("JSON", rows)
    steps = list(map(int, keys))
    rows = [{"step": step} | row for step, row in zip(steps, rows, strict=True)]
    if keys == sorted(keys) and steps != sorted(steps):  # as text, "100" is before "20"
        rows.sort(key=lambda row: row["step"])
    return from_rows("JSON", rows, ["steps are the keys of the objects"])


def _of_one_list(file: str, lists: dict[str, list[Any]]) -> Table:
    """Return the rows of the one list of rows, or of the one that is not an evaluation's.

    Raises:
        UserError: the names do not tell which is the training's.
    """
    left = [name for name in lists if not words(name) & OF_EVALUATION]
    trained = [name for name in left if words(name) & OF_TRAINING]
    found = left if len(left) == 1 else trained
    if len(found) != 1 or not isinstance(lists[found[0]][0], dict):
        raise UserError(f"{file} holds several lists of rows: {listed(list(lists))}; put one into a file of its own")
    others = [name for name in lists if name != found[0]]
    notes = [f"the list {found[0]!r} is taken, and not {listed(others)}"] * bool(others)
    return from_rows("JSON", _flat([row for row in lists[found[0]] if isinstance(row, dict)]), notes)


def _row_at(columns: dict[str, list[Any]], at: int) -> Row:
    return {name: cells[at] for name, cells in columns.items() if at < len(cells)}


def _lists(document: Row, above: str = "", depth: int = 0) -> dict[str, list[Any]]:
    """Return the lists in a document by their paths; what pandas writes, {"0": 3.0, "1": 2.5}, is one, too."""
    found: dict[str, list[Any]] = {}
    for name, cell in document.items():
        path = f"{above}{name}"
        if isinstance(cell, list) and not any(isinstance(one, list) for one in cell):
            found[path] = cell
        elif isinstance(cell, dict) and len(cell) > 1 and list(cell) == [str(at) for at in range(len(cell))]:
            found[path] = list(cell.values())
        elif isinstance(cell, dict) and depth < DEEPEST:
            found |= _lists(cell, f"{path}/", depth + 1)
    return found


def _flat(rows: list[Row]) -> list[Row]:
    """Return the rows with {"metrics": {"loss": 1}} as {"metrics/loss": 1}, where a column's first cell is such."""
    first: Row = {}
    for row in rows:
        for name, cell in row.items():
            first.setdefault(name, cell)
    deep = {name for name, cell in first.items() if isinstance(cell, dict)}
    for _ in range(DEEPEST if deep else 0):
        rows = [_opened(row, deep) for row in rows]
        deep = {name for row in rows for name, cell in row.items() if isinstance(cell, dict) and name not in first}
        if not deep:
            break
    return rows


def _opened(row: Row, deep: set[str]) -> Row:
    opened: Row = {}
    for name, cell in row.items():
        if name in deep and isinstance(cell, dict):
            opened |= {f"{name}/{key}": value for key, value in cell.items()}
        else:
            opened[name] = cell
    return opened


def _whole(cell: Any, has_halves: bool) -> Any:
    """Return what was read without halves of characters, such as \\ud800, which no table can hold."""
    if not has_halves:
        return cell
    if isinstance(cell, str):
        return cell.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(cell, list):
        return [_whole(one, has_halves) for one in cell]
    if isinstance(cell, dict):
        return {_whole(name, has_halves): _whole(one, has_halves) for name, one in cell.items()}
    return cell


def read_history(text: str) -> Table | None:
    """Read the dict of lists that a program printed at the end of a line, as Keras' history; None if there isn't one.

    Several may be of several runs.
    """
    found = HISTORY.findall(text) if "{'" in text else []
    if len(found) != 1:
        return None
    try:
        history = ast.literal_eval(found[0])
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    if not isinstance(history, dict) or not losses_among(map(str, history)):
        return None
    table = _of_document("", history)
    others = sum(map(bool, map(str.strip, text.split("\n")))) - 1
    table.notes += [f"other lines, left out: {others}"] * bool(others)
    return table


def texts_in(table: Table) -> tuple[str, str] | None:
    """Return what a container or a cloud logged as text, and a note on it; None if there is none."""
    for name in table.names:
        cells = [cell for cell in table.cells[name] if isinstance(cell, str)]
        if name.lower() in TEXTS and 2 * len(cells) >= len(table.cells):
            note = f"the text in {name!r} is read, of {len(cells)} of {len(table.cells)} lines"
            return "\n".join(cell.rstrip("\n") for cell in cells) + "\n", note
    return None
