"""What a step of S3 costs: its time over that of torch's AdamW, and its temporary memory, from interleaved repeats.

On a CPU the parameters are those of a GPT of 17 million in 80 tensors. On a GPU they are those of GPTs of 124 million
and 1 billion, a repeat is ten steps in a row, as in training nothing waits for a single one, and the bandwidth reached
is also given, as a share of that of a copy: a step reads the parameter, the gradient and two state tensors, and writes
three of them, 28 bytes per float32 parameter; SignSGD has no state, and Signum one.

A table has the same for 0.9 million parameters in 28 tensors, and one for a perceptron of 50 thousand in 14 tensors,
where a step costs what Python and the launches cost. A last one has every optimizer of configs/optimizer on that
perceptron, against torch's foreach AdamW.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

from optimizers import S3, SignSGD
from s3bench import catalog
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config

STEP_BYTES = {"SignSGD fused": 12, "Signum fused": 20}  # per float32 parameter; others 28
CPU_SIZES = {"17M": (448, 6, 4096, 512)}  # width, layers, vocabulary, context
GPU_SIZES = {"124M": (768, 12, 50304, 1024), "1B": (1792, 24, 50304, 1024)}

MIDDLE = [(256, 256), (256,)] * 14  # shapes whose state a processor's cache may hold
SMALL = [(92, 64), (92,), *[(92, 92), (92,)] * 5, (10, 92), (10,)]  # shapes of a perceptron
CALLS = 5  # steps in a row that a repeat of the small table times

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def gpt_shapes(width: int, layers: int, vocabulary: int, context: int) -> Iterator[tuple[int, ...]]:
    """The shapes of a GPT's parameters, embeddings tied; with 6 layers there are 76, and 4 more of a small head."""
    yield from [(vocabulary, width), (context, width)]
    for _ in range(layers):
        yield from [(width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,)]
        yield from [(width,), (width,), (4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    yield from [(width,), (width,), (width, width), (width,), (64, width), (64,)]


def parameters(shapes: Iterable[tuple[int, ...]], device: str) -> list[nn.Parameter]:
    """Parameters with gradients."""
    torch.manual_seed(0)
    params = [nn.Parameter(0.02 * torch.randn(shape, device=device)) for shape in shapes]
    for param in params:
        param.grad = 1e-3 * torch.randn_like(param)
    return params


def seconds(step: Callable[[], object], device: str) -> float:
    """Of one call; on a GPU of ten in a row, by ten."""
    calls = 10 if device == "cuda" else 1
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(calls):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / calls


def interleaved(steps: dict[str, Callable[[], object]], repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of each, in turns, after two calls that warm up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step(), step()
    for _ in range(repeats):
        for name, step in steps.items():
            times[name].append(seconds(step, device))
    return times


def temporary_bytes(step: Callable[[], object], device: str) -> int:
    """The most that a step allocates beyond what is there before it."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(profile_memory=True) as profile:
        step()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def first_step_seconds(device: str, cache: str) -> float:
    """Seconds of the first fused step in a new process, with its compilation cached in a folder."""
    code = (
        f"import time, torch; from optimizers import S3; x = torch.nn.Parameter(torch.zeros(9, device={device!r}));"
        "x.grad = torch.ones_like(x); o = S3([x], fused=True); t = time.perf_counter(); o.step(); x.sum().item();"
        "print(time.perf_counter() - t)"
    )
    environment = os.environ | {"TORCH_EXTENSIONS_DIR": cache, "TRITON_CACHE_DIR": cache}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def preparing_seconds(device: str, repeats: int) -> dict[str, float]:
    """Median seconds of a step for the tensors of 124 million parameters, of one coordinate each: Python's share."""
    params = [nn.Parameter(torch.zeros(1, device=device)) for _ in gpt_shapes(*GPU_SIZES["124M"])]
    for param in params:
        param.grad = torch.ones_like(param)
    adamw, s3 = torch.optim.AdamW(params, fused=True), S3(params, fused=True)
    times = interleaved({"AdamW": adamw.step, "S3": s3.step}, repeats, device)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(size: str, shapes: Iterable[tuple[int, ...]], device: str, repeats: int) -> None:
    """Print a table for one size: each optimizer in turns with AdamW, all on the same parameters.

    S3 with foreach is also its default where no compiler is found.
    """
    makers: dict[str, Make] = {
        "S3 p=3 default": S3,
        "S3 p=3 foreach": lambda params: S3(params, foreach=True),
        "S3 p=2.7 foreach": lambda params: S3(params, p=2.7, foreach=True),
        "S3 p=1.3 foreach": lambda params: S3(params, p=1.3, foreach=True),
        "Signum foreach": lambda params: SignSGD(params, momentum=0.95, foreach=True),
        "SignSGD fused": lambda params: SignSGD(params, fused=True),
        "Signum fused": lambda params: SignSGD(params, momentum=0.95, fused=True),
    }
    for p in (1.0, 2.0, 3.0, 4.0, 2.7, 1.3):
        makers[f"S3 p={p:g} fused"] = lambda params, p=p: S3(params, p=p, fused=True)  # type: ignore[misc]
    params = parameters(shapes, device)
    count = sum(param.numel() for param in params)
    rate = max(copy_rates(count, device, repeats))
    gpu_rate = rate if device == "cuda" else None
    print(f"\n{size}: {count:,} parameters in {len(params)} tensors; a copy moves {rate / 1e9:.0f} GB/s\n")
    print("| optimizer | ms a step | / AdamW fused | / AdamW foreach | of a copy's bandwidth | temporary memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    adamw: dict[str, Callable[[], object]] = {
        "AdamW fused": torch.optim.AdamW(params, fused=True).step,
        "AdamW foreach": torch.optim.AdamW(params, foreach=True).step,
    }
    for name, step in adamw.items():
        times = interleaved(adamw, repeats, device)
        show(name, times, temporary=temporary_bytes(step, device), count=count, copied=gpu_rate)
    for name, make in makers.items():
        own = make(params).step
        times = interleaved({**adamw, name: own}, repeats, device)
        show(name, times, temporary=temporary_bytes(own, device), count=count, copied=gpu_rate)


def measure_all(device: str, repeats: int) -> None:
    """Print a table of every optimizer of configs/optimizer on the small parameters, each in turns with AdamW.

    On one thread, as runs are: with tensors this small, others only wait.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    params = [nn.Parameter(0.1 * torch.randn(shape, device=device)) for shape in SMALL]
    grads = [1e-3 * torch.randn_like(param) for param in params]
    count = sum(param.numel() for param in params)
    print(f"\nEvery optimizer: {count:,} parameters in {len(params)} tensors, one thread\n")
    print("| optimizer | ms a step | / AdamW foreach, of the smallest |")
    print("| --- | --- | --- |")

    def steps_of(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        def steps() -> None:
            for _ in range(CALLS):
                for param, grad in zip(params, grads, strict=True):
                    param.grad = grad  # some optimizers overwrite its values, which costs no time
                optimizer.step()

        return steps

    base = steps_of(torch.optim.AdamW(params, foreach=True))
    for name in catalog.choices("optimizer"):
        optimizer = build_parts(run_config([f"optimizer={name}"])).optimizer(params, lr=1e-6)
        if hasattr(optimizer, "train"):
            optimizer.train()
        times = interleaved({"base": base, "own": steps_of(optimizer)}, repeats, device)
        ratio = min(times["own"]) / min(times["base"])  # a median of such short times is that of what else runs
        low, middle, high = (1e3 / CALLS * find(times["own"]) for find in (min, statistics.median, max))
        print(f"| {name} | {middle:.3g} ({low:.3g} to {high:.3g}) | {ratio:.2f} |", flush=True)


def copy_rates(count: int, device: str, repeats: int) -> list[float]:
    """Measure the bytes per second that copies of this many float32 numbers read and write."""
    source, target = (torch.ones(count, device=device) for _ in range(2))
    return [8 * count / seconds(lambda: target.copy_(source), device) for _ in range(repeats)]


def show(name: str, times: dict[str, list[float]], *, temporary: int, count: int, copied: float | None) -> None:
    """Print a row of the table; a copy's rate where it is the bound."""
    of_one = times[name]
    ratios = [
        statistics.median(one / other for one, other in zip(of_one, times[base], strict=True))
        for base in ("AdamW fused", "AdamW foreach")
    ]
    moved = STEP_BYTES.get(name, 28) * count / statistics.median(of_one)
    share = f"{moved / copied:.0%}" if copied else "-"
    low, middle, high = (f"{1e3 * value:.3g}" for value in (min(of_one), statistics.median(of_one), max(of_one)))
    print(
        f"| {name} | {middle} ({low} to {high}) | {ratios[0]:.2f} | {ratios[1]:.2f} | {share} | "
        f"{temporary / (4 * count):.1%} of the parameters' |",
        flush=True,
    )


def main() -> None:
    """Measure on the GPU where there is one, else on the CPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    chosen = parser.parse_args()
    device, repeats = chosen.device, chosen.repeats
    torch.set_num_threads(chosen.threads)
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    print(f"torch {torch.__version__}, {name}, {torch.get_num_threads()} threads; medians of {repeats} repeats")
    with tempfile.TemporaryDirectory() as cache:
        first, again = (first_step_seconds(device, cache) for _ in range(2))
    print(f"first fused step of a process: {first:.1f} s, with the compilation cached {again:.1f} s")
    preparing = ", ".join(f"{name} {1e3 * value:.2f} ms" for name, value in preparing_seconds(device, repeats).items())
    print(f"preparing a fused step for 152 tensors: {preparing}")
    for size, shape in (GPU_SIZES if device == "cuda" else CPU_SIZES).items():
        measure(size, gpt_shapes(*shape), device, repeats)
    measure("0.9M", MIDDLE, device, 2 * repeats)
    measure("small", SMALL, device, 4 * repeats)
    measure_all(device, repeats)


if __name__ == "__main__":
    main()
