"""Channel maps: what the channels of an activation respond to, one number each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.outputs import precise
from .positions import LAYOUTS, Grid, Size, at_positions, cells_of, in_a_column

POSITIONS = (2, 3)


class _Mean(torch.autograd.Function):
    """Mean over positions, in float32 or better.

    The gradient has the activation's own type and memory format. That of ``torch.mean`` has
    neither, so that every convolution before it would reorder its data in the backward pass.
    """

    @staticmethod
    def forward(activation: Tensor) -> Tensor:
        dtype = torch.promote_types(activation.dtype, torch.float32)
        return activation.mean(POSITIONS, dtype=dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        (activation,) = inputs
        ctx.shape, ctx.dtype = activation.shape, activation.dtype
        ctx.strides = torch.empty_like(activation, device="meta").stride()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        share = _share(gradients[0], ctx.shape).to(ctx.dtype)
        whole = torch.empty_strided(ctx.shape, ctx.strides, dtype=ctx.dtype, device=share.device)
        return whole.copy_(share)


class _MeanSquare(torch.autograd.Function):
    """Mean of squares over positions, in float32 or better; its gradient is as ``_Mean``'s."""

    @staticmethod
    def forward(activation: Tensor) -> Tensor:
        return _square(activation).mean(POSITIONS)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        activation: Tensor = ctx.saved_tensors[0]
        return activation * _share(2 * gradients[0], activation.shape).to(activation.dtype)


def _share(gradient: Tensor, shape: torch.Size) -> Tensor:
    """Return each position's part of the gradient of a mean."""
    return gradient[:, :, None, None] / (shape[2] * shape[3])


def _mean(activation: Tensor) -> Tensor:
    mean: Tensor = _Mean.apply(activation)
    return mean


def _mean_abs(activation: Tensor) -> Tensor:
    return _mean(activation.abs())


def _mean_square(activation: Tensor) -> Tensor:
    mean: Tensor = _MeanSquare.apply(activation)
    return mean


def _max(activation: Tensor) -> Tensor:
    """Largest value; its gradient goes to the first of equal ones, as in torch's pooling.

    That of ``torch.amax`` is shared among them, for which it reads the whole activation twice.
    """
    if activation.is_contiguous(memory_format=torch.channels_last):  # which the gradient has then
        if activation.device.type == "cpu":  # of CUDA, a single thread would pool a channel
            return F.adaptive_max_pool2d(activation, 1).flatten(1)
        return activation.movedim(1, -1).flatten(1, 2).max(1).values
    return activation.flatten(2).max(2).values


class Reduction(NamedTuple):
    """A mapping: of a whole activation; and of cells, what is made of the values and reduced."""

    whole: Callable[[Tensor], Tensor]
    values: Callable[[Tensor], Tensor]
    cells: Callable[[Tensor, Size], Tensor]


def _as_it_is(activation: Tensor) -> Tensor:
    return activation


def _square(activation: Tensor) -> Tensor:
    return precise(activation).square()


def _mean_of_cells(values: Tensor, cells: Size) -> Tensor:
    return F.adaptive_avg_pool2d(precise(values), cells)


# The paper leaves the formula of g_c open; `mean` is the plugin's default reading of it.
MAPPINGS = {
    "mean": Reduction(_mean, _as_it_is, _mean_of_cells),
    "abs_mean": Reduction(_mean_abs, torch.abs, _mean_of_cells),
    "square_mean": Reduction(_mean_square, _square, _mean_of_cells),
    "max": Reduction(_max, _as_it_is, F.adaptive_max_pool2d),
}


def channel_map(
    activation: Tensor,
    *,
    mapping: str = "mean",
    layout: str = "nchw",
    prefix_tokens: int = 0,
    grid: Grid = 1,
) -> Tensor:
    r"""Channel map :math:`a = g_c(A)` of an activation, not yet normalised.

    Computed in float32 or, for float64 input, in float64.

    Args:
        activation: ``(N, C, H, W)``, any scale, or as its layout says; ``(N, C)`` is a channel map
            already.
        mapping: ``mean``, ``abs_mean``, ``square_mean`` or ``max``, over the positions.
        layout: ``nchw``; ``nhwc``, as in Swin transformers; ``tokens``, ``(N, L, C)``, as in ViTs.
        prefix_tokens: tokens at the beginning that are no positions, such as a ViT's class token.
        grid: cells a side, each with a channel map of its own; no more than there are positions,
            and ``full`` for as many. Uneven cells overlap, as those of torch's adaptive pooling. 1
            is the paper's.

    Returns:
        ``(N, C)``, or ``(N · cells, C)``, an image's cells in a row.

    Raises:
        ValueError: if ``mapping``, ``layout`` or ``grid`` is unknown, or ``activation`` has another
            number of dimensions, too few tokens, or tokens that form no square for a grid.

    Source: MixACM, supplement A.2, which knows ``(N, C, H, W)`` and one map only.

    Example:
        >>> channel_map(torch.tensor([[[[1.0, 3.0]], [[0.0, -4.0]]]])).tolist()
        [[2.0, -2.0]]
    """
    for name, value, known in (("mapping", mapping, MAPPINGS), ("layout", layout, LAYOUTS)):
        if value not in list(known):  # a list, since it may not be hashable
            raise ValueError(f"{name} must be one of {', '.join(known)}; found {value!r}")
    if activation.ndim == 2:
        return precise(activation)
    whole = at_positions(activation, layout=layout, prefix_tokens=prefix_tokens)
    if grid != 1:
        cells = cells_of(grid, whole, columns=in_a_column(whole, layout=layout))
        return rows_of(cell_maps(whole, mapping, cells))
    return precise(MAPPINGS[mapping].whole(whole))


def cell_maps(activation: Tensor, mapping: str, cells: tuple[int, int]) -> Tensor:
    """Channel map of each cell, where the cell is: what ``rows_of`` puts in rows.

    Args:
        activation: ``(N, C, H, W)``, any scale; ``(N, C)`` has one cell.
        mapping: see ``channel_map``.
        cells: rows and columns, no more than positions.

    Returns:
        ``(N, C, rows, columns)``, in float32 or better, but where a cell is a single position: an
        activation isn't copied.
    """
    whole = activation if activation.ndim == 4 else activation[:, :, None, None]
    values = MAPPINGS[mapping].values(whole) if activation.ndim == 4 else whole
    if cells == whole.shape[2:]:
        return values
    return precise(MAPPINGS[mapping].cells(values, cells))


def rows_of(maps: Tensor) -> Tensor:
    """Put channel maps of cells, ``(N, C, rows, columns)``, in precise rows: ``(N · cells, C)``."""
    return precise(maps).movedim(1, -1).flatten(0, 2)


def normalize_map(maps: Tensor) -> Tensor:
    """Divide each channel map by its magnitude.

    Args:
        maps: ``(N, C)``, any scale.

    Returns:
        ``(N, C)``, unit norm per image; zero, with zero gradient, where the map is zero.

    Source: MixACM, supplement A.2.

    Example:
        >>> normalize_map(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    # An activation has no scale of its own, so none counts as zero but zero: divided by the largest
    # entry first, squares of small ones don't vanish. torch.nn.functional.normalize has a floor.
    largest = maps.detach().abs().amax(1, keepdim=True)
    zero = largest == 0
    scaled = maps / largest.masked_fill(zero, 1)
    norm = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    normalised: Tensor = scaled / norm.masked_fill(zero, 1)
    return normalised.masked_fill(zero, 0)
