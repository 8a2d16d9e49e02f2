"""Runs: a study's rows and seeds as resolved recipes, each with a folder that caches it."""

import functools
import hashlib
import json
import logging
import os
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from .. import sections
from ..checks import check_models
from ..nodes import walk
from ..recipe import Recipe, RecipeError, UnknownKeyError, read_recipe
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
    digest = functools.cache(_file_digest)  # the rows share their teacher
    unknown: dict[str, list[RecipeError]] = {override: [] for override in overrides or ()}
    for row in study.rows:
        sets = row.sets
        try:
            recipe = read_recipe(row.base, sets)
            for override, problems in unknown.items():
                try:
                    recipe = read_recipe(row.base, [*sets, override])
                    sets.append(override)
                except UnknownKeyError as problem:
                    problems.append(problem)
                    if len(problems) == len(study.rows):
                        raise
            models = recipe.build("models")
            check_models(recipe, {"models": models})
        except RecipeError as problem:
            raise RecipeError(study.path, f"row {row.name!r}", str(problem)) from problem
        missing = [override for override in unknown if override not in sets]
        if missing:
            logger.info(f"{row.name}: without {', '.join(missing)}, which it has no key for")
        student = sections.model_sections({"models": models})["student"]
        own = _own_checkpoints(recipe, student)
        neutral = read_recipe(row.base, [*sets, *(f"{path}={name}" for path, name in own.items())])
        teacher = sections.get(models, "teacher_model.src_ckpt")
        files = [digest(teacher), *map(digest, _inputs(neutral, own))]
        for seed in study.seeds:
            key = _digest(neutral.text(), str(seed), *files, version("mixacm-plugin"))
            folder = cache / key
            moved = [
                f"{path}={json.dumps((folder / name).as_posix())}" for path, name in own.items()
            ]
            resolved = read_recipe(row.base, [*sets, *moved])
            runs.append(Run(row, seed, resolved, key, folder, sets))
    return runs


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


def _inputs(recipe: Recipe, own: Collection[str]) -> list[str]:
    """Files that a recipe names, without those that training writes."""
    named = {
        node.value
        for path, node in walk(recipe.root)
        if isinstance(node, yaml.ScalarNode)
        and (path.endswith("src_ckpt") or not path.endswith("_ckpt"))
        and path not in own
    }
    return sorted(name for name in named if os.path.isfile(os.path.expanduser(name)))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _file_digest(file: str | None) -> str:
    path = Path(file).expanduser() if isinstance(file, str) else None
    if path is None or not path.is_file():
        return str(file)
    return hashlib.sha256(path.read_bytes()).hexdigest()
