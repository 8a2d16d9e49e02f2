"""Tuning: candidates of a recipe, judged on its validation images by successive halving.

Source: Jamieson & Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter
optimization".
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import mean
from typing import Any

import torch
import yaml

from ..common.errors import RecipeError, UserError
from ..loading.shared_images import shared_by_loaders
from ..reading import sections
from ..reading.checks import check_yaml
from ..reading.nodes import plain
from ..reading.read import read_recipe
from ..reading.recipe import Recipe
from ..training.prepare import prepare
from .changes import change_of, sets
from .runs import Run, epochs_of
from .study import Row, Study

logger = logging.getLogger("mixacm")

CLEAN, ROBUST = "val_accuracy", "robust_val_accuracy"  # keys of metrics.jsonl


@dataclass
class Candidate:
    """A row of overrides, and how it stands.

    Args:
        row: of the study.
        values: by key path.
        accuracies: at each rung that it has reached, one for each seed.
        error: why a run of it failed.
    """

    row: Row
    values: dict[str, Any]
    accuracies: list[list[float]] = field(default_factory=list)
    error: str | None = None


def values_over(text: str) -> tuple[str, list[Any]]:
    """Read ``KEY.PATH=VALUE,VALUE,...``, the values in YAML.

    Example:
        >>> values_over("train.optimizer.kwargs.lr=0.05,0.1")
        ('train.optimizer.kwargs.lr', [0.05, 0.1])

    Raises:
        UserError: if it is anything else, or a value is given twice.
    """
    path, separator, listed = text.partition("=")
    where = f"--over {text}"
    if not separator or not path:
        raise UserError(f"{where}: expected KEY.PATH=VALUE,VALUE,...")
    try:
        values = yaml.safe_load(f"[{listed}]")
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise UserError(f"{where}: expected values in YAML, split by commas: {problem}") from error
    if len(values) == 1 and isinstance(values[0], list):  # [20, 50] is the same as 20,50
        values = values[0]
    if not values:
        raise UserError(f"{where}: expected KEY.PATH=VALUE,VALUE,...")
    for index, value in enumerate(values):
        # Candidates are called by their values: 1 and '1' would be one.
        if value in values[:index] or str(value) in map(str, values[:index]):
            raise UserError(f"{where}: {value!r} is given twice")
    return path, values


def check_candidates(
    candidates: Sequence[Candidate], runs: Sequence[Run], device: torch.device
) -> None:
    """Try a training step with each value, of candidates that haven't begun yet.

    Raises:
        RecipeError: if one can't be trained, or would be judged by test images of another name.
    """
    tried: list[tuple[str, Any]] = []
    for candidate in candidates:
        new = [item for item in candidate.values.items() if item not in tried]
        run = next(run for run in runs if run.row == candidate.row)
        if new and not run.epochs:
            recipe = read_recipe(run.row.base, sets(run.changes))
            _check_images(recipe, prepare(recipe, device, real=False).config)
        tried += new


def _check_images(recipe: Recipe, config: Mapping[str, Any]) -> None:
    tested = sections.get(config, "test.test_data_loader")
    for path, stage in sections.stages(config):
        told = shared_by_loaders(tested, stage.get("val_data_loader"), config)
        if told:
            val = sections.get(stage, "val_data_loader.dataset_id")
            message = f"{told} are in {val}, too: by test images nothing may be chosen"
            raise recipe.error(f"{path}.val_data_loader.dataset_id", message)


def read_candidates(
    base: str, overrides: Sequence[str], over: Mapping[str, Sequence[Any]]
) -> list[Candidate]:
    """Return a candidate for each combination of values.

    Args:
        base: the recipe's file, or the name of a shipped one.
        overrides: of all candidates, as ``--set`` takes them.
        over: the values of each key path.

    Raises:
        RecipeError: if the recipe lacks a key, or a value makes it one that can't be trained.
        UserError: if there is only one candidate.
    """
    recipe = read_recipe(base, overrides)
    judging = _judging(recipe)
    for path in over:
        if f"{path}.".startswith(judging):
            reason = "candidates are compared by the same images and attack"
            raise UserError(f"--over {path}: {reason}; change it for all by --set")
        if f"{path}.".startswith("ema."):
            reason = "the moving average doesn't change the student, by whom is judged"
            raise UserError(f"--over {path}: {reason}; compare averages by mixacm evaluate --ckpt")
    changes = [change_of(text) for text in overrides]
    names = short_names(list(over))
    candidates = []
    for chosen in product(*over.values()):
        values = dict(zip(over, chosen, strict=True))
        name = ", ".join(f"{names[path]} {value}" for path, value in values.items())
        row = Row(name, base, [*changes, values])
        try:
            changed = read_recipe(base, sets(row.changes))
        except RecipeError as error:
            where = error.where.replace("--set", "--over", 1)
            raise RecipeError(error.file, where, error.message) from error
        check_yaml(changed)
        if epochs_of(changed) != epochs_of(recipe):
            raise UserError("--over: candidates need the same num_epochs to be compared at rungs")
        candidates.append(Candidate(row, values))
    if len(candidates) == 1:
        raise UserError("--over: gives a single candidate; expected two values at least")
    return candidates


def _judging(recipe: Recipe) -> tuple[str, ...]:
    """Return how the key paths begin of what judges, or has no part in training.

    Raises:
        RecipeError: if candidates would be judged by the test images.
    """
    config = plain(recipe.root)
    tested = sections.told(config, "test.test_data_loader.dataset_id")
    fixed = ["test.", "validate.", f"datasets.{tested}."]
    for path, stage in sections.stages(config):
        chosen = sections.told(stage, "val_data_loader.dataset_id")
        if chosen is not None and chosen == tested:
            message = f"{tested} are the test images, by which nothing may be chosen"
            raise recipe.error(f"{path}.val_data_loader.dataset_id", message)
        fixed += [f"{path}.val_data_loader.", f"datasets.{chosen}."]
    return tuple(fixed)


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return the shortest endings of key paths that tell them apart.

    Example:
        >>> short_names(["a.acm.weight", "a.kd.weight", "b.lr"])
        {'a.acm.weight': 'acm.weight', 'a.kd.weight': 'kd.weight', 'b.lr': 'lr'}
    """

    def ending(path: str, length: int) -> str:
        return ".".join(path.split(".")[-length:])

    names = {}
    for path in paths:
        others = [other for other in paths if other != path]
        lengths = range(1, path.count(".") + 2)
        alone = (n for n in lengths if ending(path, n) not in {ending(o, n) for o in others})
        names[path] = ending(path, next(alone, lengths[-1]))
    return names


