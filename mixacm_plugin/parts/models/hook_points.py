"""Where a model's blocks are, as module paths that a recipe can hook."""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from ...common.state import preserved_rng
from ...common.values import COUNT, Kind, check_kind
from .hooks.ends import hooked_ends
from .hooks.families import FAMILIES
from .hooks.finder import BLOCK, PER, STAGE, find_hook_points
from .hooks.points import HookPoint, HookPoints
from .hooks.trace import random_image

SHAPE = Kind(
    "three whole numbers of at least 1, (C, H, W)",
    lambda value: isinstance(value, Sequence) and len(value) == 3 and all(map(COUNT.holds, value)),
)


def hook_points(
    model: nn.Module, input_shape: Sequence[int] = (3, 32, 32), *, per: str = STAGE
) -> HookPoints:
    """Name the modules that are a model's blocks, raw and activated.

    The stages of the families in ``FAMILIES`` are known; those of any other image classifier, of
    one that leaves out a part of its family's, and all residual blocks, are found by running it
    once on a random image.

    Args:
        model: image classifier, left as it was; ``normalized`` and ``normalize_inside`` change no
            path.
        input_shape: ``(C, H, W)`` of an image that it takes.
        per: ``stage``, the paper's blocks; or ``block``, every residual block. A stage without
            residual blocks counts as one.

    Raises:
        TypeError: if it is no model.
        ValueError: on another ``per`` or ``input_shape``, if the model doesn't take such images, or
            if nothing in it can be hooked.

    Source: MixACM, supplement A.4.2 (block 1 is the first layer's output, blocks 2 to 4 the low,
    mid and high level); A.2 speaks of activated channel maps.

    Example:
        >>> from mixacm_plugin import dm_wide_resnet
        >>> point = hook_points(dm_wide_resnet(10, 1)).raw[0]
        >>> point.path, point.io, point.layout, point.channels
        ('init_conv', 'output', 'nchw', 16)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module; found {model!r}")
    check_kind("input_shape", input_shape, SHAPE)
    if per not in PER:
        raise ValueError(f"per must be one of {', '.join(PER)}; got {per!r}")
    for kind, points in FAMILIES.items():
        if isinstance(model, kind):
            if per == BLOCK:
                return replace(find_hook_points(model, input_shape, per=per), family=points.family)
            seen = _seen(model, points.raw + points.activated, input_shape)
            if seen:
                return HookPoints(points.family, seen[: len(points.raw)], seen[len(points.raw) :])
    return find_hook_points(model, input_shape, per=per)


def pair_points(
    teacher: nn.Module,
    student: nn.Module,
    *,
    activated: bool = True,
    input_shape: Sequence[int] = (3, 32, 32),
    per: str = STAGE,
) -> list[tuple[str, HookPoint, HookPoint]]:
    """Pair the blocks of two models: stages from the last one backwards, blocks within a stage.

    Where a stage has more blocks than the other model's, as many of it are taken, at even depth,
    its last one among them.

    Args:
        teacher: see ``hook_points``.
        student: likewise; it may have fewer or more blocks.
        activated: after the activation (default) or as the blocks return them.
        input_shape: ``(C, H, W)`` of an image that both take.
        per: see ``hook_points``.

    Returns:
        Name, teacher's point and student's point of each pair, shallow to deep.

    Raises:
        ValueError: as ``hook_points`` does.
    """
    teachers, students = (
        hook_points(model, input_shape, per=per).by_stage(activated=activated)
        for model in (teacher, student)
    )
    count = min(len(teachers), len(students))
    paired: list[tuple[HookPoint, HookPoint]] = []
    for taught, own in zip(teachers[-count:], students[-count:], strict=True):
        blocks = min(len(taught), len(own))
        paired += zip(_spread(taught, blocks), _spread(own, blocks), strict=True)
    return [(f"block{index}", *points) for index, points in enumerate(paired, start=1)]


def _spread(points: Sequence[HookPoint], count: int) -> list[HookPoint]:
    """Take some of a stage's points at even depth, the last one among them."""
    return [points[math.ceil(part * len(points) / count) - 1] for part in range(1, count + 1)]


def _seen(
    model: nn.Module, points: Sequence[HookPoint], input_shape: Sequence[int]
) -> tuple[HookPoint, ...]:
    """Hook points with the shapes that a pass of a random image shows; none if one isn't passed."""
    with preserved_rng():
        image = random_image(model, input_shape)
    found = hooked_ends(model, [point[:2] for point in points], image)
    if any(point[:2] not in found or not found[point[:2]].shape for point in points):
        return ()
    return tuple(point._replace(shape=found[point[:2]].shape[1:]) for point in points)
