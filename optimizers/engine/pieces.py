"""Makes pieces of parameters: large ones are cut and small ones gathered, as a call costs more than the copies."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .fused import Row

PIECE_CPU = 2**17  # coordinates per call of the plain rule on a CPU: its temporaries fit into the cache
PIECE_GPU = 2**22  # the same on other devices, where a launch costs more


def pieces(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows, large ones cut and small ones gathered."""
    gathered: dict[Any, list[Row]] = defaultdict(list)
    size: dict[Any, int] = defaultdict(int)
    for row in rows:
        param, count = row[0], row[0].numel()
        if param.is_neg() or not all(tensor.is_contiguous() for tensor in row):  # _foreach_copy_ takes no such flag
            yield row
        elif count >= PIECE_CPU // 4:
            largest = PIECE_CPU if param.device.type == "cpu" else PIECE_GPU
            if count > largest:
                yield from zip(*(torch.split(tensor.flatten(), largest) for tensor in row), strict=True)
            else:
                yield row
        elif count > 0:
            kind = param.device, *(tensor.dtype for tensor in row)  # torch.cat would turn several types into one
            gathered[kind].append(tuple(map(Tensor.flatten, row)))
            size[kind] += count
            if size[kind] > PIECE_CPU * 3 // 4:
                yield from _gathered(gathered.pop(kind))
                del size[kind]
    for small in gathered.values():
        yield from _gathered(small)


def _gathered(rows: list[Row]) -> Iterator[Row]:
    """Yield the flat rows as one; write its changes back to them when the caller asks for the next piece."""
    if len(rows) == 1:
        yield rows[0]
        return
    columns = list(zip(*rows, strict=True))
    joined = [torch.cat(column) for column in columns]
    yield tuple(joined)
    sizes = [len(param) for param in columns[0]]
    for index, (column, one) in enumerate(zip(columns, joined, strict=True)):
        if index != 1:  # the gradients, which have not changed, are skipped
            torch.split_with_sizes_copy(one, sizes, out=column)
