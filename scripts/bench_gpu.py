"""Compares the harness on a GPU, in bf16, with a bare loop over the same model and with the GPU's matrix rate.

Run it from the repository's root:

python -m scripts.bench_gpu                         everything
python -m scripts.bench_gpu --only gpt workers=1    one part; overrides as for s3bench run
python -m scripts.bench_gpu --small                 a trial on a CPU, whose numbers mean nothing
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from s3bench import record
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import RunConfig, as_dict
from s3bench.run.one_run import run
from s3bench.run.tracking import NoTracker
from tests.tasks import image_data

Spans = list[tuple[int, float]]  # numbers of steps, and the seconds they took
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PARTS = 3  # parts in which a bare loop and a loader are timed
WARM_UP = 5  # steps of a bare loop that are not timed, because they include compilation
SIZE = "task.build."
IMAGES = "precision=bf16 channels_last=true optimizer=adamw_95 workers=8"
TASKS = {  # settings, and how many steps are timed
    "gpt": ("task=source_gpt2 precision=bf16 compile=true", 120),
    "cifar": (f"task=cifar10_resnet18 {IMAGES}", 360),
    "imagenet": (f"task=imagenet_resnet50 {IMAGES}", 24),
}
SMALL = {  # the same for --small: further settings, and how many steps are timed
    "gpt": (f"{SIZE}vocab_size=512 {SIZE}context=64 {SIZE}width=48 {SIZE}depth=2 {SIZE}heads=4", 12),
    "cifar": (f"{SIZE}width=8 {SIZE}batch=16 workers=2", 6),
    "imagenet": (f"{SIZE}batch=2 precision=float32 workers=2", 3),
}
NOTES = """
- In brackets: the extremes of n parts. A harness row is the second half of a whole run with its record; its parts are
  the groups of rows that were fetched together.
- Bare loop: the same model, loss, precision and memory format; batches that are on the device already; torch's fused
  AdamW; no record, no gradient norm.
- TFLOP/s: 6 for each parameter in a matrix product (the tied output layer is in one, positions are not) + 12 × layers ×
  width × context, for each token: PaLM, arXiv 2204.02311, appendix B. Attention counts in full, though half is masked.
