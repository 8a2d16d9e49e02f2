"""A stage of a recipe under observation: its first training step, and its speed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..common.images import check_images, unpack
from ..reading import sections
from ..reading.recipe import Recipe
from ..training.boxes import terms_of
from ..training.metrics import record_terms
from ..training.prepare import Prepared
from .faster import faster_loading
from .measured_step import (
    MeasuredEnd,
    Term,
    activation_warnings,
    gradient_warnings,
    measured_terms,
    recorded_pairs,
    watched_hooks,
)
from .step_times import StepTimes, operations, timed_steps


@dataclass
class Stage:
    """A training stage, measured.

    Args:
        path: of its part of the recipe.
        epochs: number of them.
        batch_size: images in the first step.
        images_per_epoch: training images; ``None`` where random ones took their place.
        steps_per_epoch: batches of them, likewise.
        pairs: both sides of each pair of ``ACMLoss``.
        terms: of the loss, and ``total``.
        times: of training steps with their data, after the first.
        operations: floating-point operations of a step, an image; ``None`` of compiled models.
        hints: settings that may be faster on this machine.
    """

    path: str
    epochs: int
    batch_size: int
    images_per_epoch: int | None
    steps_per_epoch: int | None
    pairs: list[MeasuredEnd]
    terms: list[Term]
    times: StepTimes
    operations: float | None
    hints: list[str]

    @property
    def seconds_per_epoch(self) -> float | None:
        """Expected time of an epoch without validation, in seconds."""
        if self.images_per_epoch is None:
            return None
        return self.images_per_epoch / self.times.images_per_second


def inspect_stage(
    recipe: Recipe,
    prepared: Prepared,
    device: torch.device,
    warnings: list[str],
    seconds: float,
) -> Stage:
    """Make a real training step of the stage that a box is in, then some more, and look at them.

    Args:
        recipe: names the file in errors.
        prepared: with the box.
        device: of the images.
        warnings: gets a line for each thing that looks wrong.
        seconds: how long to time further steps, at least one.

    Raises:
        RecipeError: if a step fails, or the loss isn't finite at the start.
    """
    box, loader = prepared.box, prepared.box.train_data_loader
    path, stage = sections.current_stage(prepared.config, box)
    box.pre_epoch_process(epoch=0)
    if "teacher" in prepared.models:
        _put_teacher_in_eval(prepared.models["teacher"], path, stage, warnings)
    images, targets, extra = unpack(next(iter(loader)), device)
    try:
        check_images(images)
    except ValueError as error:
        warnings.append(f"{path}.train_data_loader: {error}")
    try:
        pairs, terms = _first_step(recipe, prepared, (images, targets, extra), warnings)
        times = timed_steps(box, device, seconds)
        compiled = sections.get(prepared.config, "compute.compile")
        counted = None if compiled else operations(box, (images, targets, extra))
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        where = f"{type(error).__name__}: {error}"
        raise recipe.error(f"{path}: the first training step", where) from error
    return Stage(
        path,
        epochs=stage["num_epochs"],
        batch_size=len(images),
        images_per_epoch=len(loader.sampler),
        steps_per_epoch=len(loader),
        pairs=pairs,
        terms=terms,
        times=times,
        operations=counted,
        hints=list(faster_loading(times.shares()["loader"], loader.num_workers)),
    )


def _first_step(
    recipe: Recipe, prepared: Prepared, batch: tuple[Tensor, Tensor, Any], warnings: list[str]
) -> tuple[list[MeasuredEnd], list[Term]]:
    """Make a training step; return both sides of each pair, and the terms of the loss."""
    box = prepared.box
    path, _ = sections.current_stage(prepared.config, box)
    pairs: list[MeasuredEnd] = []
    with (
        watched_hooks(prepared.config, box, warnings),
        recorded_pairs(box.criterion, pairs),
        record_terms(box.criterion) as terms,
    ):
        loss = box.forward_process(*batch)
    graphs = {**terms, "total": loss}
    measured = measured_terms(box, graphs)
    warnings += activation_warnings(path, pairs)
    weights = {name: weight for name, (_, weight) in terms_of(box.criterion).items()}
    # Without a graph, the trial step has warned of it.
    trained = [term for term in measured if graphs[term.name].requires_grad]
    warnings += gradient_warnings(path, trained, weights, real=prepared.real)
    if not math.isfinite(loss.item()):
        raise recipe.error(f"{path}.criterion", f"the loss is {loss.item()} at the start")
    box.post_forward_process(loss=loss)
    return pairs, measured


def _put_teacher_in_eval(
    teacher: nn.Module, path: str, stage: Mapping[str, Any], warnings: list[str]
) -> None:
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
