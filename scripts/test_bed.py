"""Every definition of a spike on the labelled test bed: a table in Markdown. From the repository's root:

python -m scripts.test_bed                          the held-out curves
python -m scripts.test_bed --mixture development    those that the detector is developed on; more in development_2
python -m scripts.test_bed --shapes                 and the recall for each shape of event
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
    """Our detector with its default parameters."""
    return [(spike.onset, spike.end) for spike in find_spikes(loss)]


def theirs(definition: Definition) -> Detector:
    """A published definition, its flagged steps made events."""
    return lambda loss: events(definition.flags(loss))


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=1000, help="seeds 0, 1, ...; 1000 if not given")
    parser.add_argument("--mixture", choices=MIXTURES, default="held_out", help="what the curves are drawn from")
    parser.add_argument("--shapes", action="store_true", help="the recall for each shape of event, too")
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
