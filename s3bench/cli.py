"""The command line. Each command imports what it needs when it runs, so that --help answers at once."""

import argparse
import io
import math
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from s3bench import __version__, catalog
from s3bench.errors import UserError, one_line
from s3bench.report.one_curve import check_figure_file, show_spikes

RUN_HELP = "what to run, as key=value: task=source_gpt optimizer=s3 lr_multiplier=10 (any key of configs/run.yaml)"
KINDS = {
    "tasks": "task",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "launchers": "launcher",
    "experiments": "experiment",
}

MANY_RUNS = 20_000  # of a sweep, for more than which --yes is asked


class Parser(argparse.ArgumentParser):
    """argparse, with mistakes on one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 a run failed, 2 a mistake of the user's, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack σ and ▼
    try:
        chosen = parse(arguments)
        sys.path.append(str(Path.cwd()))  # for optimizers and tasks of one's own; last, so that it shadows nothing
        return int(chosen.command(chosen))
    except UserError as error:
        if os.environ.get("S3BENCH_DEBUG"):
            traceback.print_exc()
        print(f"s3bench: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ns3bench: stopped; the same command goes on with what is missing", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        from s3bench.console import silence_stdout

        silence_stdout()
        return 0
    except OSError as error:
        if os.environ.get("S3BENCH_DEBUG"):
            traceback.print_exc()
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
    sweep.add_argument("--dry-run", action="store_true", help="say what would run, how long and on how much disk")
    sweep.add_argument("--yes", action="store_true", help="so many runs are meant")
    sweep.set_defaults(command=_sweep)

    status = commands.add_parser("status", help="states, progress and failures of the runs in a results folder")
    status.add_argument("results", metavar="RESULTS", help="such as results/quickstart")
    shown = status.add_mutually_exclusive_group()
    every = "show it anew every so many seconds (10), until Ctrl-C"
    shown.add_argument("--watch", nargs="?", const=10.0, type=_seconds, metavar="SECONDS", help=every)
    shown.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(command=_status)

    report = commands.add_parser("report", help="tables, figures and report/index.html of a results folder")
    report.add_argument("results", metavar="RESULTS", help="such as results/quickstart")
    report.set_defaults(command=_report)

    figure = commands.add_parser("figure", help="one figure of a results folder: its files and its caption")
    figure.add_argument("name", nargs="?", metavar="NAME", help="such as fig2; without one: which there are")
    figure.add_argument("results", metavar="RESULTS", help="such as results/update_size")
    figure.add_argument("--output", type=Path, metavar="FILE", help="write this file alone: .png, .svg or .pdf")
    figure.set_defaults(command=_figure)

    spikes = commands.add_parser("spikes", help="the spikes of any loss curve: CSV, Parquet, JSON, wandb, TensorBoard")
    spikes.add_argument("file", metavar="FILE", help="a file, or the folder of a wandb run or of TensorBoard events")
    spikes.add_argument("--column", metavar="NAME", help="the loss (default: the one named like a training loss)")
    spikes.add_argument("--step", metavar="NAME", help="the steps (default: one named like it); none: count rows")
    spikes.add_argument("--k", type=float, default=6.0, help="threshold in σ (default: 6)")
    spikes.add_argument("--delta", type=float, default=0.1, help="smallest height, in the loss's unit (default: 0.1)")
    spikes.add_argument("--ceiling", type=float, default=math.inf, help="largest threshold, likewise (default: none)")
    spikes.add_argument("--plot", type=Path, metavar="FILE", help="draw the curve and its spikes: .png, .svg or .pdf")
    spikes.add_argument("--json", action="store_true", help="print JSON")
    spikes.set_defaults(command=_spikes)

    calibrate = commands.add_parser(
        "calibrate", help="the detector's parameters for a task, from runs at low learning rates"
    )
    calibrate.add_argument("results", metavar="RESULTS", help="a results folder with runs at lr_multiplier up to 0.3")
    calibrate.set_defaults(command=_calibrate)

    tune = commands.add_parser(
        "tune", help="measure a task's base learning rate, targets and detector parameters into its YAML"
    )
    tune.add_argument("task", metavar="TASK", help="such as source_gpt")
    tune.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="where it runs: device=cuda data_dir=DIR")
    tune.add_argument("--jobs", type=_count, metavar="N", help="runs at a time (default: one per core)")
    tune.set_defaults(command=_tune)

    listing = commands.add_parser(
        "list", help="the names that task=, optimizer=, schedule=, launcher= and experiment= take"
    )
    listing.add_argument("kind", choices=list(KINDS))
    listing.set_defaults(command=_list)
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 on")
    return seconds


def _run(chosen: argparse.Namespace) -> int:
    from s3bench import record
    from s3bench.console import silence_stdout
    from s3bench.record import lease
    from s3bench.run.config.compose import run_config
    from s3bench.run.distributed import of_torchrun
    from s3bench.run.one_run import run
    from s3bench.run.signals import Stop, Stopped

    stop = Stop()
    stop.listen()
    config, processes = run_config(chosen.overrides), of_torchrun()
    folder = Path(config.results_dir) / config.run_id

    def say(line: str) -> None:
        try:
            print(line, flush=True)
        except OSError:  # nobody reads any more, or the disk is full; the run goes on
            silence_stdout()

    try:
        try:
            state = run(config, say, stop)
        except record.Busy:
            say(f"{lease.owner(record.lease_place(folder))} is at the run {folder}; does it live?")
            dead = lease.wait_for_death(record.lease_place(folder))
            state = run(config, say, stop, dead)
        code = 1 if state == record.FAILED else 0
        line = f"{record.outcome(folder)}; the record is {folder}"
    except record.Busy as error:
        raise UserError(f"another process is at the run {folder}") from error
    except Stopped as stopped:
        code = 128 + stopped.number
        line = f"stopped by {stopped} at step {record.steps_so_far(folder)}; the same command goes on from there"
    if processes.rank == 0:
        say(line)
    if processes.size > 1:
        os._exit(code)  # gloo's threads at times abort a process that Python takes down in its own order
    return code


def _sweep(chosen: argparse.Namespace) -> int:
    from s3bench.run.sweep.sweep import sweep

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("torchrun starts the processes of one run: s3bench run; a sweep starts its own")
    most = math.inf if chosen.yes else MANY_RUNS
    if chosen.dry_run:
        from s3bench.run.sweep.dry_run import show

        show([*chosen.overrides, *_jobs(chosen)], most)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's end is the user's: stop the workers too
    return sweep([*chosen.overrides, *_jobs(chosen)], most)


def _jobs(chosen: argparse.Namespace) -> list[str]:
    """--jobs as the override that it stands for."""
    return [] if chosen.jobs is None else [f"launcher.jobs={chosen.jobs}"]


def _status(chosen: argparse.Namespace) -> int:
    from s3bench.report import status

    if chosen.watch is not None:
        status.watch(chosen.results, chosen.watch)
    elif chosen.json:
        status.show_json(chosen.results)
    else:
        status.show(chosen.results)
    return 0


def _report(chosen: argparse.Namespace) -> int:
    from s3bench.report.write import write_report

    print(f"wrote {write_report(chosen.results)}")
    return 0


def _figure(chosen: argparse.Namespace) -> int:
    from s3bench.report.write import figure_names, write_figures

    if chosen.name is None:
        print(*figure_names(chosen.results), sep="\n")
        return 0
    if chosen.output is not None:
        check_figure_file("--output", chosen.output)
    for caption, files in write_figures(chosen.results, chosen.name, chosen.output).items():
        print(*(f"wrote {file}" for file in files), caption, sep="\n")
    return 0


def _spikes(chosen: argparse.Namespace) -> int:
    show_spikes(
        Path(chosen.file),
        {"k": chosen.k, "delta": chosen.delta, "ceiling": chosen.ceiling},
        column=chosen.column,
        step=chosen.step,
        plot=chosen.plot,
        as_json=chosen.json,
    )
    return 0


def _calibrate(chosen: argparse.Namespace) -> int:
    from s3bench.report.analysis.calibrate import calibrate_tasks

    for task, found in calibrate_tasks(chosen.results).items():
        print(f"{task}: {found.runs} runs, {found.steps:,} steps; the threshold is {found.threshold:.3g} on average")
        line = f"{{k: {found.k:g}, delta: {found.delta:g}, ceiling: {found.ceiling:g}}}"
        print(f"spikes: {line} # {found.spikes} in {found.steps:,} calm steps")
    return 0


def _tune(chosen: argparse.Namespace) -> int:
    from s3bench.tune import tune

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"wrote {tune(chosen.task, [*chosen.overrides, *_jobs(chosen)])}")
    return 0


def _list(chosen: argparse.Namespace) -> int:
    files = catalog.choices(KINDS[chosen.kind])
    width = max(map(len, files), default=0)
    for name, file in files.items():
        print(f"{name:<{width}}  {catalog.about(file)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
