"""Holds the options of `s3bench spikes`, and what they ask for."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from s3bench.errors import UserError

if TYPE_CHECKING:
    from s3bench.spikes.detector import DetectorParameters


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    text = "a file, the folder of a wandb run or of TensorBoard events, or - for stdin; of several, a row each"
    parser.add_argument("files", metavar="FILE", nargs="+", help=text)
    text = "the column with the loss, by its number where none has a name (default: the one named like a training loss)"
    parser.add_argument("--column", metavar="NAME", help=text)
    text = "the column with the steps (default: one named like it); none: count the rows"
    parser.add_argument("--step", metavar="NAME", help=text)
    text = "take the rows in which this column has this value; rows=FIRST-LAST: these rows"
    parser.add_argument("--where", metavar="NAME=VALUE", help=text)
    text = "the rows to keep where steps go back (default: keep-last for a resumed run; several runs are refused)"
    parser.add_argument("--resume", choices=("keep-last", "keep-first"), help=text)
    text = "read lines with this regular expression, such as 'it (?P<step>\\d+) ce (?P<loss>\\S+)'"
    parser.add_argument("--pattern", metavar="REGEX", help=text)
    parser.add_argument("--k", type=float, default=6.0, help="the threshold in σ (default: 6)")
    text = "the smallest height of a spike, in the loss's unit (default: 0.1, but 10%% of a small loss)"
    parser.add_argument("--delta", type=float, help=text)
    text = "the largest threshold, in the loss's unit (default: none)"
    parser.add_argument("--ceiling", type=float, default=math.inf, help=text)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curve and its spikes: .png, .svg or .pdf")
    text = "exit with 1 on a spike, on a run that diverged, or on more than X spikes per 10,000: 'rate>X'"
    parser.add_argument("--fail-on", metavar="spike|diverged|rate>X", help=text)
    text = "watch a log that is being written: print each spike as it begins and ends, and the table at Ctrl-C"
    parser.add_argument("--follow", action="store_true", help=text)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=_show)


def _show(chosen: argparse.Namespace) -> int:
    """Print the spikes of one curve or of several; return the exit code."""
    from s3bench.report.one_curve import show_spikes
    from s3bench.report.several_curves import show_several

    parameters: DetectorParameters = {"k": chosen.k, "delta": chosen.delta, "ceiling": chosen.ceiling}
    names = ("column", "step", "where", "resume", "pattern")
    reading = {name: getattr(chosen, name) for name in names} | {"as_json": chosen.json, "fail_on": chosen.fail_on}
    if chosen.follow:
        from s3bench.report.follow import follow

        if len(chosen.files) > 1:
            raise UserError("--follow watches one file; name one")
        return follow(chosen.files[0], parameters, plot=chosen.plot, **reading)
    if len(chosen.files) == 1:
        return show_spikes(chosen.files[0], parameters, plot=chosen.plot, **reading)
    if chosen.plot is not None:
        raise UserError("--plot draws one curve; name one file")
    return show_several(chosen.files, parameters, **reading)
