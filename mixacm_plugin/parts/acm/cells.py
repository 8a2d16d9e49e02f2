"""The distance of channel maps of many cells, where they are: its cost is what it reads."""

from typing import Any

import torch
from torch import Tensor


def cell_distance(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Return ``acm_loss``, of channel maps that lie as activations do.

    Of maps of unit norm the squared difference is :math:`2 - 2 \cos`: three sums over channels,
    where ``acm_loss`` divides and subtracts whole maps. A map whose squares vanish in its type
    (below about 1e-22 in float32) counts as zero.

    Args:
        student: ``(N, C, ...)``, any scale, in float32 or better.
        teacher: the same shape and type.

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
        own, taught = (_inverse_norm(maps) for maps in (student, teacher))
        cosine = (student * teacher).sum(1, keepdim=True) * own * taught
        ctx.save_for_backward(student, teacher, own, taught, cosine)
        lengths = own.sign() + taught.sign()  # squared: 1, or 0 of a map that is zero
        return (lengths - 2 * cosine).clamp(min=0).mean() / student.shape[1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        student, teacher, own, taught, cosine = ctx.saved_tensors
        share = 2 * gradient / student.numel()
        across = -share * own * taught
        return (
            _sum(student, share * cosine * own**2, teacher, across)
            if ctx.needs_input_grad[0]
            else None,
            _sum(teacher, share * cosine * taught**2, student, across)
            if ctx.needs_input_grad[1]
            else None,
        )


def _inverse_norm(maps: Tensor) -> Tensor:
    """1 / norm over channels, 0 where it is 0; torch's vector_norm is slow along them."""
    squares = maps.square().sum(1, keepdim=True)
    return torch.where(squares == 0, 0, squares.rsqrt())


def _sum(one: Tensor, factor: Tensor, other: Tensor, others: Tensor) -> Tensor:
    return torch.addcmul(one * factor, other, others)
