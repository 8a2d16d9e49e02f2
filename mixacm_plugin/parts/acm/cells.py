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
        sums = [
            torch.stack([(a * b).sum(1, keepdim=True) for a, b in ((s, s), (t, t), (s, t))])
            for s, t in (map(precise, part) for part in _parts(student, teacher))
        ]
        own, taught, both = torch.cat(sums, 1)
        own, taught = _inverse_norm(own), _inverse_norm(taught)
        cosine = both * own * taught
        ctx.save_for_backward(student, teacher, own, taught, cosine)
        lengths = own.sign() + taught.sign()  # squared: 1, or 0 of a map that is zero
        distances: Tensor = (lengths - 2 * cosine).clamp(min=0)
        return distances.mean() / student.shape[1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        student, teacher, own, taught, cosine = ctx.saved_tensors
        share = 2 * gradient / student.numel()
        across = -share * own * taught
        along_own, along_taught = share * cosine * own**2, share * cosine * taught**2
        for_student, for_teacher = ctx.needs_input_grad
        return (
            _sum(student, along_own, teacher, across) if for_student else None,
            _sum(teacher, along_taught, student, across) if for_teacher else None,
        )


def _inverse_norm(squares: Tensor) -> Tensor:
    """1 / norm of a map by its sum of squares, 0 where 1 / squares may be infinite."""
    return torch.where(squares < torch.finfo(squares.dtype).tiny, 0, squares.rsqrt())


def _sum(one: Tensor, factor: Tensor, other: Tensor, others: Tensor) -> Tensor:
    """``factor * one + others * other``, as ``one`` lies in memory."""
    total = torch.empty_like(one)
    for into, *given in _parts(total, one, factor, other, others):
        a, a_factor, b, b_factor = map(precise, given)
        into.copy_(torch.addcmul(a * a_factor, b, b_factor))
    return total


def _parts(first: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut tensors of as many images into parts of a few images; a GPU takes them at once."""
    on_cpu = first.device.type == "cpu"
    images = max(1, AT_ONCE // first[0].numel()) if on_cpu else len(first)
    return zip(*(torch.split(tensor, images) for tensor in (first, *others)), strict=True)
