"""Scores every definition of a spike on the labelled test bed, as a table in Markdown. From the repository's root:

python -m scripts.test_bed                          the held-out curves
python -m scripts.test_bed --mixture development    curves that the detector is developed on
python -m scripts.test_bed --mixture development_2  more of them
python -m scripts.test_bed --shapes                 also the recall for each shape of event
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from s3bench.spikes import find_spikes
from s3bench.spikes.published import DEFINITIONS
from s3bench.spikes.published_rules import Definition, events
from scripts.detector_bed.bed import MIXTURES, Detector, draw, evaluate


def ours(loss: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the events that our detector finds with its default parameters."""
    return [(spike.onset, spike.end) for spike in find_spikes(loss)]


def theirs(definition: Definition) -> Detector:
    """Return a detector that groups the steps flagged by a published definition into events."""
    return lambda loss: events(definition.flags(loss))


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a table whose first column is text and whose other columns are numbers."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=1000, help="how many, with seeds 0, 1, ... (default: 1000)")
    parser.add_argument(
        "--mixture", choices=MIXTURES, default="held_out", help="what the curves are drawn from (default: held_out)"
    )
    parser.add_argument("--shapes", action="store_true", help="also print the recall for each shape of event")
    asked = parser.parse_args()
    curves = [draw(seed, asked.mixture) for seed in range(asked.curves)]
    detectors: dict[str, Callable[..., list[tuple[int, int]]]] = {"s3bench": ours}
    detectors |= {definition.name: theirs(definition) for definition in DEFINITIONS}
    results: dict[str, Any] = {name: evaluate(detector, curves) for name, detector in detectors.items()}

    one = results["s3bench"]
    title = asked.mixture.replace("_", "-")
    print(f"{len(curves):,} {title} curves, {one['events']:,} events, {one['clean_steps']:,} clean steps.\n")
    head = ["definition", "precision", "recall", "F1", "false events per 10,000 clean steps"]
    keys = ["precision", "recall", "f1", "false_per_10k"]
    rows = [[name, *(f"{result[key]:.{3 if key == 'f1' else 2}f}" for key in keys)] for name, result in results.items()]
    print(markdown(head, rows))
    if asked.shapes:
        shapes = list(one["recall_by_shape"])
        table = [[name, *(f"{result['recall_by_shape'][s]:.2f}" for s in shapes)] for name, result in results.items()]
        print("\n" + markdown(["recall", *shapes], table))


if __name__ == "__main__":
    main()