def judged_by(recipe: Recipe) -> tuple[str, int]:
    """Return the key of ``metrics.jsonl`` to judge by, and that one in so many epochs has it."""
    robust = plain(recipe.root).get("validate")
    return (CLEAN, 1) if robust is None else (ROBUST, robust.get("every") or 1)


def rung_epochs(epochs: int, candidates: int, factor: int) -> list[int]:
    """Return after how many epochs candidates are compared; the last are all of them.

    Each rung but the first has ``factor`` times the epochs of the one before, for a share of
    1 / ``factor`` of its candidates, as often as there are that many.

    Args:
        epochs: of a whole run, or of its last stage.
        candidates: how many there are.
        factor: at least 2.

    Example:
        >>> rung_epochs(40, 10, 3)
        [4, 13, 40]
    """
    rungs, part = {epochs}, factor
    while part <= min(candidates, epochs):
        rungs.add(round(epochs / part))
        part *= factor
    return sorted(rungs)


def tune(
    study: Study,
    candidates: Sequence[Candidate],
    runs: Sequence[Run],
    rungs: Sequence[int],
    train: Callable[[Study, list[Run]], Mapping[str, str]],
    *,
    factor: int,
    accuracy: Callable[[Run, int], float],
) -> list[Candidate]:
    """Train all candidates to the first rung, the best of them to the next one, and so on.

    Their schedules are of all epochs: they are paused at a rung, not ended.

    Args:
        study: of the candidates' rows.
        candidates: which get their accuracies, or errors.
        runs: of the study.
        rungs: epochs, the last of a whole run.
        train: runs what isn't done at the study's ``until_epoch``; returns errors by key.
        factor: one in so many candidates goes on, rounded up.
        accuracy: of a run at a rung.

    Returns:
        The candidates, the best first.
    """
    alive = list(candidates)
    for epoch in rungs:
        own = {c.row.name: [run for run in runs if run.row == c.row] for c in alive}
        until = None if epoch == rungs[-1] else epoch
        wanted = [run for row in own.values() for run in row]
        errors = train(replace(study, until_epoch=until), wanted)
        for candidate in alive:
            mine = own[candidate.row.name]
            candidate.error = next((errors[run.key] for run in mine if run.key in errors), None)
            if candidate.error is None:
                candidate.accuracies.append([accuracy(run, epoch) for run in mine])
        best = ranked([candidate for candidate in alive if candidate.error is None])
        share = math.ceil(len(best) / factor) if until else 1  # of the last rung, one is chosen
        best, left = best[:share], best[share:]
        if left and mean(left[0].accuracies[-1]) == mean(best[-1].accuracies[-1]):
            logger.warning(
                f"{left[0].row.name} is as good as {best[-1].row.name} after epoch {epoch}, and "
                "left out since it is listed after it"
            )
        alive = [candidate for candidate in alive if candidate in best]  # as listed, for equals
    return ranked(candidates)


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return candidates in order: by the rung reached, then by their mean accuracy there."""

    def standing(candidate: Candidate) -> tuple[bool, int, float]:
        reached = candidate.accuracies
        return candidate.error is None, len(reached), mean(reached[-1]) if reached else 0.0

    return sorted(candidates, key=standing, reverse=True)


def accuracy_at(run: Run, epoch: int, key: str, *, best: bool) -> float:
    """Return a run's validation accuracy after an epoch, or where training stopped before it.

    Args:
        run: trained until then at least.
        epoch: how many epochs.
        key: of ``metrics.jsonl``; not every epoch has to have it.
        best: whether the best so far counts, not the last.
    """
    figures = [
        line[key] for line in run.epochs if line["epoch"] < epoch and line.get(key) is not None
    ]
    return max(figures) if best else figures[-1]
