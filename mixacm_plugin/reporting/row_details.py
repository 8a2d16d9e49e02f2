"""What stands behind a row of a study: base recipe, changes, override files, recipe, commands."""

import json
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.errors import RecipeError
from ..studies.changes import override_files, overrides, recipe_arguments
from ..studies.recipes import override_texts, resolved_text, student_path
from ..studies.results import RowResult, RunResult
from .courses import run_folder
from .summary import Column

AGAIN = "runs/reproduced"  # folder of what the commands train


@dataclass(frozen=True)
class RowDetails:
    """What stands behind a row.

    Args:
        name: of the row.
        base: the recipe that it changes.
        settings: key paths, or words for an override file, and their values.
        files: name and content of each override file that can be read.
        commands: for each seed, what trains and measures the student again.
        recipe: the resolved one.
        origin: where the resolved recipe is from; why there is none.
    """

    name: str
    base: str
    settings: list[tuple[str, str]]
    files: list[tuple[str, str]]
    commands: list[list[str]]
    recipe: str
    origin: str

    @property
    def words(self) -> str:
        """The base recipe and the changes, as far as they fit into a line."""
        changes = [f"{key.rpartition('.')[2]} {value}" for key, value in self.settings]
        return textwrap.shorten("; ".join([self.base, *changes]), 70, placeholder=" …")


def row_details(row: RowResult, columns: Sequence[Column], folder: Path) -> RowDetails:
    """Gather what stands behind a row.

    Args:
        row: of the study.
        columns: what was measured.
        folder: of the study.
    """
    files = override_files(row.changes)
    settings = [("override file", file) for file in files]
    settings += [(key, _setting(value)) for key, value in overrides(row.changes).items()]
    recipe, origin = _recipe(row, folder)
    student = student_path(recipe)
    return RowDetails(
        name=row.name,
        base=row.base,
        settings=settings,
        files=override_texts(files),
        commands=[list(_commands(row, run, columns, student)) for run in row.runs],
        recipe=recipe,
        origin=origin,
    )


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _recipe(row: RowResult, folder: Path) -> tuple[str, str]:
    """Return a row's resolved recipe, and where it is from or why there is none."""
    for run in row.runs:
        file = run_folder(run, folder) / "recipe.yaml" if run.checkpoint else None
        if file is not None and file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            return text, f"as the run with seed {run.seed} had it, {file}"
    try:
        text = resolved_text(row.base, row.changes)
    except RecipeError as error:
        return "", f"The recipe can't be resolved here: {error}"
    return text, "of the base recipe and the changes as they are now"


def _commands(
    row: RowResult, run: RunResult, columns: Sequence[Column], student: str
) -> Iterator[str]:
    """Yield the commands that train a run's student again, in a folder of its own, and measure."""
    own = ["--model", row.measure]
    if row.measure != "teacher":
        folder = f"{AGAIN}/{run.recipe_hash}"
        own = ["--set", f"{student}.dst_ckpt={folder}/student.pt"] if student else []
        yield shlex.join([*row.training_command(run), *own])
        own += ["--ckpt", f"{folder}/ema_student.pt"] if student and row.measure == "ema" else []
    arguments = [*recipe_arguments(row.base, row.changes), *own]
    for column in columns:
        yield shlex.join(["mixacm", "evaluate", *arguments, *_attack_flags(column)])


def _attack_flags(column: Column) -> list[str]:
    settings = column.attack.settings()
    flags = ["--attack", settings.pop("name")]
    for name, value in settings.items():
        flags += [f"--{name.replace('_', '-')}", str(value)]
    return [*flags, "--n", str(column.n), "--seed", str(column.seed)]
