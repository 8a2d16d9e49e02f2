"""The distance of channel maps of many cells, where they are: its cost is what it reads."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...common.outputs import precise

# Numbers that are made precise and multiplied at once on a CPU: what its caches hold.
AT_ONCE = 2**18


def cell_distance(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Return ``acm_loss``, of channel maps that lie as activations do.

    Of maps of unit norm the squared difference is :math:`2 - 2 \cos`: three sums over channels,
    where ``acm_loss`` divides and subtracts whole maps. A map whose squares vanish in its type
    (below about 1e-19 in float32) counts as zero.

    Args:
        student: ``(N, C, ...)``, any scale and precision; summed in float32 or better.
        teacher: the same shape.

    Returns:
        A scalar, at least 0.

    Source: as of ``acm_loss``.

    Example:
        >>> maps = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])
        >>> cell_distance(maps, maps.flip(3)).item()
        1.0
    """
    distance: Tensor = _Distance.apply(student, teacher)
    return distance


class _Distance(torch.autograd.Function):
    """Sum of the two maps for a gradient, in place of one through each norm and product."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        parts = [
            torch.stack([(a * b).sum(1, keepdim=True) for a, b in ((s, s), (t, t), (s, t))])
            for s, t in (map(precise, part) for part in _parts(student, teacher))
        ]
        sums = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        squares, both = sums[:2], sums[2]
        # 1 / norm, and 0 where 1 / squares may be infinite
        norms = squares.rsqrt().masked_fill_(squares < torch.finfo(squares.dtype).tiny, 0)
        own, taught = norms
        cosine = both * own * taught
        ctx.save_for_backward(student, teacher, own, taught, cosine)
        lengths = norms.sign().sum(0)  # squared: 1, or 0 of a map that is zero
        distances: Tensor = torch.sub(lengths, cosine, alpha=2).clamp_(min=0)
        return distances.mean() / student.shape[1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        student, teacher, own, taught, cosine = ctx.saved_tensors
        share = 2 * gradient / student.numel()
        across, along = -share * own * taught, share * cosine
        sides = ((student, own, teacher), (teacher, taught, student))
        return tuple(
            _sum(one, along * norm.square(), other, across) if needed else None
            for needed, (one, norm, other) in zip(ctx.needs_input_grad, sides, strict=True)
        )


def _sum(one: Tensor, factor: Tensor, other: Tensor, others: Tensor) -> Tensor:
    """``factor * one + others * other``, as ``one`` lies in memory."""
    total = torch.empty_like(one)
    exact = total.dtype == factor.dtype
    for into, a, a_factor, b, b_factor in _parts(total, one, factor, other, others):
        value = torch.mul(precise(a), a_factor, out=into if exact else None)
        value.addcmul_(precise(b), b_factor)
        if not exact:
            into.copy_(value)
    return total


def _parts(first: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut tensors of as many images into parts of a few images; a GPU takes them at once."""
    if first.device.type != "cpu" or first.numel() <= AT_ONCE:
        return iter([(first, *others)])
    images = max(1, AT_ONCE // first[0].numel())
    return zip(*(torch.split(tensor, images) for tensor in (first, *others)), strict=True)
