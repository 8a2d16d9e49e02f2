"""The moving average of a student over the steps of its training: a recipe's block ``ema``."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..common.state_dicts import load_state
from ..reading import sections
from ..reading.recipe import Recipe


class MovingAverage:
    """A copy of a student whose weights and buffers follow it by an exponential moving average.

    It begins as what the first step that it sees has left. The student isn't changed by it.

    Args:
        student: plain, and not hooked yet.
        decay: weight of what was averaged before, above 0 and below 1; per optimiser step.
        start_epoch: the first epoch whose steps count, from 0.
    """

    def __init__(self, student: nn.Module, decay: float, start_epoch: int = 0) -> None:
        self.start_epoch = start_epoch
        self._averaged = AveragedModel(
            student, multi_avg_fn=_floats_alone(decay), use_buffers=True
        ).requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        """The copy, with the student's own keys."""
        model: nn.Module = self._averaged.module
        return model

    @property
    def begun(self) -> bool:
        """Whether it has seen a step."""
        return bool(self._averaged.n_averaged > 0)

    def to(self, device: torch.device) -> None:
        """Move it, but for the counter, whose every reading would wait for the device."""
        self.model.to(device)

    def update(self, student: nn.Module) -> None:
        """Follow a step of the student's."""
        self._averaged.update_parameters(student)

    def state(self) -> dict[str, Any]:
        """Return its state, for a checkpoint to go on from."""
        return {"model": self.model.state_dict(), "steps": int(self._averaged.n_averaged)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            CheckpointError: if it is another student's.
            KeyError: if it isn't one.
        """
        load_state(self.model, dict(state["model"]))
        self._averaged.n_averaged.fill_(state["steps"])


@contextmanager
def followed(
    average: MovingAverage | None, optimizer: torch.optim.Optimizer, student: nn.Module, epoch: int
) -> Iterator[None]:
    """Let a moving average, where there is one, follow each of an optimiser's steps in the block.

    Args:
        average: of the student.
        optimizer: that trains the student.
        student: plain.
        epoch: counted from 0; before its first one the average doesn't follow.
    """
    if average is None or epoch < average.start_epoch:
        yield
        return
    handle = optimizer.register_step_post_hook(lambda *_: average.update(student))
    try:
        yield
    finally:
        handle.remove()


def _floats_alone(decay: float) -> Any:
    # torch would round integers down: a table of indices, as Swin has it, would lose some.
    average = get_ema_multi_avg_fn(decay)

    def update(averages: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        if averages[0].is_floating_point():
            average(averages, current, steps)
        else:
            for old, new in zip(averages, current, strict=True):
                old.copy_(new)

    return update


def moving_average(
    recipe: Recipe, config: Mapping[str, Any], student: nn.Module, device: torch.device
) -> MovingAverage | None:
    """Return the moving average that a recipe's block ``ema`` asks for, if it has one.

    Args:
        recipe: names the file in errors.
        config: the built recipe, held against the schema before.
        student: plain, and not hooked yet.
        device: where to train.

    Raises:
        RecipeError: if it would never begin, or the student can't be copied.
    """
    block = config.get("ema")
    if block is None:
        return None
    epochs = sections.num_epochs(config)
    start = block.get("start_epoch") or 0
    if start >= epochs:
        raise recipe.error("ema.start_epoch", f"{start}, counted from 0, of {epochs} epochs: never")
    try:
        average = MovingAverage(student, block["decay"], start)
    except Exception as error:  # of a model's own __deepcopy__, for instance
        message = f"can't copy the student: {type(error).__name__}: {error}"
        raise recipe.error("ema", message) from error
    average.to(device)
    return average
