"""What a recipe will do, measured by one real training step of each stage; nothing is written."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..common.images import check_images, unpack
from ..common.state import preserved_rng
from ..parts.models.hook_points import hook_lines
from ..reading import sections
from ..reading.checks import check_yaml
from ..reading.recipe import Recipe
from ..training.boxes import models_of, skip_stage, student_of
from ..training.loop import Training
from ..training.metrics import record_terms
from .measured_step import (
    PairEnd,
    Term,
    images_per_second,
    measured_terms,
    recorded_pairs,
    watched_hooks,
)
from .stand_ins import use_batch_size, use_random_images, use_random_weights
from .traps import normalising_datasets, recipe_warnings


@dataclass
class Stage:
    """A training stage, measured.

    Args:
        path: of its part of the recipe.
        epochs: number of them.
        batch_size: images in the first step.
        images_per_epoch: training images; ``None`` where random ones took their place.
        steps_per_epoch: batches of them, likewise.
        images_per_second: of training steps with their data, after the first.
        pairs: both sides of each pair of ``ACMLoss``.
        terms: of the loss, and ``total``.
    """

    path: str
    epochs: int
    batch_size: int
    images_per_epoch: int | None
    steps_per_epoch: int | None
    images_per_second: float = 0.0
    pairs: list[PairEnd] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)

    @property
    def seconds_per_epoch(self) -> float | None:
        """Expected time of an epoch without validation, in seconds."""
        if self.images_per_epoch is None:
            return None
        return self.images_per_epoch / self.images_per_second


@dataclass
class Inspection:
    """What ``inspect_recipe`` found.

    Args:
        models: class and number of parameters by role; of the student, those that are trained.
        stages: in their order.
        warnings: a line each.
        suggestion: lines under ``train`` that would make it MixACM, each with whether it is new.
        peak_memory: in bytes: on CUDA of tensors, on the CPU of the whole process; ``None`` where
            it can't be measured.
    """

    models: dict[str, tuple[str, int]] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    suggestion: list[tuple[str, bool]] = field(default_factory=list)
    peak_memory: int | None = None

    @property
    def size_ratio(self) -> float | None:
        """Student's trained parameters by the teacher's parameters, in %."""
        if "teacher" not in self.models:
            return None
        return 100 * self.models["student"][1] / self.models["teacher"][1]


def inspect_recipe(
    recipe: Recipe,
    device: torch.device,
    *,
    input_shape: Sequence[int] | None = None,
    batch_size: int | None = None,
    random_weights: bool = False,
    seconds: float = 3.0,
) -> Inspection:
    """Build a recipe, run a training step of each stage and look at what it does.

    Args:
        recipe: as read; its YAML nodes are changed by the next three arguments.
        device: where to run.
        input_shape: ``(C, H, W)`` of random images that take the place of every dataset.
        batch_size: in place of the recipe's.
        random_weights: don't load any checkpoint.
        seconds: how long to time further steps, at least one.

    Raises:
        RecipeError: on anything that would stop the training.
    """
    found = Inspection(warnings=[*check_yaml(recipe), *normalising_datasets(recipe)])
    if input_shape is not None:
        use_random_images(recipe, input_shape)
    if batch_size is not None:
        use_batch_size(recipe, batch_size)
    if random_weights:
        use_random_weights(recipe)
        found.warnings.append("models: weights are random, since no checkpoint was read")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with preserved_rng():
        training = Training(recipe, device, seed=0)
        found.models = {role: _describe(role, model) for role, model in training.models.items()}
        stages = list(sections.stages(training.config))
        for number, (path, stage) in enumerate(stages):
            if number:
                skip_stage(training.box)  # it was tried when the training was set up
            found.stages.append(_inspect_stage(training, path, stage, found.warnings, seconds))
    if input_shape is not None:
        for inspected in found.stages:
            inspected.images_per_epoch = inspected.steps_per_epoch = None
    steps = [stage.steps_per_epoch for stage in found.stages]
    found.warnings += recipe_warnings(training.config, steps, random_weights=random_weights)
    if training.distilled and not any(stage.pairs for stage in found.stages):
        found.suggestion = _suggest(training, found.warnings)
    found.peak_memory = _peak_memory(device)
    return found


def _describe(role: str, model: nn.Module) -> tuple[str, int]:
    counted = [p.numel() for p in model.parameters() if role == "teacher" or p.requires_grad]
    return type(model).__name__, sum(counted)


def _inspect_stage(
    training: Training, path: str, stage: Mapping[str, Any], warnings: list[str], seconds: float
) -> Stage:
    box, device = training.box, training.device
    box.pre_epoch_process(epoch=0)
    if training.distilled:
        _put_teacher_in_eval(training, path, stage, warnings)
    images, targets, extra = unpack(next(iter(box.train_data_loader)), device)
    sampler = getattr(box.train_data_loader, "sampler", ())
    steps = len(box.train_data_loader)
    result = Stage(path, stage["num_epochs"], len(images), len(sampler), steps)
    try:
        check_images(images)
    except ValueError as error:
        warnings.append(f"{path}.train_data_loader: {error}")
    try:
        with (
            watched_hooks(models_of(box), stage, path, warnings),
            recorded_pairs(box.criterion, result.pairs),
            record_terms(box.criterion) as terms,
        ):
            loss = box.forward_process(images, targets, extra)
        result.terms = measured_terms(student_of(box), {**terms, "total": loss})
        if not math.isfinite(loss.item()):
            raise training.recipe.error(
                f"{path}.criterion", f"the loss is {loss.item()} at the start"
            )
        box.post_forward_process(loss=loss)
        result.images_per_second = images_per_second(box, device, seconds)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        where = f"{type(error).__name__}: {error}"
        raise training.recipe.error(f"{path}: the first training step", where) from error
    return result


def _put_teacher_in_eval(
    training: Training, path: str, stage: Mapping[str, Any], warnings: list[str]
) -> None:
    teacher = training.models["teacher"]
    if any(module.training for module in teacher.modules()):
        kept = sections.get(stage, "teacher.keep_train_mode")
        ours = "and so does this command" if kept else "this command puts it into eval mode"
        warnings.append(
            f"{path}.pre_epoch_process: the recipe leaves the teacher in train mode, where mixed "
            f"images move its statistics; {ours}, the host's script doesn't. Use "
            "keep_teacher_in_eval"
        )
        if not kept:
            teacher.eval()


def _suggest(training: Training, warnings: list[str]) -> list[tuple[str, bool]]:
    try:
        lines = hook_lines(training.models["teacher"], training.models["student"])
    except ValueError as error:
        warnings.append(f"models: can't suggest pairs for ACMLoss: {error}")
        return []
    there = f"pre_epoch_process: {sections.get(training.config, 'train.pre_epoch_process')}"
    return [(line, new and line != there) for line, new in lines]


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu" or sys.platform == "win32":
        return None
    import resource  # not there on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
