"""Turns a file's bytes into text: gz, UTF-8, UTF-16, whatever ends its lines, without a terminal's colours."""

import codecs
import gzip
import re
import zlib
from collections.abc import Iterable
from itertools import islice

import numpy as np

from s3bench.errors import UserError, one_line

GZ = b"\x1f\x8b"
BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like UTF-16's
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # and what else moves a terminal's cursor
WRAPPED = re.compile(
    r"\b(?:(?:tf\.)?[Tt]ensor|(?:Device)?[Aa]rray|(?:np|numpy|jnp)\.\w+)\(([^,()]{1,99})(?:,(?:[^()]|\(\d{0,9},?\)){0,999})?\)"
)  # "tensor(2.5, grad_fn=...)", "tf.Tensor(2.5, shape=(), ...)"
HIGH = re.compile(rb"[\x80-\xff]+")
LOSS = re.compile(r"loss\W{1,9}(?:\d|nan\b|inf\b)", re.IGNORECASE)
AT_ONCE = 1 << 24  # characters that are looked at together
CONTROLS = re.compile("[\x00-\x07\x0e-\x1a\ufffd]")  # those that no text has, and what is no character
MOST_CONTROLS = 0.2  # of a text
HOLE = re.compile(rb"\0{64,}")  # which a crash leaves in a file
LONGEST_HOLE = 1 << 26  # bytes that are looked at for the end of a hole at the beginning
FILE_ABOVE = re.compile(r"^==> (.+) <==$", re.MULTILINE)  # head's and tail's
FILE_BEFORE = re.compile(r"^([\w./+-]+\.(?:log|txt|out|csv|jsonl?)):(?:\d+:)?", re.MULTILINE)  # grep's
LOOKED_AT = 1000  # bytes that show whether every second one is zero


def unpacked(name: str, data: bytes) -> bytes:
    """Return the bytes, unpacked where they are gz's; raise UserError where the packing is damaged."""
    if not data.startswith(GZ):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name} cannot be unpacked as gz ({one_line(error)})") from error


def without_holes(data: bytes) -> tuple[bytes, int]:
    """Return the bytes without blocks of NULs and the lines that these tore, and how many blocks there were.

    Of UTF-32, whose text has NULs, all bytes are returned.
    """
    if b"\0" * 64 not in data or data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data, 0
    kept, end = [], 0
    for hole in HOLE.finditer(data):
        kept.append(data[end : max(end, data.rfind(b"\n", end, hole.start()) + 1)])
        end = hole.end()
    return b"".join([*kept, data[end:]]), len(kept)


def decoded(data: bytes) -> str:
    """Return the text without colours, its lines ended by newlines; bytes that its encoding lacks are replaced."""
    bom, encoding = next(((bom, name) for bom, name in BOMS if data.startswith(bom)), (b"", "utf-8"))
    if not bom:
        encoding = _without_bom(data[:LOOKED_AT])
    text = data[len(bom) :].decode(encoding, errors="replace")
    text = COLOURS.sub("", text) if "\x1b" in text else text
    return text.replace("\r\n", "\n") if "\r" in text else text


def _without_bom(data: bytes) -> str:
    """Return the encoding of bytes without a mark: in UTF-16, half of the bytes of plain text are zero."""
    half = len(data) // 2
    if half > 1 and data[1::2].count(0) > 0.8 * half and not data[::2].count(0):
        return "utf-16-le"
    if half > 1 and data[::2].count(0) > 0.8 * half and not data[1::2].count(0):
        return "utf-16-be"
    runs = HIGH.findall(data[:-1])
    is_utf_8 = not data[:-3].decode("utf-8", errors="replace").count("\ufffd")
    if not is_utf_8 and len(runs) > 1 and all(len(run) % 2 == 0 for run in runs[:-1]):
        return "gb18030"  # two bytes for each character, as of Chinese on Windows
    return "utf-8"


def beginnings(text: str) -> set[str]:
    """Return the characters that the text's lines begin with, a newline for an empty line.

    On millions of lines this is far faster than a regular expression, and tells which of these need not be tried.
    """
    found = set(text[:1])
    for start in range(0, len(text), AT_ONCE):
        part = text[start : start + AT_ONCE + 1]
        encoding, kind = ("ascii", np.uint8) if part.isascii() else ("utf-32-le", np.uint32)
        codes = np.frombuffer(part.encode(encoding, "surrogatepass"), dtype=kind)
        found |= set(map(chr, np.unique(codes[1:][codes[:-1] == ord("\n")]).tolist()))
    return found


def joined_files(text: str) -> list[str]:
    """Return the files whose lines with losses a text joins, as head, tail and grep show them; none if it does not."""
    if FILE_ABOVE.match(text):
        _, *parts = FILE_ABOVE.split(text)
        sections: Iterable[tuple[str, str]] = zip(parts[::2], parts[1::2], strict=True)
    elif FILE_BEFORE.match(text):
        sections = ((named[1], line) for line in text.split("\n") if (named := FILE_BEFORE.match(line)))
    else:
        return []
    return list(dict.fromkeys(name for name, part in sections if LOSS.search(part)))


def tells_losses(lines: Iterable[str]) -> bool:
    """Return whether two or more of the lines have a loss."""
    return sum(1 for _ in islice(filter(LOSS.search, lines), 2)) == 2


def is_text(head: bytes) -> bool:
    """Return whether a file that begins like this is text, in whatever encoding: that of another language has many
    characters that UTF-8 lacks, but no controls.
    """
    text = decoded(head)
    found = CONTROLS.findall(text)
    return len(found) <= MOST_CONTROLS * len(text) or set(found) == {"\ufffd"}
