"""The figures: which ones records allow, what they and their captions say, and the command that draws one."""

import itertools
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from s3bench import figures, record
from s3bench.cli import main
from s3bench.config import as_dict, run_config
from s3bench.drawing import CAPTIONS, NEEDS
from s3bench.drawings import drawings
from s3bench.errors import UserError
from s3bench.onset import AROUND, traces
from s3bench.report import write_figures, write_report
from s3bench.runs import read_all
from s3bench.shocks import paired
from tests.s3bench.test_shocks import GRADIENT
from tests.s3bench.test_shocks import make as make_shocked

ADAMS = ("adamw", "adamw_95", "adamw_same")
VARIANTS = list(itertools.product((1, 2, 3, 4), ("null", "0.999"), ("true", "false")))
GENERAL = {"final_loss", "spike_rate", "steps_to_target"}


def make_cells(
    results, *overrides, multipliers=(1.0,), seeds=2, horizon=120, final=0.1, spikes=(), state="finished", gradient=None
):
    """Records of one optimizer: losses that fall to about `final`, updates that triple in the steps before spikes."""
    base = [f"horizon={horizon}", "measure_every=1", "task.spikes={k: 6.0, delta: 0.3}", f"results_dir={results}"]
    config = as_dict(run_config([*base, *overrides]))
    for multiplier, seed in itertools.product(multipliers, range(seeds)):
        own = config | {"lr_multiplier": multiplier, "seed": seed, "scale": "laptop"}
        own["run_id"] = f"{config['run_id']}-x{multiplier}-s{seed}"
        _write(own, np.random.default_rng([seed, len(config["run_id"])]), multiplier, final, spikes, state, gradient)


def _write(config, random, multiplier, final, spikes, state, gradient):
    horizon = config["horizon"]
    steps = horizon if state == "finished" else horizon // 2
    loss = (
        final
        + 2 / (1 + np.arange(horizon + 1))
        + 0.01 * abs(math.log(multiplier))
        + random.normal(0, 0.01, horizon + 1)
    )
    size = 0.2 + random.normal(0, 0.01, horizon + 1)
    for spike in spikes:
        loss[spike : spike + 3] += [2, 1, 0.5]
        size[spike - 4 : spike + 10] *= 3
    if state == "diverged":
        loss[steps - 1] = math.nan
    columns = {"step": np.arange(steps), "loss": loss[:steps], "lr": np.full(steps, 0.1), "grad_norm": np.ones(steps)}
    columns |= {"update_rms": size[:steps], "update_max": 4 * size[:steps]}
    columns |= {"update_above_1": np.clip(size[:steps] - 0.3, 0, 1), "param_max": np.ones(steps)}
    at = np.linspace(0, steps, 5).astype(int)
    evals = {"step": at, "loss": np.nan_to_num(loss[at], nan=1.0), "distance": np.ones(5)}
    if gradient:
        evals["grad_norm"] = gradient * horizon**-0.3 * (1 + np.arange(5)[::-1]) * (1 + random.normal(0, 0.02))
    summary = {"state": state, "steps": steps, "seconds": 1.0, "train_seconds": 1.0, "parameters": 1234}
    summary |= {"fingerprint": "f", "device": "cpu", "versions": {"torch": "2"}, "commit": None}
    record.write_result(record.plan(config), columns, evals, summary)


def make_ablation(results, seeds=2, multipliers=(0.1, 1.0), **values):
    """The sixteen variants of S3; the order 3, one β and the look-ahead are best."""
    for p, other, nesterov in VARIANTS:
        worse = 0.02 * abs(p - 3) + 0.03 * (other != "null") + 0.01 * (nesterov == "false")
        settings = (f"optimizer.p={p}", f"optimizer.denominator_beta={other}", f"optimizer.nesterov={nesterov}")
        make_cells(
            results,
            "optimizer=s3",
            *settings,
            seeds=seeds,
            multipliers=multipliers,
            **{"final": 0.1 + worse, **values},
        )


def make_everything(results, seeds=2):
    """Records from which every figure can be drawn."""
    for name, optimizer in itertools.product(("quadratic", "nonconvex"), ("s3", *ADAMS)):
        spikes = {"s3": (), "adamw": (60, 90), "adamw_95": (70,), "adamw_same": ()}[optimizer]
        for horizon in (120, 240):
            make_cells(
                results,
                f"task={name}",
                f"optimizer={optimizer}",
                multipliers=(1.0, 10.0),
                seeds=seeds,
                horizon=horizon,
                final=0.1 + 10 / horizon,
                spikes=spikes,
                gradient=3 if name == "nonconvex" else None,
            )


def allowed(results):
    runs, shocked = read_all(results)
    return drawings(runs, paired(runs, shocked))


def texts(file):
    """The text elements of an SVG, which matplotlib keeps as comments beside their outlines."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    return [n.text.strip() for n in ElementTree.parse(file, parser).iter() if n.tag is ElementTree.Comment]
