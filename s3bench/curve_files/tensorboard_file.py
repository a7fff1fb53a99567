"""Reads the scalars of TensorBoard event files."""

# By hand, for tensorboard's EventAccumulator says nothing of a file cut short, silently drops what follows a damaged
# record, keeps the orphaned steps of scalars stored as tensors, and takes 8 times as long (measured with 2.21).

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from s3bench.errors import UserError, one_line

LENGTH_BYTES, CHECKSUM_BYTES = 8, 4  # of a TFRecord: length, its checksum, data, their checksum


def read_scalars(files: Sequence[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the scalars of event files, in the order of the files.

    Where a writer started again at a step (purge_step), what was logged from that step on before is dropped, as
    TensorBoard does. The file of a run that is under way may end within a record; a note says so. Checksums are not
    verified.

    Returns:
        A row {"step": step, tag: value} for each scalar, and notes on the files.

    Raises:
        UserError: a file is damaged, or tensorboard is missing.
    """
    try:
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        raise UserError("TensorBoard's files need tensorboard: pip install 's3bench[tensorboard]'") from None
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for file in files:
        for record in _records(file, notes):
            try:
                event = Event.FromString(record)
            except DecodeError as error:
                raise UserError(f"{file} is not an intact TensorBoard event file ({one_line(error)})") from error
            if event.session_log.status == SessionLog.START:
                rows = [row for row in rows if row["step"] < event.step]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    rows.append({"step": event.step, value.tag: value.simple_value})
                elif value.HasField("tensor") and value.metadata.plugin_data.plugin_name in ("scalars", ""):
                    number = _number(file, value, make_ndarray)
                    if number is not None:
                        rows.append({"step": event.step, value.tag: number})
    return rows, notes


def _number(file: Path, value: Any, make_ndarray: Callable[[Any], Any]) -> float | None:
    """Return the number in a tensor; None for a tensor that is none, unless it is said to be a scalar.

    Raises:
        UserError: the tensor of a scalar is none, or one that cannot be read.
    """
    is_scalar = value.metadata.plugin_data.plugin_name == "scalars"
    try:
        shape = [dimension.size for dimension in value.tensor.tensor_shape.dim]
        number: Any = (
            None if shape else make_ndarray(value.tensor)
        )  # of a shape that is damaged it might fill the memory
        if number is not None and number.dtype.kind in "fiu":
            return float(number)
        if is_scalar:
            raise ValueError(f"it has the shape {shape}" if shape else f"it is of type {number.dtype}")
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UserError(f"{file}: the tensor of {value.tag!r} is not a number ({one_line(error)})") from error
    return None


def _records(file: Path, notes: list[str]) -> Iterator[bytes]:
    """Yield the data of each record of a TFRecord file; add a note where the file ends within a record."""
    data = file.read_bytes()
    before, after = LENGTH_BYTES + CHECKSUM_BYTES, CHECKSUM_BYTES
    start = 0
    while start < len(data):
        length = struct.unpack_from("<Q", data, start)[0] if start + before <= len(data) else len(data)
        end = start + before + length + after
        if end > len(data):
            if start == 0:
                raise UserError(f"{file} is not a TensorBoard event file")
            notes.append(f"{file} ends within a record: the run is under way or was killed")
            return
        yield data[start + before : start + before + length]
        start = end
