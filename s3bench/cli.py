"""The command line. Each command imports what it needs when it runs, so that --help answers at once."""

import argparse
import math
import os
import signal
import sys
from pathlib import Path
from typing import TypeAlias

from s3bench import __version__
from s3bench.console import lost_output, outlast_readers, say
from s3bench.errors import UserError, one_line, refuse_deleted_folder
from s3bench.report.curve_options import add_options
from s3bench.run.config import completion, questions
from s3bench.run.config.option_types import count, keys, port, seconds, time_span
from s3bench.run.config.parser import Parser

MANY_RUNS = 20_000  # a sweep of more runs needs --yes


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # what a command adds its parser to


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return 0: done, 1: a run failed, or output is lost, 2: a user's mistake, 130: interrupted."""
    outlast_readers()
    code = _code(arguments)
    if cause := lost_output():
        say(f"s3bench: output could not be written: {cause.strerror}", file=sys.stderr)
    return code or int(cause is not None)


def _code(arguments: list[str] | None) -> int:
    """Run a command and return its exit code; see `main`."""
    chosen = argparse.Namespace()
    try:
        chosen = parse(arguments)
        refuse_deleted_folder()
        sys.path.append(str(Path.cwd()))  # for the user's own optimizers and tasks; last, so that it shadows nothing
        os.environ["PYTHONSAFEPATH"] = "1"  # nor does it come first in the processes that this one starts
        return int(chosen.command(chosen))
    except UserError as error:
        return _print_error(error)
    except KeyboardInterrupt:
        say("", "s3bench: stopped; run the same command again to resume", file=sys.stderr)
        return 130
    except OSError as error:
        return _print_error(error, 1)
    except Exception as error:
        from s3bench.record.reader import altered

        return _print_error(altered(getattr(chosen, "results", None), error))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line. Overrides may come before and after options. Raises UserError."""
    parser = _parser()
    completion.answer_shell(parser)
    chosen: argparse.Namespace
    chosen, rest = parser.parse_known_args(arguments)
    if rest:
        chosen.overrides += rest
    return chosen


def _parser() -> Parser:
    parser = Parser(prog="s3bench", description="The loss-spike benchmark for deep-learning optimizers.")
    parser.add_argument("--version", action="version", version=f"s3bench {__version__}")
    commands: Commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add_command in (
        _add_run,
        _add_sweep,
        _add_status,
        _add_clean,
        _add_export,
        _add_replay,
        _add_decide,
        _add_bisect,
        _add_report,
        _add_serve,
        _add_figure,
        _add_spikes,
        _add_calibrate,
        _add_tune,
        questions.add_list,
        completion.add_command,
    ):
        add_command(commands)
    return parser


def _print_error(error: Exception, code: int = 2) -> int:
    if os.environ.get("S3BENCH_DEBUG"):
        import traceback

        traceback.print_exc()
    say(f"s3bench: {one_line(error)}", file=sys.stderr)
    return code


def _add_overrides(command: Parser, text: str) -> None:
    argument = command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=text)
    completion.complete_with(argument, completion.overrides)


def _add_results(command: Parser, text: str) -> None:
    argument = command.add_argument("results", metavar="RESULTS", help=text)
    completion.complete_with(argument, completion.results)


def _add_jobs(command: Parser) -> None:
    command.add_argument("--jobs", type=count, metavar="N", help="how many runs train at once (default: one per core)")


def _jobs(chosen: argparse.Namespace) -> list[str]:
    """Return --jobs as an override."""
    return [] if chosen.jobs is None else [f"launcher.jobs={chosen.jobs}"]


def _add_run(commands: Commands) -> None:
    run = commands.add_parser("run", help="train one run")
    _add_overrides(
        run, "the run, as key=value: task=source_gpt optimizer=s3 lr_multiplier=10 (any key of configs/run.yaml)"
    )
    asking = questions.add_questions(run, "the run")
    asking.add_argument("--multirun", "-m", action="store_true", help=argparse.SUPPRESS)  # Hydra's way to sweep
    run.set_defaults(command=_run)


def _run(chosen: argparse.Namespace) -> int:
    if chosen.multirun:
        raise UserError("run trains one run; for several (--multirun) use s3bench sweep")
    if questions.answer(chosen, chosen.overrides):
        return 0
    from s3bench.run.foreground import run_in_foreground

    return run_in_foreground(chosen.overrides)


def _add_sweep(commands: Commands) -> None:
    sweep = commands.add_parser("sweep", help="train many runs; repeated, it trains only those that are missing")
    _add_overrides(
        sweep, "the runs, as for s3bench run; a list such as seed=0,1,2 spans a grid; experiment=NAME is a saved grid"
    )
    _add_jobs(sweep)
    asking = questions.add_questions(sweep, "the sweep's first run")
    asking.add_argument("--dry-run", action="store_true", help="print what would run, how long, on how much disk")
    sweep.add_argument("--yes", action="store_true", help=f"start even if there are more than {MANY_RUNS:,} runs")
    text = "go through these lists together, the first value of each in one run, and so on: --zip task,horizon"
    sweep.add_argument("--zip", type=keys, action="append", default=[], metavar="KEY,KEY", help=text)
    sweep.set_defaults(command=_sweep)


def _sweep(chosen: argparse.Namespace) -> int:
    overrides = [*chosen.overrides, *_jobs(chosen)]
    if questions.answer(chosen, overrides, chosen.zip):
        return 0
    from s3bench.run.sweep.sweep import sweep

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("torchrun starts the processes of one run (s3bench run); a sweep starts its own processes")
    max_runs = math.inf if chosen.yes else MANY_RUNS
    if chosen.dry_run:
        from s3bench.run.sweep.dry_run import show

        show(overrides, max_runs, chosen.zip)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's SIGTERM stops the workers too, as Ctrl-C
    return sweep(overrides, max_runs, chosen.zip)


def _add_status(commands: Commands) -> None:
    status = commands.add_parser("status", help="show states, progress and failures of the runs in a results folder")
    _add_results(status, "such as results/quickstart")
    form = status.add_mutually_exclusive_group()
    text = "update the display every SECONDS (default: 10) until Ctrl-C"
    form.add_argument("--watch", nargs="?", const=10.0, type=seconds, metavar="SECONDS", help=text)
    form.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(command=_status)


def _status(chosen: argparse.Namespace) -> int:
    from s3bench.report import status

    if chosen.watch is None:
        return status.show(chosen.results, as_json=chosen.json)
    status.watch(chosen.results, chosen.watch)
    return 0


def _add_clean(commands: Commands) -> None:
    text = "list replaced records, leases of dead processes and checkpoints of failed runs; remove them after asking"
    clean = commands.add_parser("clean", help=text)
    _add_results(clean, "such as results/quickstart")
    clean.add_argument("--yes", action="store_true", help="remove all of it without asking")
    clean.set_defaults(command=_clean)


def _clean(chosen: argparse.Namespace) -> int:
    from s3bench.report.clean import clean

    clean(chosen.results, yes=chosen.yes)
    return 0


def _add_export(commands: Commands) -> None:
    text = "write the records as tables, or send them to a tracker: csv, parquet, wandb (offline), tensorboard, mlflow"
    export = commands.add_parser("export", help=text)
    _add_results(export, "such as results/quickstart")
    formats = ("csv", "parquet", "wandb", "tensorboard", "mlflow")
    export.add_argument("--format", choices=formats, required=True, help="what to write")
    export.set_defaults(command=_export)


def _export(chosen: argparse.Namespace) -> int:
    if chosen.format in ("csv", "parquet"):
        from s3bench.report.export import export_tables

        say(*(f"wrote {file}" for file in export_tables(chosen.results, chosen.format)))
        return 0
    from s3bench.run.export import export_runs

    return export_runs(chosen.results, chosen.format)


def _add_replay(commands: Commands) -> None:
    replay = commands.add_parser(
        "replay", help="train a run again to shortly before a spike, and on from there with one thing changed at a time"
    )
    _add_results(replay, "such as results/quickstart")
    text = "a run_id, its beginning, or a pattern such as '*adamw-*' (default: the run with the highest spike)"
    replay.add_argument("--run", metavar="RUN", help=text)
    text = "the number of a spike in its run, from 1, or all (default: the highest one)"
    replay.add_argument("--spike", metavar="N", help=text)
    _add_jobs(replay)
    replay.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="arm=same,half_lr,...: what is changed (default: all); device"
    )
    replay.set_defaults(command=_replay)


def _replay(chosen: argparse.Namespace) -> int:
    from s3bench.report.replay_table import show
    from s3bench.run.replay.replay import asked, replay

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as for a sweep
    code = replay(asked(chosen.results, chosen.overrides, run=chosen.run, spike=chosen.spike, jobs=chosen.jobs))
    show(chosen.results)
    return code


def _add_decide(commands: Commands) -> None:
    decide = commands.add_parser(
        "decide", help="add seeds where a claim is open until it is decided, or compare an optimizer of your own"
    )
    decide.add_argument(
        "overrides", nargs="*", metavar="CLAIM", help="C1 to C10 (default: all); key=value: of all runs"
    )
    text = "how long to train, such as 20m: a block begins if it should fit, the first one anyway (default: 60m)"
    decide.add_argument("--budget", type=time_span, default=3600.0, metavar="TIME", help=text)
    text = "where the runs and the log of decisions are kept (default: results/decide_SCALE)"
    decide.add_argument("--results", metavar="RESULTS", help=text)
    decide.add_argument("--scale", default="laptop", help="laptop (the default), gpu or paper")
    decide.add_argument("--optimizer", metavar="NAME", help="compare this optimizer, such as one of your own")
    decide.add_argument("--against", metavar="NAME", default="adamw_95", help="with this one (default: adamw_95)")
    decide.add_argument("--dry-run", action="store_true", help="print what a block trains, and what would be tuned")
    _add_jobs(decide)
    decide.set_defaults(command=_decide)


def _decide(chosen: argparse.Namespace) -> int:
    from s3bench.decide.decide import asked, decide
    from s3bench.decide.dry_run import show_plan

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as for a sweep
    given = [*chosen.overrides, *_jobs(chosen)]
    order = asked(
        given,
        budget=chosen.budget,
        results=chosen.results,
        scale=chosen.scale,
        optimizer=chosen.optimizer,
        against=chosen.against,
    )
    return show_plan(order) if chosen.dry_run else decide(order)


def _add_bisect(commands: Commands) -> None:
    bisect = commands.add_parser("bisect", help="search the largest stable fixed learning rate where ramps mislead")
    _add_results(bisect, "a folder with ramps, such as results/ramp")
    text = "task=NAME optimizer=NAME: which ramps (default: those that runs at fixed rates contradict)"
    bisect.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=text)
    _add_jobs(bisect)
    bisect.set_defaults(command=_bisect)


def _bisect(chosen: argparse.Namespace) -> int:
    from s3bench.decide.bisect import bisect

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as for a sweep
    return bisect(chosen.results, chosen.overrides, _jobs(chosen))


def _add_report(commands: Commands) -> None:
    report = commands.add_parser("report", help="write tables, figures and report/index.html of a results folder")
    _add_results(report, "such as results/quickstart")
    report.add_argument("--output", type=Path, metavar="FOLDER", help="write it here (default: RESULTS/report)")
    report.set_defaults(command=_report)


def _report(chosen: argparse.Namespace) -> int:
    from s3bench.report.analysis.results import read_results
    from s3bench.report.analysis.seen import seen
    from s3bench.report.write import write_report

    results = read_results(chosen.results)
    say(f"wrote {write_report(chosen.results, results, chosen.output)}", *seen(results).split("\n"))
    return 0


def _add_serve(commands: Commands) -> None:
    serve = commands.add_parser("serve", help="show progress and the report in the browser, renewed as runs finish")
    _add_results(serve, "such as results/quickstart")
    serve.add_argument("--port", type=port, default=8765, metavar="N", help="default: 8765; 0: any that is free")
    serve.set_defaults(command=_serve)


def _serve(chosen: argparse.Namespace) -> int:
    from s3bench.report.serve import serve

    serve(chosen.results, chosen.port)
    return 0


def _add_figure(commands: Commands) -> None:
    figure = commands.add_parser("figure", help="write one figure of a results folder, and print its caption")
    figure.add_argument("name", nargs="?", metavar="NAME", help="such as fig2 (default: list the figures)")
    _add_results(figure, "such as results/update_size")
    figure.add_argument("--output", type=Path, metavar="FILE", help="write only this file: .png, .svg or .pdf")
    figure.set_defaults(command=_figure)


def _figure(chosen: argparse.Namespace) -> int:
    from s3bench.report.one_curve import check_figure_file
    from s3bench.report.write import figure_names, write_figures

    if chosen.name is None:
        say(*figure_names(chosen.results))
        return 0
    if chosen.output is not None:
        check_figure_file("--output", chosen.output)
    for caption, files in write_figures(chosen.results, chosen.name, chosen.output).items():
        say(*(f"wrote {file}" for file in files), *caption.split("\n"))
    return 0


def _add_spikes(commands: Commands) -> None:
    add_options(commands.add_parser("spikes", help="find spikes in any loss curve: CSV, JSON, console, wandb, ..."))


def _add_calibrate(commands: Commands) -> None:
    calibrate = commands.add_parser(
        "calibrate", help="estimate the detector's parameters for a task from runs at low learning rates"
    )
    _add_results(calibrate, "a results folder with runs at lr_multiplier up to 0.3")
    calibrate.set_defaults(command=_calibrate)


def _calibrate(chosen: argparse.Namespace) -> int:
    from s3bench.report.analysis.calibrate import calibrate_tasks

    for task, found in calibrate_tasks(chosen.results).items():
        say(f"{task}: {found.runs} runs, {found.steps:,} steps; the threshold is {found.threshold:.3g} on average")
        line = f"{{k: {found.k:g}, delta: {found.delta:g}, ceiling: {found.ceiling:g}}}"
        say(f"spikes: {line} # {found.spikes} in {found.steps:,} calm steps")
    return 0


def _add_tune(commands: Commands) -> None:
    tune = commands.add_parser(
        "tune", help="measure a task's base learning rate, targets and detector parameters, and write them to its YAML"
    )
    task = tune.add_argument("task", metavar="TASK", help="such as source_gpt")
    completion.complete_with(task, completion.tasks)
    _add_overrides(tune, "where the runs train: device=cuda data_dir=DIR")
    _add_jobs(tune)
    tune.set_defaults(command=_tune)


def _tune(chosen: argparse.Namespace) -> int:
    from s3bench.tune import tune

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as for a sweep
    say(f"wrote {tune(chosen.task, [*chosen.overrides, *_jobs(chosen)])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
