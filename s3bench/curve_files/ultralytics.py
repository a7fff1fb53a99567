"""Reads the tables that YOLOv5 and its like draw in a console: names above an epoch, its numbers before a bar."""

import re

HEADER = re.compile(r"^\s*Epoch\s+gpu_mem\s+(?P<names>\S.*?)\s*$", re.IGNORECASE)
ROW = re.compile(r"^\s*(?P<epoch>\d+)/\d+\s+[\d.]+[KMG]?\s+(?P<cells>[^:|]*?)(?::.*)?$")
AFTER_LOSSES = {"labels", "instances", "targets", "img_size", "size"}


def as_pairs(lines: list[str]) -> tuple[list[str], int]:
    """Return lines with "epoch 3 | box loss 0.03" in the place of each epoch's numbers, and how many were drawn before.

    What a bar shows is the mean over the epoch so far, so the last of each epoch is kept.
    """
    if not any(map(HEADER.match, lines)):
        return lines, 0
    kept: list[str] = []
    names: list[str] = []
    epoch, drawn = "", 0  # the epoch whose numbers are the last line that was kept
    for line in lines:
        if header := HEADER.match(line):
            names, epoch = header["names"].split(), ""
            continue
        row = ROW.match(line) if names else None
        cells = row["cells"].split() if row else []
        if row is None or len(cells) != len(names):
            kept.append(line)
            epoch = ""
            continue
        if row["epoch"] == epoch:
            kept.pop()
            drawn += 1
        epoch = row["epoch"]
        pairs = [f"{_loss(name)}: {cell}" for name, cell in zip(names, cells, strict=True)]
        kept.append(" | ".join([f"epoch {epoch}", *pairs]))
    return kept, drawn


def _loss(name: str) -> str:
    """Return a column's name, which says of no term that it is one of the loss."""
    return name if name.lower() in AFTER_LOSSES or "loss" in name.lower() else f"{name} loss"
