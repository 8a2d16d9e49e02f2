"""The teacher, measured on some validation images before a student is taught by it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchdistill.common.main_util import get_world_size

from ..common.distributed import gather
from ..common.errors import reason_of
from ..common.images import count, drawn, every_batch, unpack
from ..common.outputs import logits_of
from ..common.state import eval_mode, preserved_rng
from ..reading import sections
from ..reading.recipe import Recipe
from .boxes import Box
from .robust_validation import RobustValidation, robust_accuracy

IMAGES = 256  # enough to tell a useless teacher; their standard error is 3 points at most


def measure_teacher(
    recipe: Recipe,
    config: Mapping[str, Any],
    box: Box,
    models: Mapping[str, nn.Module],
    validation: RobustValidation | None,
) -> tuple[str | None, list[str]]:
    """Measure the teacher's accuracy on validation images, drawn at random, in all processes.

    Args:
        recipe: names the file in errors.
        config: the built recipe.
        box: whose validation images they are.
        models: the plain model of each role.
        validation: under whose attack it is measured, too.

    Returns:
        The figures in a line, ``None`` where there is nothing to measure; and warnings: where it is
        near what guessing gives and the recipe doesn't expect nothing, or isn't robust.

    Raises:
        RecipeError: if it is far below the teacher's ``expected_accuracy``, or an image can't be
            loaded.
    """
    path = sections.model_sections(config).get("teacher")
    if path is None:
        return None, []
    expected = sections.get(config, f"{path}.expected_accuracy")
    try:
        own = _answers(models["teacher"], box.val_data_loader, box.device)
    except Exception as error:  # of any kind, by which a dataset refuses
        where = f"{sections.current_stage(config, box)[0]}.val_data_loader"
        raise recipe.error(where, f"{reason_of(error)}, while the teacher is measured") from error
    answers = _of_all(own)
    if answers is None:
        if expected:
            message = f"expected {expected:g} %, which can't be: its classes aren't the data's"
            raise recipe.error(f"{path}.expected_accuracy", message)
        return "teacher: not measured, since its classes aren't the data's", []
    right, labels = answers
    accuracy, n = float(right.double().mean()), len(right)
    figure = f"{100 * accuracy:.1f} % of {n} validation images right"
    if expected is not None and accuracy < _least(expected / 100, n):
        raise recipe.error(
            f"{path}.expected_accuracy",
            f"expected {expected:g} %, found {figure}; compare the teacher's classes and its "
            "normalisation with the data's (0 expects nothing)",
        )
    guessing = float(labels.bincount().max()) / n
    # Of few images even all right may be chance; that isn't held against a teacher.
    chance = min(guessing + 3 * _error(guessing, n), (1 + guessing) / 2)
    if accuracy <= chance:
        doubt = (
            f"{path}: the teacher has {figure}, about as many as guessing has; compare its classes "
            "and its normalisation with the data's (expected_accuracy: 0 says that it is meant so)"
        )
        return f"teacher: {figure}", [] if expected == 0 else [doubt]
    if validation is None:
        return f"teacher: {figure}", []
    robust, attacked = _robustness(models["teacher"], box, validation)
    figure += attacked
    doubt = f"{path}: it isn't robust: {figure}; a student can't be made robust by such a teacher"
    return f"teacher: {figure}", [doubt] if robust <= chance else []


def _robustness(teacher: nn.Module, box: Box, validation: RobustValidation) -> tuple[float, str]:
    """Return the teacher's accuracy under the attack of robust validation, also in words."""
    loader, attack = box.val_data_loader, validation.attack
    robust = robust_accuracy(teacher, loader, box.device, validation, most=IMAGES)
    threat = ", ε = ".join(attack.threat or ())
    return robust, f", {100 * robust:.1f} % under {attack.title} ({threat})"


def _of_all(own: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    """Put answers and labels of all processes together, so that all judge the teacher alike.

    One that went on to its attack, as the others didn't, would wait for them.
    """
    shares = gather(own)
    if any(share is None for share in shares):
        return None
    right, labels = (torch.cat(parts) for parts in zip(*shares, strict=True))
    return right, labels


@torch.no_grad()
def _answers(
    teacher: nn.Module, loader: DataLoader[Any], device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Return whether the teacher is right on some images, if it can be, and their labels."""
    share = -(-IMAGES // get_world_size())
    some = drawn(loader.dataset, min(share, count(loader.dataset)), seed=0)
    collate: Any = loader.collate_fn
    right, labels = [], []
    with preserved_rng(), eval_mode(teacher):
        for batch in every_batch(DataLoader(some, batch_size=64, collate_fn=collate)):
            images, targets, _ = unpack(batch, device)
            logits = logits_of(teacher(images))
            if targets.ndim != 1 or targets.max() >= logits.shape[1]:
                return None
            if targets.min() < 0:
                raise ValueError(f"found label {int(targets.min())}; classes begin at 0")
            right.append((logits.argmax(1) == targets).cpu())
            labels.append(targets.cpu())
    return torch.cat(right), torch.cat(labels)


def _error(accuracy: float, n: int) -> float:
    return float((accuracy * (1 - accuracy) / n) ** 0.5)


def _least(expected: float, n: int) -> float:
    """Return what is far below an expected accuracy: by five points, and not by chance."""
    return expected - max(0.05, 3 * _error(expected, n))
