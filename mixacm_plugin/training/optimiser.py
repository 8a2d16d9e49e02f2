"""What the host's optimiser trains, and whether its schedule lasts: tried on a copy of it."""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchdistill.optim.registry import get_scheduler

from ..parts.acm.loss import ACMLoss
from ..reading import sections
from ..reading.recipe import Recipe
from .boxes import Box

MOST_STEPS = 10_000  # of a schedule that are tried


def check_optimiser(
    recipe: Recipe, path: str, stage: Mapping[str, Any], box: Box, models: Mapping[str, nn.Module]
) -> list[str]:
    """Check who is trained in a stage, and by which schedule.

    Args:
        recipe: names the file in errors.
        path: of the stage.
        stage: its part of the built recipe.
        box: at the beginning of the stage.
        models: the plain model of each role.

    Returns:
        A warning where a part of the student alone is trained, though none of it is frozen.

    Raises:
        RecipeError: if the teacher would be trained, a learnable transform wouldn't, the loss
            would be raised, or the schedule fails or ends before the stage does.
    """
    optimised = {id(p) for group in box.optimizer.param_groups for p in group["params"]}
    if "teacher" in models:
        teacher = models["teacher"].named_parameters()
        trained = [name for name, p in teacher if p.requires_grad and id(p) in optimised]
        if trained:
            raise recipe.error(
                f"{path}.teacher.requires_grad",
                f"the teacher would be trained ({len(trained)} tensors, e.g. {trained[0]!r}); "
                "set requires_grad: False, in every stage",
            )
    if any(group.get("maximize") for group in box.optimizer.param_groups):
        message = "the loss would be raised, not lowered; leave maximize out"
        raise recipe.error(f"{path}.optimizer.kwargs.maximize", message)
    for where, name, loss in _acm_terms(box, path):
        for pair, module in loss.learnable_transforms():
            if any(id(p) not in optimised for p in module.parameters()):
                raise recipe.error(
                    f"{where}.kwargs.pairs.{pair}.transform.module",
                    f"the learnable transform of term {name!r} isn't in the optimiser; list it "
                    f"under {path}.teacher.auxiliary_model_wrapper.kwargs.modules of a "
                    "FrozenTeacher, without requires_grad: False",
                )
    if stage.get("optimizer") and stage.get("scheduler"):
        try:
            _try_schedule(stage, box)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            raise recipe.error(f"{path}.scheduler.kwargs", message) from error
    trainable = [(n, p) for n, p in models["student"].named_parameters() if p.requires_grad]
    left_out = [name for name, p in trainable if id(p) not in optimised]
    if not left_out or len(left_out) == len(trainable):  # a wrapper may train something else
        return []
    return [
        f"{path}.optimizer: {len(left_out)} of the student's {len(trainable)} tensors aren't in it "
        f"and stay as they are, e.g. {left_out[0]!r}"
    ]


def _acm_terms(box: Box, path: str) -> Iterator[tuple[str, str, ACMLoss]]:
    for name, (term, _) in getattr(box.criterion, "term_dict", {}).items():
        if isinstance(term, ACMLoss):
            yield f"{path}.criterion.kwargs.sub_terms.{name}.criterion", name, term


def schedule_steps(stage: Mapping[str, Any], steps_per_epoch: int) -> int:
    """Return how often the host steps the schedule of a stage.

    Args:
        stage: part of the built recipe, with a scheduler.
        steps_per_epoch: batches of the training data.
    """
    every = stage["scheduler"].get("scheduling_step", 0)
    epochs: int = stage["num_epochs"]
    if not every:
        return epochs
    # The host steps the schedule only in steps of the optimiser.
    every = math.lcm(every, sections.get(stage, "optimizer.grad_accum_step") or 1)
    return epochs * steps_per_epoch // every


def _try_schedule(stage: Mapping[str, Any], box: Box) -> None:
    steps = schedule_steps(stage, len(box.train_data_loader))
    section, optimiser = stage["scheduler"], _without_weights(box.optimizer)
    schedule: Any = get_scheduler(optimiser, section["key"], **section["kwargs"])
    length = getattr(schedule, "total_steps", None)
    if length is not None and steps > length:
        raise ValueError(f"the schedule is {length} long, the stage has {steps}")
    optimiser.step()
    metric = [0.0] if isinstance(schedule, ReduceLROnPlateau) else []
    for step in range(min(steps, MOST_STEPS)):
        schedule.step(*metric)
        for group in optimiser.param_groups:
            if not 0 <= group["lr"] < math.inf:
                raise ValueError(f"the rate is {group['lr']:.3g} after {step + 1} steps of it")


def _without_weights(optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Copy an optimiser, with parameters of the same shapes that hold nothing."""
    empty = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad)
        for group in optimiser.param_groups
        for p in group["params"]
    }
    copied = copy.deepcopy(optimiser, empty)
    for group in copied.param_groups:  # as before its schedule began
        group["lr"] = group.pop("initial_lr", group["lr"])
    return copied
