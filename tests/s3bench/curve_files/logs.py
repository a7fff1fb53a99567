"""Writes a log and reads its curve."""

from s3bench.curve_files.reader import read_curve


def curve_of(tmp_path, text, name="log", **reading):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_curve(tmp_path / name, **reading)


def said(curve):
    return "; ".join(curve.notes)
