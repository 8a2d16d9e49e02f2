"""What a recipe will do, measured by one real training step of each stage; nothing is written."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from ..common.state import preserved_rng
from ..loading.datasets import FEW, first_batch
from ..parts.models.hook_snippet import hook_lines
from ..reading import sections
from ..reading.recipe import Recipe
from ..training.boxes import skip_stage
from ..training.prepare import Prepared, prepare
from .faster import faster_computing
from .stage import Stage, inspect_stage
from .stand_ins import use_batch_size, use_random_images, use_random_weights
from .traps import recipe_warnings


@dataclass
class Inspection:
    """What ``inspect_recipe`` found.

    Args:
        models: class and number of parameters by role; of the student, those that are trained.
        stages: in their order.
        teacher: its accuracy on some validation images, in a line.
        warnings: a line each.
        suggestion: lines under ``train`` that would make it MixACM, each with whether it is new.
        peak_memory: in bytes: on CUDA of tensors, on the CPU of the whole process; ``None`` where
            it can't be measured.
        faster: a precision and memory format in which the last stage's steps are faster here.
    """

    models: dict[str, tuple[str, int]] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    teacher: str | None = None
    warnings: list[str] = field(default_factory=list)
    suggestion: list[tuple[str, bool]] = field(default_factory=list)
    peak_memory: int | None = None
    faster: list[str] = field(default_factory=list)

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
        seconds: how long to time further steps, at least one; then, if above 0, steps in other
            precisions and memory formats.

    Raises:
        RecipeError: on anything that would stop the training.
    """
    found = Inspection()
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
        real = input_shape is None and not random_weights
        prepared = prepare(recipe, device, seed=0, real=real)
        found.teacher = prepared.teacher
        found.warnings[:0] = prepared.warnings
        found.models = {role: _describe(role, model) for role, model in prepared.models.items()}
        for number, _ in enumerate(sections.stages(prepared.config)):
            if number:
                skip_stage(prepared.box)  # it was tried when the box was set up
            stage = inspect_stage(recipe, prepared, device, found.warnings, seconds)
            found.stages.append(stage)
        found.peak_memory = _peak_memory(device)  # other settings may take more
        if seconds:
            found.faster += faster_computing(prepared, device, seconds)
    if input_shape is not None:
        for inspected in found.stages:
            inspected.images_per_epoch = inspected.steps_per_epoch = None
    steps = [stage.steps_per_epoch for stage in found.stages]
    found.warnings += recipe_warnings(
        prepared.config, prepared.models, steps, random_weights=random_weights
    )
    if "teacher" in prepared.models and not any(stage.pairs for stage in found.stages):
        found.suggestion = _suggest(prepared, found.warnings)
    return found


def _describe(role: str, model: nn.Module) -> tuple[str, int]:
    counted = [p.numel() for p in model.parameters() if role == "teacher" or p.requires_grad]
    return type(model).__name__, sum(counted)


def _suggest(prepared: Prepared, warnings: list[str]) -> list[tuple[str, bool]]:
    images, *_ = first_batch(prepared.box.train_data_loader, FEW)
    models = prepared.models["teacher"], prepared.models["student"]
    try:
        lines = hook_lines(*models, input_shape=images.shape[-3:])
    except ValueError as error:
        warnings.append(f"models: can't suggest pairs for ACMLoss: {error}")
        return []
    there = f"pre_epoch_process: {sections.get(prepared.config, 'train.pre_epoch_process')}"
    return [(line, new and line != there) for line, new in lines]


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu" or sys.platform == "win32":
        return None
    import resource  # not there on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
