"""Where a model's blocks are, as module paths that a recipe can hook."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...common.modules import find_module
from ...common.state import eval_mode, preserved_rng
from .hooks.families import FAMILIES
from .hooks.finder import find_hook_points
from .hooks.points import HookPoint, HookPoints
from .hooks.trace import run


def hook_points(model: nn.Module, input_shape: Sequence[int] = (3, 32, 32)) -> HookPoints:
    """Name the modules that are a model's blocks, raw and activated.

    Those of the families in ``FAMILIES`` are known; those of any other image classifier are found
    by running it once on a random image.

    Args:
        model: image classifier, left as it was; ``normalized`` and ``normalize_inside`` change no
            path.
        input_shape: ``(C, H, W)`` of an image that it takes.

    Raises:
        ValueError: if it doesn't take such images, or nothing in it can be hooked.

    Source: MixACM, supplement A.4.2 (block 1 is the first layer's output, blocks 2 to 4 the low,
    mid and high level); A.2 speaks of activated channel maps.

    Example:
        >>> from mixacm_plugin import dm_wide_resnet
        >>> point = hook_points(dm_wide_resnet(10, 1)).raw[0]
        >>> point.path, point.io, point.layout, point.channels
        ('init_conv', 'output', 'nchw', 16)
    """
    for kind, points in FAMILIES.items():
        if isinstance(model, kind):
            seen = _seen(model, points.raw + points.activated, input_shape)
            return HookPoints(points.family, seen[: len(points.raw)], seen[len(points.raw) :])
    return find_hook_points(model, input_shape)


def pair_points(
    teacher: nn.Module,
    student: nn.Module,
    *,
    activated: bool = True,
    input_shape: Sequence[int] = (3, 32, 32),
) -> list[tuple[str, HookPoint, HookPoint]]:
    """Pair the blocks of two models, from the last one backwards.

    Args:
        teacher: see ``hook_points``.
        student: likewise; it may have fewer or more blocks.
        activated: after the activation (default) or as the blocks return them.
        input_shape: ``(C, H, W)`` of an image that both take.

    Returns:
        Name, teacher's point and student's point of each pair, shallow to deep.

    Raises:
        ValueError: as ``hook_points`` does.
    """
    sides = [hook_points(m, input_shape).blocks(activated=activated) for m in (teacher, student)]
    count = min(map(len, sides))
    paired = zip(sides[0][-count:], sides[1][-count:], strict=True)
    return [(f"block{index}", *points) for index, points in enumerate(paired, start=1)]


@torch.no_grad()
def _seen(
    model: nn.Module, points: Sequence[HookPoint], input_shape: Sequence[int]
) -> tuple[HookPoint, ...]:
    """Hook points with the shapes that a pass of a random image shows."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    shapes: dict[HookPoint, tuple[int, ...]] = {}
    handles = []
    for point in points:
        module = find_module(model, point.path)
        if not isinstance(module, nn.Module):
            raise ValueError(f"{type(model).__name__} has no module {point.path!r} to hook")

        def note(_: nn.Module, args: tuple[Tensor], out: Tensor, at: HookPoint = point) -> None:
            shapes[at] = tuple((args[0] if at.io == "input" else out).shape[1:])

        handles.append(module.register_forward_hook(note))
    try:
        with preserved_rng(), eval_mode(model):
            run(model, torch.rand(1, *input_shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return tuple(point._replace(shape=shapes[point]) for point in points)
