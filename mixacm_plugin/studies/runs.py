"""Runs: a study's rows and seeds as resolved recipes, each with a folder that caches it."""

import hashlib
import json
import logging
import os
import shlex
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from .. import sections
from ..nodes import walk
from ..recipe import Recipe, RecipeError, UnknownKeyError, read_recipe
from ..value_kinds import RECIPE_KINDS, check_kinds
from .study import Row, Study

logger = logging.getLogger("mixacm")


@dataclass(frozen=True)
class Run:
    """A row and a seed: its resolved recipe and the folder that caches its results."""

    row: Row
    seed: int
    recipe: Recipe
    key: str
    folder: Path
    overrides: list[str]

    @property
    def command(self) -> str:
        """The command that trains the same student."""
        sets = [part for override in self.overrides for part in ("--set", override)]
        return shlex.join(
            ["torchdistill", "--config", self.recipe.path, *sets, "--seed", str(self.seed)]
        )

    @property
    def result(self) -> dict[str, Any]:
        """What has been measured so far; empty before the training is finished."""
        file = self.folder / "result.json"
        return json.loads(file.read_text()) if file.exists() else {}


def resolve(study: Study, cache: Path, overrides: list[str] | None = None) -> list[Run]:
    """Resolve every row and seed into a run.

    A run's key is a hash of the resolved recipe, its seed, the files it names and the package's
    version: equal runs share their folder, within a study and between studies.

    Args:
        study: from ``read_study``.
        cache: folder that holds the runs' folders.
        overrides: as ``--set`` takes them, after the study's own, for all rows that have the key
            path, as one of the teacher in a study that also has rows without one; the others are
            logged.

    Raises:
        RecipeError: if a row's recipe can't be read, or an override doesn't fit it, or any row.
    """
    runs: list[Run] = []
    unknown: dict[str, list[RecipeError]] = {override: [] for override in overrides or ()}
    for row in study.rows:
        sets = row.sets
        try:
            read_recipe(row.base, sets)
            for override, problems in unknown.items():
                try:
                    read_recipe(row.base, [*sets, override])
                    sets.append(override)
                except UnknownKeyError as problem:
                    problems.append(problem)
                    if len(problems) == len(study.rows):
                        raise
            recipe = read_recipe(row.base, sets)
            models = recipe.build("models")
            check_kinds(recipe, {"models": models}, "", RECIPE_KINDS)
        except RecipeError as problem:
            raise RecipeError(study.path, f"row {row.name!r}", str(problem)) from problem
        missing = [override for override in unknown if override not in sets]
        if missing:
            logger.info(f"{row.name}: without {', '.join(missing)}, which it has no key for")
        student = sections.model_sections({"models": models})["student"]
        neutral = read_recipe(row.base, [*sets, f"{student}.dst_ckpt=student.pt"])
        teacher = sections.get(models, "teacher_model.src_ckpt")
        files = [_file_digest(teacher), *map(_file_digest, _inputs(neutral))]
        for seed in study.seeds:
            key = _digest(neutral.text(), str(seed), *files, version("mixacm-plugin"))
            folder = cache / key
            checkpoint = (folder / "student.pt").as_posix()
            resolved = read_recipe(
                row.base, [*sets, f"{student}.dst_ckpt={json.dumps(checkpoint)}"]
            )
            runs.append(Run(row, seed, resolved, key, folder, sets))
    return runs


def _inputs(recipe: Recipe) -> list[str]:
    """Files that a recipe names, without those that training writes."""
    named = {
        node.value
        for path, node in walk(recipe.root)
        if isinstance(node, yaml.ScalarNode)
        and (path.endswith("src_ckpt") or not path.endswith("_ckpt"))
    }
    return sorted(filter(os.path.isfile, named))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _file_digest(file: str | None) -> str:
    path = Path(file).expanduser() if isinstance(file, str) else None
    if path is None or not path.is_file():
        return str(file)
    return hashlib.sha256(path.read_bytes()).hexdigest()
