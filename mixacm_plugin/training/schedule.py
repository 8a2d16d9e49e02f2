"""Whether a stage's learning-rate schedule lasts: tried on a copy of its optimiser."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchdistill.core.interfaces.registry import POST_FORWARD_PROC_FUNC_DICT
from torchdistill.optim.registry import get_scheduler

from ..reading import sections
from ..reading.recipe import Recipe
from .boxes import Box

MOST_STEPS = 10_000  # of a schedule that are tried


def check_schedule(recipe: Recipe, config: Mapping[str, Any], path: str, box: Box) -> None:
    """Try the schedule that is in force in a stage, which may have begun in an earlier one.

    Args:
        recipe: names the file in errors.
        config: the built recipe.
        path: of the stage.
        box: at the beginning of the stage.

    Raises:
        RecipeError: if it fails, ends before the stage does, or leaves no rate to the stage; if it
            watches the validation accuracy the wrong way.
    """
    under = stages_of_schedule(config, path)
    if not under:
        return
    owner, section = under[0][0], under[0][1]["scheduler"]
    every = section.get("scheduling_step", 0)
    steps = [schedule_steps(each, len(box.train_data_loader), every) for _, each in under]
    try:
        _try_schedule(section, steps, box)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        if owner != path:
            message += f", in {path}, which has no scheduler of its own"
        raise recipe.error(f"{owner}.scheduler.kwargs", message) from error


def stages_of_schedule(config: Mapping[str, Any], path: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return paths and parts of the stages over which the schedule of a stage has gone on.

    The host keeps a schedule until a stage has one, or an optimiser, of its own. Parts have the
    optimiser that is in force, which may be an earlier stage's.

    Args:
        config: the built recipe.
        path: of the stage, which is the last of them.
    """
    under: list[tuple[str, Mapping[str, Any]]] = []
    optimizer = None
    for each, stage in sections.stages(config):
        optimizer = stage.get("optimizer") or optimizer
        part = {**stage, "optimizer": optimizer}
        if stage.get("scheduler"):
            under = [(each, part)]
        elif stage.get("optimizer"):
            under = []
        elif under:
            under.append((each, part))
        if each == path:
            break
    return under


def schedule_steps(stage: Mapping[str, Any], steps_per_epoch: int, every: int) -> int:
    """Return how often the host steps a schedule in a stage.

    Args:
        stage: part of the built recipe.
        steps_per_epoch: batches of the training data.
        every: the schedule's ``scheduling_step``; 0 is once an epoch.
    """
    epochs: int = stage["num_epochs"]
    if not every:
        return epochs
    process = POST_FORWARD_PROC_FUNC_DICT.get(stage.get("post_forward_process"))
    replays: int = getattr(process, "replays", 1)  # of a batch, in free adversarial training
    # The host steps the schedule only in steps of the optimiser.
    every = math.lcm(every, sections.get(stage, "optimizer.grad_accum_step") or 1)
    return epochs * steps_per_epoch * replays // every


def _try_schedule(section: Mapping[str, Any], steps: Sequence[int], box: Box) -> None:
    """Step a schedule through stages, in the last of which the box is."""
    optimiser = _without_weights(box.optimizer)
    schedule: Any = get_scheduler(optimiser, section["key"], **section["kwargs"])
    watches = isinstance(schedule, ReduceLROnPlateau)
    if watches and section.get("scheduling_step"):
        raise ValueError("it watches an epoch's validation accuracy; leave out scheduling_step")
    if watches and schedule.mode != "max":
        raise ValueError("it watches the validation accuracy, which should rise; set mode: max")
    length = getattr(schedule, "total_steps", None)
    if length is not None and sum(steps) > length:
        raise ValueError(f"the schedule is {length} long, the stage has {sum(steps)}")
    optimiser.step()
    rates = [_rates(optimiser)]
    for step in range(min(sum(steps), MOST_STEPS)):
        schedule.step(*([0.0] if watches else []))
        rates.append(_rates(optimiser))
        for rate in rates[-1]:
            if not 0 <= rate < math.inf:
                raise ValueError(f"the rate is {rate:.3g} after {step + 1} steps of it")
    own = rates[sum(steps[:-1]) :][: steps[-1]]
    if own and not any(map(any, own)):
        raise ValueError("the rate is 0 in all of the stage")


def _rates(optimiser: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimiser.param_groups]


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
