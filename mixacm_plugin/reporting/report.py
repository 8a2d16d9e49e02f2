"""A study as one HTML page that needs nothing else: tables, pictures, settings, commands."""

import base64
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2

from ..common.files import replacing
from ..studies.changes import override_files, overrides, recipe_arguments
from ..studies.results import Results, RowResult, read_results
from .plots.study import draw_all
from .summary import Column, by_setting, summarise
from .tables import NOTHING, lay_out

TEMPLATE = "report.html.j2"


def write_report(
    folder: str | os.PathLike[str], file: str | os.PathLike[str] | None = None
) -> Path:
    """Write a study's page; pictures that are missing are drawn first.

    Args:
        folder: of the study, with its ``results.json``.
        file: to write; by default ``report.html`` in the folder.

    Returns:
        The file.

    Raises:
        RecipeError: if the folder has no results of a study.
    """
    folder = Path(folder)
    results = read_results(folder)
    pictures = [
        (plot.title or plot.words(), stem.with_name(f"{stem.name}.svg").read_bytes())
        for plot, stem in draw_all(results, folder, missing_only=True)
    ]
    file = folder / "report.html" if file is None else Path(file)
    text = page(results, pictures)
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file


def page(results: Results, pictures: Sequence[tuple[str, bytes]]) -> str:
    """Lay out a study's page.

    Args:
        results: of the study.
        pictures: what each shows, and its SVG.
    """
    summary = summarise(results)
    columns = summary.columns
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    titles = [column.title for column in columns]
    return environment.get_template(TEMPLATE).render(
        results=results,
        table=lay_out(summary),
        failures=list(_failures(results)),
        # Images of their own: inlined, the ids of several SVGs would collide.
        pictures=[(words, base64.b64encode(svg).decode()) for words, svg in pictures],
        settings=[line for row in results.rows for line in _settings(row)],
        run_heads=("row", "seed", "state", *titles, "training", "parameters", "recipe hash"),
        runs=[line for row in results.rows for line in _runs(row, columns)],
        sanity=[line for row in results.rows for line in _sanity(row)],
        commands=[(row.name, _commands(row, columns)) for row in results.rows],
        versions=", ".join(f"{name} {version}" for name, version in results.packages.items()),
    )


def _failures(results: Results) -> Iterator[tuple[str, str]]:
    for row in results.rows:
        for run in row.runs:
            if run.status == "failed":
                yield f"{row.name}, seed {run.seed}", run.error or "no message"


def _settings(row: RowResult) -> list[tuple[str, str, str]]:
    given = [(file, "override file") for file in override_files(row.changes)]
    given += [(key, _setting(value)) for key, value in overrides(row.changes).items()]
    names = [row.name] + [""] * len(given)
    given = given or [("as the base recipe", "")]
    return [(name, *setting) for name, setting in zip(names, given, strict=False)]


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _runs(row: RowResult, columns: Sequence[Column]) -> Iterator[tuple[str, ...]]:
    for run in row.runs:
        found = by_setting(run)
        accuracies = [found.get((column.attack, column.n, column.seed)) for column in columns]
        seconds = run.train_seconds
        yield (
            row.name,
            NOTHING if run.seed is None else str(run.seed),
            run.status,
            *(NOTHING if a is None else f"{100 * a.value:.1f} %" for a in accuracies),
            NOTHING if seconds is None else f"{seconds:.0f} s",
            f"{row.parameters:,}" if row.parameters else NOTHING,
            run.recipe_hash,
        )


def _sanity(row: RowResult) -> Iterator[tuple[str, ...]]:
    for run in row.runs:
        seed = NOTHING if run.seed is None else str(run.seed)
        for line in run.sanity:
            yield row.name, seed, line.name, line.figures, "yes" if line.holds else "no"


def _commands(row: RowResult, columns: Sequence[Column]) -> list[str]:
    """Return the commands that train a row's students, and those that measure the last one."""
    commands = []
    if row.measure == "student":
        commands = [shlex.join(row.training_command(run)) for run in row.runs]
    for column in columns:
        arguments = recipe_arguments(row.base, row.changes)
        role = [] if row.measure == "student" else ["--model", row.measure]
        commands.append(
            shlex.join(["mixacm", "evaluate", *arguments, *role, *_attack_flags(column)])
        )
    return commands


def _attack_flags(column: Column) -> list[str]:
    settings = column.attack.settings()
    flags = ["--attack", settings.pop("name")]
    for name, value in settings.items():
        flags += [f"--{name.replace('_', '-')}", str(value)]
    return [*flags, "--n", str(column.n), "--seed", str(column.seed)]
