"""Measures what the callbacks add to a step, called as their trainers call them, next to a callback that does nothing.

Prints medians of interleaved repeats, in µs of the processor per step, with the ratio to the bare callback.
"""

import argparse
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tasks.models import torchvision_shim  # noqa: F401 (before Lightning, whose metrics import torchvision)

from lightning.pytorch import Callback  # isort: skip
from transformers import TrainerCallback  # isort: skip
from s3bench.callbacks import huggingface  # isort: skip
from s3bench.callbacks import lightning as of_lightning  # isort: skip

Losses = list[float]


class BareTrainerCallback(TrainerCallback):
    """Takes the Trainer's log and does nothing."""

    def on_log(self, *_: object, **__: object) -> None:
        """Do nothing."""


def of_trainer(callback: Any, losses: Losses) -> float:
    """Return the processor's seconds for a step's log."""
    state, control = SimpleNamespace(global_step=0, log_history=[{}]), SimpleNamespace(should_training_stop=False)
    began = time.process_time()
    for step, loss in enumerate(losses):
        state.global_step = step
        callback.on_log(None, state, control, logs={"loss": loss})
    return (time.process_time() - began) / len(losses)


def of_lightnings(callback: Any, losses: Losses) -> float:
    """Return the processor's seconds for a batch's end."""
    trainer = SimpleNamespace(global_step=0, world_size=1, loggers=[], should_stop=False, is_global_zero=True)
    module = SimpleNamespace(automatic_optimization=True)
    outputs = [{"loss": torch.tensor(loss)} for loss in losses]
    began = time.process_time()
    for step, output in enumerate(outputs):
        trainer.global_step = step + 1
        callback.on_train_batch_end(trainer, module, output, None, step)
    return (time.process_time() - began) / len(losses)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    random = np.random.default_rng(0)
    losses = (2 + 3 / np.sqrt(10 + np.arange(asked.steps)) + 0.05 * random.standard_normal(asked.steps)).tolist()
    ways: dict[str, Callable[[], float]] = {
        "Trainer, bare": lambda: of_trainer(BareTrainerCallback(), losses),
        "Trainer, SpikeCallback": lambda: of_trainer(huggingface.SpikeCallback(), losses),
        "Lightning, bare": lambda: of_lightnings(Callback(), losses),
        "Lightning, SpikeCallback": lambda: of_lightnings(of_lightning.SpikeCallback(), losses),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.repeats):
        for name, way in ways.items():
            times[name].append(way())
    print(f"{asked.steps:,} steps, medians of {asked.repeats} interleaved repeats\n")
    print("| callback | µs per step | / bare |\n| --- | ---: | ---: |")
    for name, seconds in times.items():
        bare = np.median(times[f"{name.split(',')[0]}, bare"])
        print(f"| {name} | {1e6 * np.median(seconds):.2f} | {np.median(seconds) / bare:.0f} |")


if __name__ == "__main__":
    main()
