"""Compares a local sweep with bare training of the same runs, and with Hydra's own basic launcher, in runs per hour.

Bare training is the hand-written loop of bench_overhead.py: one process per core, one thread each, start-up excluded.
Hydra's basic launcher trains the same runs one after the other in one process, with as many threads as there are cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from s3bench.run.config.compose import run_config
from s3bench.run.config.grid import run_configs
from s3bench.run.config.schema import RunConfig
from scripts.bench_overhead import bare_seconds

GRID = ["task=digits_vit,source_gpt", "optimizer=s3,adamw,signsgd", "lr_multiplier=1,10", "seed=0,1"]
BASIC = """\
import sys
import hydra
from hydra.core.global_hydra import GlobalHydra
from s3bench.run.config.compose import run_config
from s3bench.run.one_run import run

@hydra.main(version_base="1.3", config_path=None)
def job(settings):
    GlobalHydra.instance().clear()  # the run composes its own config
    run(run_config([f"{key}={value}" for key, value in settings.items()]))

job()
"""


def bare(config: RunConfig) -> float:
    """Return the seconds of the hand-written loop in this process."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    return bare_seconds(config)


def wall(command: list[str]) -> float:
    """Return the seconds that a command takes."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid", nargs="*", help=f"overrides of a sweep (default: {' '.join(GRID)})")
    grid = parser.parse_args().grid or GRID
    configs = run_configs(grid)
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        local = wall([str(Path(sys.executable).with_name("s3bench")), "sweep", *grid, f"results_dir={folder}/local"])
        with ProcessPoolExecutor(cores) as pool:
            list(pool.map(bare, [run_config(["horizon=5"])] * cores))  # so that its imports are done
            alone = sum(pool.map(bare, configs)) / cores
        print(
            f"{len(configs)} runs, {cores} cores: the sweep {local:.1f} s, bare training {alone:.1f} s a core",
            flush=True,
        )
        print(f"sweep / bare training: {local / alone:.3f}", flush=True)
        own = Path(folder, "basic.py")
        own.write_text(BASIC)
        axes = [f"+{override}" for override in grid]
        place = [f"hydra.sweep.dir={folder}/hydra", f"+results_dir={folder}/basic", "+threads=" + str(cores)]
        basic = wall([sys.executable, str(own), "-m", *axes, *place])
    print(f"runs per hour, sweep / Hydra's basic launcher: {basic / local:.2f} ({basic:.1f} s)")


if __name__ == "__main__":
    main()
