"""Courses of training: what runs wrote of each epoch, and where a study's runs lie."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.errors import RecipeError, UserError
from ..common.files import read_json_lines
from ..studies.results import RowResult, RunResult, read_results, run_label

Metrics = list[dict[str, Any]]  # of each epoch, as in metrics.jsonl
FILE = "metrics.jsonl"
KEYS = ("epoch", "loss", "terms", "lr", "val_accuracy")
ACCURACY = "val_accuracy"  # ends the key of each accuracy on validation images


@dataclass(frozen=True)
class Course:
    """A run's course of training.

    Args:
        name: of what was trained; runs of one name differ in their seed.
        metrics: an entry an epoch.
        seed: where the name isn't the run's alone.
    """

    name: str
    metrics: Metrics
    seed: int | None = None

    @property
    def label(self) -> str:
        """The name, with the seed where there is one."""
        return run_label(self.name, self.seed)


def read_metrics(run: str | os.PathLike[str]) -> Metrics:
    """Read a run's metrics, an entry an epoch, with every kind of validation accuracy in it.

    Of an epoch that was trained twice, after resuming from an older checkpoint, the later one
    counts; a last line that was cut off by a kill is left out.

    Args:
        run: the folder of the student's checkpoint, or the ``metrics.jsonl`` in it.

    Raises:
        RecipeError: if it can't be read or isn't what ``torchdistill`` writes.
    """
    path = Path(run)
    path = path / FILE if path.is_dir() else path
    if not path.exists():
        raise RecipeError(path, "", "no such file; expected the folder of a student's dst_ckpt")
    try:
        epochs = {line["epoch"]: _epoch(line) for line in read_json_lines(path)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"not a run's metrics: {type(error).__name__}: {error}"
        raise RecipeError(path, "", message) from error
    if not epochs:
        raise RecipeError(path, "", "no epoch has been finished")
    return [epochs[epoch] for epoch in sorted(epochs)]


def _epoch(line: dict[str, Any]) -> dict[str, Any]:
    """Return what is shown of an epoch; of accuracies that aren't measured each time, if it was."""
    epoch = {key: line[key] for key in KEYS}
    epoch |= {key: line[key] for key in accuracy_keys([line]) if line[key] is not None}
    seconds = line.get("seconds")
    numbers = [value for key, value in epoch.items() if key != "terms"]
    for value in (*numbers, *epoch["terms"].values(), *([] if seconds is None else [seconds])):
        if not isinstance(value, int | float):
            raise TypeError(f"expected a number; found {value!r}")
    return {**epoch, "seconds": seconds}


def accuracy_keys(metrics: Metrics) -> list[str]:
    """Keys of accuracies on validation images: ``val_accuracy``, and such as ``robust_…``."""
    keys = dict.fromkeys(key for epoch in metrics for key in epoch)
    return [key for key in keys if key.endswith(ACCURACY) and not key.startswith("best_")]


def accuracy_words(key: str) -> str:
    """Name an accuracy on validation images in words: ``robust validation accuracy``."""
    averaged = "moving average: " if key.startswith("ema_") else ""
    words = key.removeprefix("ema_").replace(ACCURACY, "validation accuracy").replace("_", " ")
    return averaged + words


def read_courses(texts: Sequence[str]) -> list[Course]:
    """Read the courses of runs, and of all finished runs in studies' folders.

    Args:
        texts: ``RUN`` or ``NAME=RUN``; a run as ``read_metrics`` takes it, or a folder that
            ``mixacm study`` wrote.

    Raises:
        RecipeError: if one can't be read.
        UserError: if two have the same name.
    """
    named = [_split(text) for text in texts]
    unnamed = [path for name, path in named if not name]
    short = dict(zip(unnamed, _short_names(unnamed), strict=True))
    courses: list[Course] = []
    for name, path in named:
        if (Path(path) / "results.json").is_file():
            found = list(courses_of(read_results(path).rows, path))
            if not found:
                raise RecipeError(path, "", "no run has been trained to its end")
            for course in found:
                row = f"{name}: {course.name}" if name else course.name
                courses.append(Course(row, course.metrics, course.seed))
        else:
            courses.append(Course(name or short[path], read_metrics(path)))
    labels = [course.label for course in courses]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"two runs are named {label!r}; name them apart: NAME=RUN")
    return courses


def courses_of(rows: Iterable[RowResult], folder: str | os.PathLike[str]) -> Iterator[Course]:
    """Yield the courses of the finished runs in rows of a study.

    Raises:
        RecipeError: if one can't be read.
    """
    for row in rows:
        for run in row.runs:
            if run.status == "done" and run.checkpoint is not None:
                yield Course(row.name, read_metrics(run_folder(run, folder)), run.seed)


def run_folder(run: RunResult, folder: str | os.PathLike[str]) -> Path:
    """Where a study's run lies: as ``results.json`` says, or there if the study was moved.

    Args:
        run: of the study, with a checkpoint.
        folder: of the study.
    """
    named = Path(run.checkpoint or "").parent
    moved = [Path(folder) / named, Path(folder) / "runs" / named.name]
    return next((place for place in (named, *moved) if place.is_dir()), named)


def _split(text: str) -> tuple[str, str]:
    """Return name and path of a run; either may itself contain an equals sign."""
    parts = text.split("=")
    splits = [("=".join(parts[:n]), "=".join(parts[n:])) for n in range(len(parts))]
    there = [(name, path) for name, path in splits if Path(path).exists()]
    return (there or splits[1:] or splits)[0]


def _short_names(runs: Sequence[str]) -> list[str]:
    """Short names that tell runs apart: their folders, without what they have in common."""
    folders = [Path(run).parent if Path(run).is_file() else Path(run) for run in runs]
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < 2:
        return [folder.name for folder in resolved]
    common = Path(os.path.commonpath(resolved))
    names = [folder.relative_to(common).as_posix() for folder in resolved]
    return [name if name != "." else common.name for name in names]
