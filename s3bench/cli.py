"""The command line. Each command imports what it needs when it runs, so that --help answers at once."""

import argparse
import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from s3bench import __version__, catalog
from s3bench.errors import UserError, one_line

RUN_HELP = "what to run, as key=value: task=source_gpt optimizer=s3 lr_multiplier=10 (any key of configs/run.yaml)"
KINDS = {"tasks": "task", "optimizers": "optimizer", "schedules": "schedule", "experiments": "experiment"}


class Parser(argparse.ArgumentParser):
    """argparse, with mistakes on one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 a run failed, 2 a mistake of the user's, 130 interrupted."""
    try:
        chosen = parse(arguments)
        sys.path.append(str(Path.cwd()))  # for optimizers and tasks of one's own; last, so that it shadows nothing
        return int(chosen.command(chosen))
    except UserError as error:
        if os.environ.get("S3BENCH_DEBUG"):
            raise
        print(f"s3bench: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ns3bench: stopped; the same command goes on with what is missing", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        _silence()
        return 0
    except OSError as error:
        if os.environ.get("S3BENCH_DEBUG"):
            raise
        print(f"s3bench: {one_line(error)}", file=sys.stderr)
        return 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The parsed command line; overrides may stand before and after options. Raises UserError."""
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    if any(text.startswith("-") for text in rest) or (rest and not hasattr(chosen, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        chosen.overrides += rest
    return chosen


def _silence() -> None:
    """Send what is still printed nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> Parser:
    parser = Parser(prog="s3bench", description="The loss-spike benchmark for deep-learning optimizers.")
    parser.add_argument("--version", action="version", version=f"s3bench {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="one run")
    run.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=RUN_HELP)
    run.set_defaults(command=_run)

    sweep = commands.add_parser("sweep", help="many runs; again: only what is missing runs")
    sweep.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help=f"{RUN_HELP}; lists span a grid: seed=0,1,2; experiment=NAME"
    )
    sweep.add_argument("--jobs", type=_count, metavar="N", help="runs at a time (default: one per core)")
    sweep.set_defaults(command=_sweep)

    status = commands.add_parser("status", help="states, progress and failures of the runs in a results folder")
    status.add_argument("results", metavar="RESULTS", help="such as results/quickstart")
    status.set_defaults(command=_status)

    report = commands.add_parser("report", help="tables, figures and report/index.html of a results folder")
    report.add_argument("results", metavar="RESULTS", help="such as results/quickstart")
    report.set_defaults(command=_report)

    spikes = commands.add_parser("spikes", help="the spikes of any loss curve in a CSV or Parquet file")
    spikes.add_argument("file", metavar="FILE", help="one row per step")
    spikes.add_argument("--column", default="loss", help="the loss (default: loss)")
    spikes.add_argument("--k", type=float, default=6.0, help="threshold in σ (default: 6)")
    spikes.add_argument("--delta", type=float, default=0.1, help="smallest height, in the loss's unit (default: 0.1)")
    spikes.add_argument("--json", action="store_true", help="print JSON")
    spikes.set_defaults(command=_spikes)

    listing = commands.add_parser("list", help="the names that task=, optimizer=, schedule= and experiment= take")
    listing.add_argument("kind", choices=list(KINDS))
    listing.set_defaults(command=_list)
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _run(chosen: argparse.Namespace) -> int:
    from s3bench import record
    from s3bench.config import run_config
    from s3bench.run import run

    config = run_config(chosen.overrides)
    folder = Path(config.results_dir) / config.run_id

    def watch(row: dict[str, Any]) -> None:
        values = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "step")
        try:
            print(f"step {row['step']}/{config.horizon}  {values}", flush=True)
        except BrokenPipeError:  # nobody reads any more; the run goes on
            _silence()

    try:
        run(config, watch)
    except record.Busy as error:
        raise UserError(f"another process is at the run {folder}") from error
    print(f"{record.outcome(folder)}; the record is {folder}")
    return 1 if record.state(folder) == record.FAILED else 0


def _sweep(chosen: argparse.Namespace) -> int:
    from s3bench.sweep import sweep

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's end is the user's: stop the workers too
    return sweep(chosen.overrides, chosen.jobs)


def _status(chosen: argparse.Namespace) -> int:
    from s3bench.status import show

    show(chosen.results)
    return 0


def _report(chosen: argparse.Namespace) -> int:
    from s3bench.report import write_report

    print(f"wrote {write_report(chosen.results)}")
    return 0


def _spikes(chosen: argparse.Namespace) -> int:
    from s3bench.curves import read_curve
    from s3bench.spikes import find_spikes

    loss = read_curve(Path(chosen.file), chosen.column)
    try:
        spikes = find_spikes(loss, k=chosen.k, delta=chosen.delta)
    except ValueError as error:
        raise UserError(str(error)) from error
    if chosen.json:
        events = [vars(spike) | {"height": spike.height if math.isfinite(spike.height) else None} for spike in spikes]
        print(json.dumps(events))
        return 0
    print(f"{len(spikes)} spikes in {len(loss)} steps, {1e4 * len(spikes) / len(loss):.2f} per 10,000 steps")
    if spikes:
        print(f"{'onset':>10}{'peak':>10}{'end':>10}{'height':>12}  kind")
    for spike in spikes:
        print(f"{spike.onset:>10}{spike.peak:>10}{spike.end:>10}{spike.height:>12.4g}  {spike.kind}")
    return 0


def _list(chosen: argparse.Namespace) -> int:
    files = catalog.choices(KINDS[chosen.kind])
    width = max(map(len, files), default=0)
    for name, file in files.items():
        print(f"{name:<{width}}  {catalog.about(file)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
