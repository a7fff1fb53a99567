"""Writes a report: tables, figures, verdicts and the page, from the records of a results folder."""

import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from s3bench.errors import UserError, unknown
from s3bench.report.analysis.results import Results, read_results
from s3bench.report.analysis.results_folder import MANY
from s3bench.report.analysis.tables import make_tables
from s3bench.report.claims import text
from s3bench.report.claims.judge import judge
from s3bench.report.draft import draft_of
from s3bench.report.figures import style
from s3bench.report.figures.available import drawings
from s3bench.report.figures.captions import NEEDS, Drawing
from s3bench.report.figures.verdicts import verdict_drawings
from s3bench.report.formatting import format_table, markdown
from s3bench.report.page import page


def write_report(results_dir: str | Path, results: Results | None = None, output: Path | None = None) -> Path:
    """Write a report and return its index.html.

    Args:
        results_dir: the results folder.
        results: what the folder holds, if that is known.
        output: the report's folder, a new one or that of a report; None for <results_dir>/report.

    Raises:
        UserError: no records, a damaged one, or records of one task that were not held to the same targets and
            detector parameters or had other data; or `output` is something else.
    """
    report = Path(results_dir) / "report" if output is None else output.resolve()
    if output is not None and report.exists() and not (report / "claims.json").is_file():
        raise UserError(f"--output {output} is there, and not a report: name a new folder")
    results = results or read_results(results_dir)
    verdicts = judge(Path(results_dir), results)
    tables, drawn = make_tables(results), drawings(results) | verdict_drawings(verdicts, results)
    try:
        with draft_of(report) as draft:
            saved = _save(drawn, _folder(draft / "figures"), apart=len(results.runs) >= MANY)
            images = {name: (drawing.caption, saved[name]) for name, drawing in drawn.items()}
            for name, table in tables.items():
                if not len(table.columns):
                    continue  # of no runs, such as all but those of ramps where there is nothing else
                table.to_csv(_folder(draft / "tables") / f"{name}.csv", index=False)
                (draft / "tables" / f"{name}.md").write_text(markdown(format_table(name, table)), encoding="utf-8")
            (draft / "claims.json").write_text(text.as_json(verdicts), encoding="utf-8")
            (draft / "claims.md").write_text(text.as_markdown(verdicts), encoding="utf-8")
            html = page(_shown(results_dir), results, tables, images, [one.as_dict() for one in verdicts])
            (draft / "index.html").write_text(html, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{report} cannot be written: {error.strerror}") from error
    return report / "index.html"


def _shown(place: str | Path) -> str:
    """Return a path as text, without bytes that are not text."""
    return str(place).encode(errors="replace").decode()


def _folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _save(drawn: Mapping[str, Drawing], folder: Path, *, apart: bool = False) -> dict[str, list[Path]]:
    """Draw and write figures, beginning with the last, which are the largest.

    `apart`: draw in one process per core.
    """
    jobs = [(drawing, folder / name) for name, drawing in reversed(list(drawn.items()))]
    if not apart:
        return {file.name: _save_one((drawing, file)) for drawing, file in jobs}
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip([file.name for _, file in jobs], pool.map(_save_one, jobs), strict=True))


def _save_one(job: tuple[Drawing, Path]) -> list[Path]:
    return style.save(job[0].draw(), job[1])


def _allowed(results_dir: str | Path) -> dict[str, Drawing]:
    results = read_results(results_dir)
    return drawings(results) | verdict_drawings(judge(Path(results_dir), results), results)


def figure_names(results_dir: str | Path) -> list[str]:
    """Return the names of the figures that these records allow.

    Raises UserError as `write_report` does, and if they allow none.
    """
    names = list(_allowed(results_dir))
    if not names:
        raise UserError(f"no run in {results_dir} has a result: there is nothing to draw")
    return names


def write_figures(results_dir: str | Path, name: str, output: Path | None = None) -> dict[str, list[Path]]:
    """Draw the figure of this name, or else one for each task if it has one per task; return files by caption.

    Each is written as SVG, PNG and PDF to <results_dir>/report/figures, or to `output` in the format of its suffix.
    Raises UserError for an unknown figure, for one that the records do not allow, and as `write_report` does.
    """
    if not any(name == known or name.startswith(f"{known}_") for known in NEEDS):
        raise unknown("figure", name, NEEDS)
    allowed = _allowed(results_dir)
    of_tasks = [key for key in allowed if key.startswith(f"{name}_") and key not in NEEDS]
    drawn = {key: allowed[key] for key in ([name] if name in allowed else of_tasks)}
    if not drawn and name in NEEDS:
        raise UserError(f"these records lack what {name} needs: {NEEDS[name]}")
    if not drawn:
        raise unknown("figure", name, allowed)
    if output is not None and len(drawn) > 1:
        raise UserError(f"{output} is one file, and {name} is several figures: {', '.join(drawn)}")
    folder = Path(results_dir) / "report" / "figures"
    try:
        if output is not None:
            (drawing,) = drawn.values()
            style.save_as(drawing.draw(), output)
            return {drawing.caption: [output]}
        saved = _save(drawn, _folder(folder))
        return {made.caption: saved[key] for key, made in drawn.items()}
    except OSError as error:
        raise UserError(f"{output or folder} cannot be written: {error.strerror}") from error
