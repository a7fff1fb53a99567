"""Reads a loss curve from a file of anyone's: one row per step."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.errors import UserError, one_line, unknown


def read_curve(file: Path, column: str) -> npt.NDArray[np.float64]:
    """The column of a CSV or Parquet file, shape (steps,); empty cells are NaN. Raises UserError."""
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    try:
        table = (
            pd.read_parquet(file)
            if file.suffix == ".parquet"
            else pd.read_csv(file, skipinitialspace=True, index_col=False)
        )
    except (ValueError, OSError) as error:  # pandas' and pyarrow's errors are ValueErrors
        raise UserError(f"{file} is neither CSV nor Parquet ({one_line(error)})") from error
    if column not in table:
        raise unknown(f"column of {file}", column, map(str, table.columns))
    if table.empty:
        raise UserError(f"{file} has no rows; needed is one row per step")
    numbers = pd.to_numeric(table[column], errors="coerce")
    text = numbers.isna() & table[column].notna() & ~table[column].astype(str).str.strip().str.lower().eq("nan")
    if text.any():
        raise UserError(f"{file}, row {int(text.argmax()) + 1}: {table[column].iloc[text.argmax()]!r} is no number")
    return numbers.to_numpy(dtype=np.float64)