- Images are random, in the real formats on disk: ImageNet's are 500×375 and 100 kB each. A run begins with up to 4
  batches of each worker ready; a long run is no faster than its loader alone."""


class Clock(NoTracker):
    """Times the groups of rows from step `first` on, where the run evaluates. Each group has waited for the device."""

    spans: ClassVar[Spans] = []

    def __init__(self, first: int) -> None:
        self._first, self._since = first, 0.0
        Clock.spans = []

    def log_steps(self, rows: list[dict[str, Any]]) -> None:
        now = time.perf_counter()
        if rows[0]["step"] >= self._first:
            Clock.spans.append((len(rows), now - self._since))
        self._since = now

    def log_eval(self, row: dict[str, Any]) -> None:  # noqa: ARG002
        self._since = time.perf_counter()


def harness(overrides: list[str], steps: int) -> Spans:
    """Time the second half of a run with twice as many steps."""
    torch.compiler.reset()
    with tempfile.TemporaryDirectory() as folder:
        config = run_config([*overrides, f"horizon={2 * steps}", f"eval_every={steps}", f"results_dir={folder}"])
        config.tracker = {"_target_": f"{__name__}.Clock", "first": steps}
        run(config)
        if sum(count for count, _ in Clock.spans) != steps:
            raise SystemExit(f"{config.names.task}: {record.outcome(record.folder_of(as_dict(config)))}")
    return Clock.spans


def bare(config: RunConfig, batches: list[tuple[Tensor, ...]], steps: int) -> Spans:
    """Time a bare loop over the task's model."""
    torch.compiler.reset()
    task = build_parts(config).task
    model = task.model().to(DEVICE)
    if config.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss_of = torch.compile(task.loss) if config.compile else task.loss
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)

    def seconds(count: int) -> float:
        began = time.perf_counter()
        for step in range(count):
            optimizer.zero_grad()
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=config.precision == "bf16"):
                loss = loss_of(model, batches[step % len(batches)])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        wait()
        return time.perf_counter() - began

    seconds(WARM_UP)
    return [(steps // PARTS, seconds(steps // PARTS)) for _ in range(PARTS)]


def loading(config: RunConfig) -> Spans:
    """Time the task's own loader while nothing else waits for it, over whole rounds of its workers."""
    batches, spans = build_parts(config).task.batches(0), Spans()
    every = max(1, config.workers)
    for _ in range(every):  # past the start of the processes
        next(batches)
    for _ in range(PARTS):
        began, count = time.perf_counter(), 0
        while count == 0 or count % every or time.perf_counter() - began < 1:
            next(batches)
            count += 1
        spans.append((count, time.perf_counter() - began))
    return spans


def matrix_rates(size: int) -> list[float]:
    """Return ten rates, in TFLOP/s, each over five products of two random bf16 matrices of size × size."""
    left, right = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(12):
        wait()
        began = time.perf_counter()
        for _ in range(5):
            torch.matmul(left, right)
        wait()
        rates.append(5 * 2 * size**3 / (time.perf_counter() - began) / 1e12)
    return rates[2:]  # the first warm up


def wait() -> None:
    """Wait for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def token_flops(model: nn.Module, build: dict[str, Any]) -> int:
    """Return the FLOPs to train GPT-2 on a token: 6 × parameters in matrix products + 12 × layers × width × context.

    The tied output layer is in a product, positions are not. Source: PaLM, arXiv 2204.02311, appendix B.
    """
    inside = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "wpe" not in name)
    return int(6 * inside + 12 * build["depth"] * build["width"] * build["context"])


def show(
    what: str, unit: str, size: int, spans: Spans, base: float = 0.0, tera: float = 0.0, peak: float = 1.0
) -> float:
    """Print a row of the table, and return its rate for `size` units a step; a unit takes `tera` TFLOP."""
    rates = [size * steps / seconds for steps, seconds in spans]
    steps, seconds = sum(steps for steps, _ in spans), sum(seconds for _, seconds in spans)
    rate = size * steps / seconds
    cells = [what, f"{rate:,.0f} {unit} ({min(rates):,.0f} to {max(rates):,.0f}, n = {len(rates)})"]
    cells += [f"{1e3 * seconds / steps:.2f}", str(steps)]
    cells += [f"{rate * tera:.3g}" if tera else "", f"{rate * tera / peak:.1%}" if tera else ""]
    print(f"| {' | '.join(cells)} | {f'{rate / base:.3f}' if base else ''} |", flush=True)
    return rate


def measure(part: str, overrides: list[str], steps: int, peak: float) -> None:
    """Print the rows of a task; `peak` is the matrix rate."""
    config = run_config(overrides)
    task, build, name = build_parts(config).task, config.task.build, config.names.task
    size: dict[str, Any] = {"unit": "images", "size": build["batch"]}
    given = any(text.startswith("optimizer=") for text in overrides)
    optimizers, extra = [config.names.optimizer] if given else ["s3", "adamw_95"], f", workers={config.workers}"
    if part == "gpt":
        size = {"unit": "tokens", "size": build["batch"] * build["context"], "peak": peak}
        size["tera"] = token_flops(task.model(), build) / 1e12
    else:
        show(f"{name}, loader alone{extra}", spans=loading(config), **size)
    ahead = build_parts(config).task.batches(0)
    batches = [next(ahead) for _ in range(16 if part == "gpt" else 1)]
    order = torch.channels_last if config.channels_last else torch.preserve_format
    there = [tuple(x.to(DEVICE, memory_format=order if x.ndim == 4 else None) for x in batch) for batch in batches]
    base = show(f"{name}, bare loop", spans=bare(config, there, steps), **size)
    for optimizer in optimizers:
        chosen = [f"optimizer={optimizer}", *(text for text in overrides if not text.startswith("optimizer="))]
        show(f"{name}, harness, {optimizer}{extra}", spans=harness(chosen, steps), base=base, **size)


def write_data(part: str, data_dir: str, cifar_images: int) -> None:
    """Write random images: `cifar_images` per file of CIFAR; for ImageNet two per class, and ten held out."""
    image_data.ignore_sums(SimpleNamespace(setattr=setattr, setitem=dict.__setitem__))  # type: ignore[no-untyped-call]
    if part == "cifar":
        image_data.write_cifar(data_dir, each=cifar_images)  # type: ignore[no-untyped-call]
    if part != "imagenet":
        return
    root, random, files = Path(data_dir, "imagenet"), np.random.default_rng(0), 32
    root.mkdir()
    for number in range(files):  # enlarged, they take about as long to decode as photographs
        pixels = random.integers(256, size=(141, 188, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((500, 375)).save(root / f"{number}.jpg", quality=85)
    image_data.WNIDS = {f"n{number:08d}": (number, 2, int(number <= 10)) for number in range(1, 1001)}
    for wnid, (number, *counts) in image_data.WNIDS.items():
        for half, count in zip(("train", "val"), counts, strict=True):
            (root / half / wnid).mkdir(parents=True)
            for place in range(count):
                os.link(root / f"{(2 * number + place) % files}.jpg", root / half / wnid / f"{place}.JPEG")
    image_data.write_devkit(root / "ILSVRC2012_devkit_t12.tar.gz")  # type: ignore[no-untyped-call]


def overrides_of(part: str, small: bool, data_dir: str, given: list[str]) -> list[str]:
    """Return the settings of a task as overrides; those given win."""
    texts = [*TASKS[part][0].split(), *(SMALL[part][0].split() if small else [])]
    texts += [] if part == "gpt" else [f"data_dir={data_dir}"]
    return [f"{key}={value}" for key, value in dict(text.split("=", 1) for text in [*texts, *given]).items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TASKS, help="one part")
    parser.add_argument("--steps", type=int, help="how many steps of each part are timed")
    parser.add_argument("--small", action="store_true", help="small sizes, for a trial")
    parser.add_argument("overrides", nargs="*", help="settings of the runs, such as workers=16")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    with tempfile.TemporaryDirectory() as folder:
        asked = {}
        for part in [chosen.only] if chosen.only else TASKS:
            asked[part] = overrides_of(part, chosen.small, folder, chosen.overrides)
            write_data(part, folder, 200 if chosen.small else 2000)
            build_parts(run_config(asked[part]))  # prepares the data, and prints that it does
        gpu = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"no GPU ({platform.machine()})"
        print(f"torch {torch.__version__}, {gpu}, Python {platform.python_version()}, {os.cpu_count()} CPU cores\n")
        print("| what | a second (of its parts) | ms a step | steps | TFLOP/s | of the matrix rate | / bare |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
        rates = matrix_rates(256 if chosen.small else 8192)
        peak = statistics.median(rates)
        print(
            f"| matrix rate, bf16, median ({min(rates):.3g} to {max(rates):.3g}, n = 10) | | | | {peak:.3g} | 100% | |"
        )
        for part, overrides in asked.items():
            measure(part, overrides, chosen.steps or (SMALL if chosen.small else TASKS)[part][1], peak)
    print(NOTES)


if __name__ == "__main__":
    main()
