"""A study's page: figures, pictures, courses of training, and what stands behind each row."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ..common.errors import RecipeError
from ..studies.results import Results, RowResult, run_label
from .courses import Course, courses_of
from .highlights import highlights, names
from .html import inline, render
from .plots.style import COLOURS
from .plots.training import draw_training
from .row_details import row_details
from .summary import Column, Summary, by_setting, summarise
from .tables import NOTHING, lay_out, percent_interval


def study_page(
    results: Results, pictures: Sequence[tuple[str, bytes]], folder: str | os.PathLike[str] = "."
) -> str:
    """Lay out a study's page.

    Args:
        results: of the study.
        pictures: what each shows, and its SVG.
        folder: of the study, from which its runs are found.
    """
    summary = summarise(results)
    columns, folder = summary.columns, Path(folder)
    courses, note = _courses(results, folder)
    scale = f", scale {results.scale}" if results.scale else ""
    titles = [column.title for column in columns]
    return render(
        "study.html.j2",
        title=results.title,
        subtitle=f"Study {results.study}{scale}",
        facts=highlights(results, summary),
        results_table=lay_out(summary),
        spread=_spread(summary),
        failures=list(_failures(results)),
        pictures=[(words, inline(svg)) for words, svg in pictures],
        training=list(_training(courses)),
        training_note=note,
        rows=[row_details(row, columns, folder) for row in results.rows],
        run_heads=("row", "seed", "state", *titles, "training", "parameters", "recipe hash"),
        runs=[line for row in results.rows for line in _runs(row, columns)],
        sanity=[line for row in results.rows for line in _sanity(row)],
        versions=", ".join(f"{name} {version}" for name, version in results.packages.items()),
    )


def _spread(summary: Summary) -> str:
    """Say what ± is and what it isn't, and what the intervals are."""
    said = []
    if summary.several_seeds:
        said.append("± is the spread over training seeds, not an interval for the mean.")
    if summary.mixed_seeds or not summary.several_seeds:
        said.append("Small figures: 95 % interval (Wilson) of a single model over test images.")
    return " ".join(said)


def _courses(results: Results, folder: Path) -> tuple[list[Course], str]:
    """Return the courses of training that are there, and which ones aren't."""
    courses: list[Course] = []
    missing = []
    for row in results.rows:
        try:
            courses += courses_of([row], folder)
        except RecipeError:
            missing.append(row.name)
    note = f"Without {names(missing)}, whose runs' metrics.jsonl aren't there." if missing else ""
    return courses, note


def _training(courses: Sequence[Course]) -> Iterator[tuple[str, str]]:
    """Yield pictures of training: some rows each, so that their lines can be told apart."""
    rows = iter(dict.fromkeys(course.name for course in courses))
    while some := list(islice(rows, len(COLOURS))):
        drawn = draw_training([course for course in courses if course.name in some])
        yield f"{names(some)}: a line for each seed", inline(drawn)


def _failures(results: Results) -> Iterator[tuple[str, str]]:
    for row in results.rows:
        for run in row.runs:
            if run.status == "failed":
                yield run_label(row.name, run.seed), run.error or "no message"


def _runs(row: RowResult, columns: Sequence[Column]) -> Iterator[tuple[str, ...]]:
    for run in row.runs:
        found = by_setting(run)
        accuracies = [found.get((column.attack, column.n, column.seed)) for column in columns]
        seconds = run.train_seconds
        yield (
            row.name,
            NOTHING if run.seed is None else str(run.seed),
            run.status,
            *(
                NOTHING
                if a is None
                else f"{100 * a.value:.1f} % ({percent_interval(a.interval())})"
                for a in accuracies
            ),
            NOTHING if seconds is None else f"{seconds:.0f} s",
            f"{row.parameters:,}" if row.parameters else NOTHING,
            run.recipe_hash,
        )


def _sanity(row: RowResult) -> Iterator[tuple[str, ...]]:
    for run in row.runs:
        seed = NOTHING if run.seed is None else str(run.seed)
        for line in run.sanity:
            yield row.name, seed, line.name, line.figures, "yes" if line.holds else "no"
