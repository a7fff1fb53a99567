"""Searches small transformers on few windows of Python source for settings under which AdamW spikes late, by itself.

    python scripts/search_spikes.py                  # ten settings, five minutes on one core; prints CSV

Each setting is trained once with AdamW (.9, .999) at a constant learning rate after a warm-up. A setting that spikes
after step 300 is a candidate for a task, to be confirmed on other seeds. Nothing else is chosen by this script.
"""

import argparse
import csv
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from s3bench.spikes import find_spikes
from tasks.data.tokens import BYTES
from tasks.models.gpt import GPT
from tasks.source_gpt import SourceGPT

LATE = 300  # steps
WARM_UP = 80  # steps
K, DELTA = 6.0, 0.1  # of the detector
SETTINGS: tuple[dict[str, Any], ...] = (
    {"depth": 2, "width": 32, "windows": 64, "context": 32, "batch": 16},
    {"depth": 2, "width": 32, "windows": 64, "context": 32, "batch": 16, "smoothing": 0.1},
    {"depth": 6, "width": 16, "windows": 64, "context": 32, "batch": 16},
    {"depth": 6, "width": 16, "windows": 64, "context": 32, "batch": 16, "smoothing": 0.1},
    {"depth": 4, "width": 32, "windows": 256, "context": 8, "batch": 64},
)
RATES = (3e-3, 1e-2)


def main() -> None:
    """Train all settings at all rates, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache" / "s3bench")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    names = ["depth", "width", "windows", "context", "batch", "smoothing", "lr"]
    out = csv.DictWriter(sys.stdout, [*names, "steps", "late_spikes", "onsets", "highest", "end_loss", "seconds"])
    out.writeheader()
    for setting, lr in itertools.product(SETTINGS, RATES):
        whole = {"smoothing": 0.0, **setting}
        began = time.process_time()
        losses = train(whole, lr, chosen.steps, chosen.seed, chosen.data_dir)
        late = [spike for spike in find_spikes(losses, k=K, delta=DELTA) if spike.onset >= LATE]
        found = {
            "late_spikes": len(late),
            "onsets": " ".join(str(spike.onset) for spike in late),
            "highest": f"{max((spike.height for spike in late), default=0.0):.3g}",
            "end_loss": f"{np.median(losses[-100:]):.3g}",
            "seconds": f"{time.process_time() - began:.0f}",
        }
        out.writerow({**whole, "lr": lr, "steps": len(losses), **found})
        sys.stdout.flush()


def train(setting: dict[str, Any], lr: float, steps: int, seed: int, data_dir: Path) -> np.ndarray:
    """Return the loss of every step."""
    context, smoothing = setting["context"], setting["smoothing"]
    task = SourceGPT(seed, data_dir=str(data_dir), vocab_size=BYTES, context=context)
    starts = np.random.default_rng([seed, 77]).integers(len(task.train) - context, size=setting["windows"])
    windows = torch.from_numpy(np.asarray(task.train)[starts[:, None] + np.arange(context + 1)].astype(np.int64))
    torch.manual_seed(seed)
    model = GPT(
        vocab_size=BYTES, context=context, width=setting["width"], depth=setting["depth"], heads=setting["width"] // 8
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.999), weight_decay=0.01)
    losses = []
    for step, chosen in enumerate(batches(setting["windows"], setting["batch"], steps, seed)):
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / WARM_UP)
        batch = windows[chosen]
        logits, following = model(batch[:, :-1]), batch[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), following.flatten(), label_smoothing=smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def batches(windows: int, batch: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield the windows of each step: each epoch has an order of its own."""
    for step in range(steps):
        epoch, index = divmod(step, windows // batch)
        order = np.random.default_rng([seed, 0, epoch]).permutation(windows)
        yield torch.from_numpy(order[index * batch : (index + 1) * batch])


if __name__ == "__main__":
    main()
