"""Runs: a study's rows and seeds as resolved recipes, each with a folder that caches it."""

import functools
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..common.errors import RecipeError, UnknownKeyError
from ..common.files import read_json, read_json_lines
from ..reading import sections
from ..reading.checks import check_part
from ..reading.nodes import plain, walk
from ..reading.read import read_recipe
from ..reading.recipe import Recipe
from .changes import Change, change_of, sets
from .inputs import digest_of, folders_of, named_files, own_modules
from .results import run_label
from .study import Row, Study

logger = logging.getLogger("mixacm")

TOLD = "progress.txt"  # what a run's process tells of its training or attack, meanwhile


@dataclass(frozen=True)
class Run:
    """A row and a seed: its resolved recipe and the folder that caches its results.

    Args:
        row: of the study.
        seed: of the training; ``None`` where a teacher is only measured.
        recipe: with all changes, and checkpoints in the folder.
        key: hash of what the result depends on.
        folder: of the run.
        changes: the row's, and those for all rows.
    """

    row: Row
    seed: int | None
    recipe: Recipe
    key: str
    folder: Path
    changes: list[Change]

    @property
    def label(self) -> str:
        """The row's name, with the seed where there is one."""
        return run_label(self.row.name, self.seed)

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """What ``metrics.jsonl`` has of each epoch that is trained so far."""
        return read_json_lines(self.folder / "metrics.jsonl")

    @property
    def result(self) -> dict[str, Any]:
        """What has been measured so far; empty before the training is finished."""
        return read_json(self.folder / "result.json") or {}

    @property
    def told(self) -> str:
        """How far the run's process says that its training or attack is; nothing without one."""
        try:
            return (self.folder / TOLD).read_text(encoding="utf-8")
        except OSError:
            return ""


def epochs_of(recipe: Recipe) -> int:
    """Return how many epochs a recipe trains, in all of its stages."""
    return sections.num_epochs(plain(recipe.root))


def resolve(
    study: Study, cache: Path, overrides: list[str] | None = None, tasks: int = 1
) -> list[Run]:
    """Resolve every row and seed into a run.

    A run's key is a hash of the resolved recipe, its seed, the files it names, the package's
    version, and of how many batches a step is: equal runs share their folder, within a study and
    between studies.

    Args:
        study: from ``read_study``.
        cache: folder that holds the runs' folders.
        overrides: as ``--set`` takes them, after the study's own, for all rows that have the key
            path, as one of the teacher in a study that also has rows without one; the others are
            logged.
        tasks: that share a run. Each takes the recipe's batch, unless it has a block ``batch``.

    Raises:
        RecipeError: if a row's recipe can't be read, or an override doesn't fit it, or any row.
    """
    runs: list[Run] = []
    digest = functools.cache(digest_of)  # the rows share their teacher
    unknown: dict[str, list[RecipeError]] = {override: [] for override in overrides or ()}
    for row in study.rows:
        try:
            recipe, changes = _changed(row, unknown, len(study.rows))
            models = recipe.build("models")
            check_part(recipe, {"models": models})
        except RecipeError as problem:
            raise study.error(f"row {row.name!r}", str(problem)) from problem
        flags = sets(changes)
        roles = sections.model_sections({"models": models})
        if row.measure not in roles and not (row.measure == "ema" and "ema" in plain(recipe.root)):
            raise study.error(f"row {row.name!r}", f"measure: no {row.measure} in {row.base}")
        own = _own_checkpoints(recipe, roles["student"])
        neutral = read_recipe(row.base, [*flags, *(f"{path}={name}" for path, name in own.items())])
        teacher = sections.get(models, "teacher_model.src_ckpt")
        read = [*named_files(neutral, own), *own_modules(neutral), *folders_of(neutral)]
        files = [digest(teacher), *map(digest, read)]
        seeds = [None] if row.measure == "teacher" else study.seeds
        for seed in seeds:
            measured = [row.measure if seed is None else str(seed)]
            measured += ["ema"] if row.measure == "ema" else []
            if tasks > 1 and seed is not None and "batch" not in plain(neutral.root):
                measured.append(f"{tasks} tasks")
            key = _digest(neutral.text(), *measured, *files, version("mixacm-plugin"))
            folder = cache / key
            moved = [
                f"{path}={json.dumps((folder / name).as_posix())}" for path, name in own.items()
            ]
            resolved = read_recipe(row.base, [*flags, *moved])
            runs.append(Run(row, seed, resolved, key, folder, changes))
    return runs


def _changed(
    row: Row, unknown: Mapping[str, list[RecipeError]], rows: int
) -> tuple[Recipe, list[Change]]:
    """Return a row's recipe and changes, with the overrides for all rows that fit it."""
    changes = list(row.changes)
    recipe = read_recipe(row.base, sets(changes))
    missing = []
    for override, problems in unknown.items():
        change = change_of(override)
        try:
            recipe = read_recipe(row.base, sets([*changes, change]))
            changes.append(change)
        except UnknownKeyError as problem:
            missing.append(override)
            problems.append(problem)
            if len(problems) == rows:
                raise
    if missing:
        logger.info(f"{row.name}: without {', '.join(missing)}, which it has no key for")
    return recipe, changes


def _own_checkpoints(recipe: Recipe, student: str) -> dict[str, str]:
    """Key paths of the checkpoints that a run writes, and reads in a later stage, by name.

    In a run's own folder, another row or seed can't overwrite them.
    """
    checkpoints = {
        path: node.value
        for path, node in walk(recipe.root)
        if path.endswith((".dst_ckpt", ".src_ckpt")) and node.tag == "tag:yaml.org,2002:str"
    }
    names = {f"{student}.dst_ckpt": "student.pt"}
    files = {checkpoints.get(f"{student}.dst_ckpt"): "student.pt"}
    for path, file in checkpoints.items():
        if path.startswith("train.") and path.endswith(".dst_ckpt"):
            name = path.removeprefix("train.").removesuffix(".dst_ckpt").replace(".", "_")
            names[path] = files.setdefault(file, f"stage_{name}.pt")
    reads = {path for path in checkpoints if path.startswith("train.")} - set(names)
    return {**names, **{p: files[checkpoints[p]] for p in reads if checkpoints[p] in files}}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def is_measured(result: Mapping[str, Any], keys: Iterable[str], sanity: str | None) -> bool:
    """Whether a trained run has the measurements of these keys, and the sanity lines of one."""
    measured = set(keys) <= set(result.get("accuracies", {}))
    return measured and (sanity is None or sanity in result.get("sanity", {}))
