"""What a run's checkpoint holds, read from the run and put back into it."""

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn
from torchdistill.common.main_util import get_rank, get_world_size

from ..common.checkpoints import CheckpointError, load_checkpoint
from ..common.distributed import gather
from ..reading.recipe import Recipe
from .box_state import box_state, load_box_state
from .boxes import Box, processes_of, rng_of, set_rng_of
from .epoch import Position
from .moving_average import MovingAverage

logger = logging.getLogger("mixacm")

NEEDED = {"model", "optimizer", "epoch", "rng"}


def run_state(
    box: Box,
    models: Mapping[str, nn.Module],
    average: MovingAverage | None,
    position: Position | None,
) -> dict[str, Any]:
    """Return the state of a run in all its processes, which has to be asked for in each of them.

    Args:
        box: the host's.
        models: the plain model of each role.
        average: of the student, where there is one.
        position: in an epoch; nothing between two.
    """
    within = {} if position is None else {"within_epoch": gather(position.state())}
    return {
        **box_state(box, models),
        "rng": gather(rng_of(box)),
        "processes": gather([process.state_dict() for process in _stateful(box)]),
        **({} if average is None else {"ema": average.state()}),
        **within,
    }


def read_run(path: str) -> dict[str, Any]:
    """Read a checkpoint to resume from.

    Raises:
        CheckpointError: if it isn't one.
    """
    checkpoint = load_checkpoint(path)
    missing = NEEDED - set(checkpoint if isinstance(checkpoint, Mapping) else ())
    if missing:
        raise CheckpointError(
            f"{path} holds no {', '.join(sorted(missing))}: it isn't a checkpoint to "
            "resume from (to start from its weights, name it as the student's src_ckpt)"
        )
    return dict(checkpoint)


def restore(
    box: Box,
    models: Mapping[str, nn.Module],
    average: MovingAverage | None,
    checkpoint: Mapping[str, Any],
    path: str,
) -> Position | None:
    """Put a run, in the checkpoint's stage, into the checkpoint's state.

    Args:
        box: the host's.
        models: the plain model of each role.
        average: of the student; it begins where the checkpoint has none.
        checkpoint: from ``read_run``.
        path: of the checkpoint.

    Returns:
        The position in an epoch, where it is of one.

    Raises:
        KeyError, ValueError, RuntimeError, TypeError, AttributeError: if it is another run's.
    """
    rates = _first_rates(box)
    load_box_state(box, models, checkpoint)
    if rates != _first_rates(box):  # by -adjust_lr or the recipe
        logger.warning(
            "%s was begun with learning rate %s, with which it goes on, not with %s",
            path,
            _told(_first_rates(box)),
            _told(rates),
        )
    if average is not None and "ema" in checkpoint:
        average.load_state(checkpoint["ema"])
    states = checkpoint["rng"]  # one for each process, like the others
    if len(states) != get_world_size():
        if "within_epoch" in checkpoint:
            raise ValueError(
                f"it is of {len(states)} processes in the middle of an epoch, which "
                f"{get_world_size()} can't finish"
            )
        logger.warning(
            "%s is of %d processes: mixup and crops go on as they wouldn't have there",
            path,
            len(states),
        )
    if get_world_size() > 1 and _with_memory(checkpoint):
        logger.warning(
            "%s has the first process's memory of %s, with which all go on: they had one each",
            path,
            ", ".join(_with_memory(checkpoint)),
        )
    own = get_rank() % len(states)
    if "processes" in checkpoint:
        for process, state in zip(_stateful(box), checkpoint["processes"][own], strict=True):
            process.load_state_dict(state)
    set_rng_of(box, states[own])
    if "within_epoch" not in checkpoint:
        return None
    return Position.from_state(checkpoint["within_epoch"][own], states[own])


def _stateful(box: Box) -> list[Any]:
    """Return the recipe's processes that keep a state, as free adversarial training does."""
    return [process for process in processes_of(box) if hasattr(process, "state_dict")]


def _first_rates(box: Box) -> list[float]:
    """Return the rates at which the optimiser's groups began, as far as a schedule tells them."""
    unscheduled = box.lr_scheduler is None
    return [
        group.get("initial_lr", group["lr"])
        for group in box.optimizer.param_groups
        if unscheduled or "initial_lr" in group
    ]


def _told(rates: list[float]) -> str:
    return ", ".join(f"{rate:.3g}" for rate in rates)


def _with_memory(checkpoint: Mapping[str, Any]) -> list[str]:
    """Return the loss terms with a memory, which would be too much to keep of all processes."""
    names = checkpoint.get("auxiliary", {})
    return [name.removeprefix("loss.") for name in names if name.startswith("loss.")]


def compare_recipes(recipe: Recipe, path: str, then: str) -> None:
    """Warn of a checkpoint whose recipe has other settings."""
    now, before = recipe.text(), then.splitlines()
    added = [line.strip() for line in now.splitlines() if line not in before]
    if now != then:
        logger.warning(
            "%s is of a recipe with other settings%s; its schedule and optimiser state go on, "
            "so that a run can't be lengthened this way",
            path,
            f" than {', '.join(added[:3])}" if added else "",
        )
