"""A study's results.json: what it holds, checked when it is read."""

import json
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ..common.errors import RecipeError, raise_all
from ..common.files import write_json
from ..common.validation import Spec, validated
from ..evaluation.accuracy import Accuracy
from ..evaluation.attacks import Clean, attack_of
from .changes import recipe_arguments
from .spec import ReferenceSpec

MOST = 2**53  # images; more have no exact share
FORMAT: Literal[2] = 2  # 1 kept the training command as a shell string


class AccuracyResult(Spec):
    """One measurement, as ``Accuracy.to_json`` writes it."""

    attack: dict[str, Any]
    correct: int
    clean_correct: int
    n: int
    seed: int
    batch_size: int | None = None
    accuracy: float
    clean_accuracy: float
    interval_95: list[float]
    warnings: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _counts(self) -> "AccuracyResult":
        if not 0 <= self.correct <= self.clean_correct <= self.n <= MOST or self.n == 0:
            raise ValueError(
                "expected correct, clean_correct and n in this order from 0 up, n at least 1; "
                f"found {self.correct}, {self.clean_correct}, {self.n}"
            )
        return self

    def figure(self) -> Accuracy:
        """Return it as the evaluation gave it.

        Raises:
            ValueError: on an unknown attack or setting.
        """
        attack = attack_of(self.attack)
        return Accuracy(
            self.correct,
            self.clean_correct,
            self.n,
            attack,
            self.seed,
            self.batch_size,
            tuple(self.warnings),
        )


class SanityResult(Spec):
    """One thing that should hold of an evaluation, as ``SanityLine.to_json`` writes it."""

    name: str
    holds: bool
    figures: str


class RunResult(Spec):
    """One seed of a row; without a seed, a teacher that was only measured."""

    seed: int | None
    status: Literal["done", "failed", "not run"]
    error: str | None = None
    train_seconds: float | None = None
    recipe_hash: str
    checkpoint: str | None = None  # of the student, or the moving average, that was measured
    test_images: str | None = None  # their digest
    accuracies: list[AccuracyResult]
    sanity: list[SanityResult] = Field(default_factory=list)

    def figures(self) -> list[Accuracy]:
        """Return its accuracies, the clean one among them."""
        found = [accuracy.figure() for accuracy in self.accuracies]
        if found and not any(isinstance(a.attack, Clean) for a in found):
            first = found[0]
            correct = first.clean_correct
            found.insert(0, Accuracy(correct, correct, first.n, Clean(), first.seed))
        return found


class RowResult(Spec):
    """A row: what it changes of which recipe, and its runs."""

    name: str
    base: str
    changes: list[str | dict[str, Any]]
    measure: Literal["student", "ema", "teacher"] = "student"
    reference: list[float] | None = None
    parameters: int | None = None
    relative_cost: float | None = None
    size_ratio: float | None = None
    runs: list[RunResult]

    def training_command(self, run: RunResult) -> list[str]:
        """Return the command that trains the same student."""
        seed = [] if run.seed is None else ["--seed", str(run.seed)]
        return ["torchdistill", *recipe_arguments(self.base, self.changes), *seed]


class Results(Spec):
    """All figures of a study with their settings."""

    format: Literal[2] = FORMAT
    study: str
    title: str
    scale: str | None = None
    packages: dict[str, str]
    reference: ReferenceSpec | None = None
    plots: list[Any]
    rows: list[RowResult]


def run_label(row: str, seed: int | None) -> str:
    """Name a run by its row and its seed; a teacher that is only measured has none."""
    return row if seed is None else f"{row}, seed {seed}"


def read_results(folder: str | os.PathLike[str]) -> Results:
    """Read ``results.json`` from a study's folder.

    Raises:
        RecipeError: if it is missing, isn't JSON or isn't a study's; every mistake at once.
    """
    path = Path(folder) / "results.json"
    error = partial(RecipeError, path)
    content = _json_in(path)
    if not isinstance(content, dict) or not {"title", "rows"} <= set(content):
        raise error("", "not a study's results: expected title and rows")
    if content.get("format") != FORMAT:
        reason = "of an older version of this package; run the study again"
        raise error("format", reason)
    results = validated(Results, content, error)
    raise_all([error(*mistake) for mistake in _mistakes(results)])
    return results


def _json_in(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()  # JSON can hold halves of characters
    except OSError as error:
        reason = f"can't read it: {error.strerror}; expected the folder that mixacm study wrote"
        raise RecipeError(path, "", reason) from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(path, "", f"not JSON: {error}") from error
    return content


def _mistakes(results: Results) -> Iterator[tuple[str, str]]:
    """Yield what is wrong across keys: key path and message."""
    columns = results.reference.columns if results.reference else []
    rows = [row.name for row in results.rows]
    for row_index, row in enumerate(results.rows):
        if row.name in rows[:row_index]:
            yield f"rows.{row_index}.name", f"{row.name!r} is given twice"
        seeds = [run.seed for run in row.runs]
        if row.reference is not None and len(row.reference) != len(columns):
            names = ", ".join(columns) or "nothing: there is no reference"
            where = f"rows.{row_index}.reference"
            yield where, f"expected a number for each of {names}; found {row.reference}"
        for run_index, run in enumerate(row.runs):
            if run.seed in seeds[:run_index]:  # it would count as another run in means and ±
                yield f"rows.{row_index}.runs.{run_index}.seed", f"{run.seed} is given twice"
            for index, accuracy in enumerate(run.accuracies):
                try:
                    accuracy.figure()
                except ValueError as error:
                    where = f"rows.{row_index}.runs.{run_index}.accuracies.{index}.attack"
                    yield where, str(error)


def write_results(results: Results, folder: str | os.PathLike[str]) -> None:
    """Write ``results.json`` into a study's folder."""
    write_json(Path(folder) / "results.json", results.model_dump())


def name_matches(name: str, pattern: str) -> bool:
    """Whether a row's name is the pattern, or like it: ``* MixACM``."""
    return name == pattern or fnmatchcase(name, pattern)
