"""Channel maps: what the channels of an activation respond to, one number each."""

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.outputs import precise

Size = tuple[int, int]
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
FULL = "full"  # a grid of all positions
Grid: TypeAlias = int | str | tuple[int, int]


class Layout(NamedTuple):
    """Where an activation has its channels."""

    shape: str
    channels: int


LAYOUTS = {
    "nchw": Layout("(N, C, H, W)", 1),
    "nhwc": Layout("(N, H, W, C)", 3),
    "tokens": Layout("(N, L, C)", 2),
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
        grid: cells a side, or rows and columns of them, each with a channel map of its own; no more
            than there are positions, and ``full`` for as many. Uneven cells overlap, as those of
            torch's adaptive pooling. 1 is the paper's.

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
        return rows_of(cell_maps(whole, mapping, cells_of(grid, whole)))
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


def at_positions(activation: Tensor, *, layout: str = "nchw", prefix_tokens: int = 0) -> Tensor:
    """View an activation as ``(N, C, H, W)``.

    Args:
        activation: as its layout says; see ``channel_map``.
        layout: likewise.
        prefix_tokens: likewise.

    Returns:
        A view. Tokens that form a square do so, others one column.

    Raises:
        ValueError: on another number of dimensions, or too few tokens.
    """
    shape, channels = LAYOUTS[layout]
    if activation.ndim != shape.count(",") + 1:
        raise ValueError(
            f"channel_map needs {shape}, for the layout {layout}, or (N, C); found "
            f"{tuple(activation.shape)}"
        )
    if prefix_tokens:
        if layout != "tokens" or not 0 < prefix_tokens < activation.shape[1]:
            raise ValueError(
                f"prefix_tokens: expected fewer than the tokens of {LAYOUTS['tokens'].shape}; "
                f"found {prefix_tokens} of {tuple(activation.shape)} in the layout {layout}"
            )
        activation = activation[:, prefix_tokens:]
    whole = activation.movedim(channels, 1)
    if layout == "tokens":
        side = math.isqrt(whole.shape[2])
        columns = side if side**2 == whole.shape[2] else 1
        whole = whole.reshape(*whole.shape[:2], -1, columns)
    return whole


def cells_of(grid: Grid, *activations: Tensor) -> tuple[int, int]:
    """Return rows and columns of cells: as many as a grid asks for and all activations have.

    Args:
        grid: see ``channel_map``.
        activations: ``(N, C, H, W)``; a channel map ``(N, C)`` has one cell.

    Raises:
        ValueError: on another grid, or of tokens that form no square.
    """
    sizes = [tuple(a.shape[2:]) if a.ndim == 4 else (1, 1) for a in activations]
    if isinstance(grid, tuple):
        rows, columns = grid
    elif grid == FULL:
        rows = columns = sys.maxsize
    elif isinstance(grid, int) and not isinstance(grid, bool) and grid > 0:
        rows = columns = grid
    else:
        raise ValueError(f"grid: expected a whole number of at least 1, or full; found {grid!r}")
    row = next((size[0] for size in sizes if size[1] == 1 < size[0]), None)
    fits = isinstance(grid, tuple) or (grid == FULL and len(set(sizes)) == 1)
    if row is not None and not fits:
        raise ValueError(f"grid: {row} positions form no square; write grid: 1")
    return min(rows, *(size[0] for size in sizes)), min(columns, *(size[1] for size in sizes))


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
    scaled = maps / torch.where(zero, 1, largest)
    norm = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return torch.where(zero, 0, scaled / torch.where(zero, 1, norm))
