"""Where an activation has its channels and positions, and the cells that positions are cut into."""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor

from ...common.values import COUNT, Kind

Size = tuple[int, int]
FULL = "full"  # a grid of all positions
Grid: TypeAlias = int | str
GRID = Kind(f"{COUNT.words}, or {FULL}", lambda value: value == FULL or COUNT.holds(value))


class Layout(NamedTuple):
    """Where an activation has its channels."""

    shape: str
    channels: int


LAYOUTS = {
    "nchw": Layout("(N, C, H, W)", 1),
    "nhwc": Layout("(N, H, W, C)", 3),
    "tokens": Layout("(N, L, C)", 2),
}


def size_of(shape: Sequence[int], layout: str) -> Size | None:
    """Return the height and width of an activation; ``None`` of tokens and of channel maps.

    Example:
        >>> size_of((1, 4, 8, 5), "nhwc")
        (4, 8)
    """
    if len(shape) != 4 or layout == "tokens":
        return None
    first = 2 if layout == "nchw" else 1
    return shape[first], shape[first + 1]


def at_positions(
    activation: Tensor, *, layout: str = "nchw", prefix_tokens: int = 0, beside: Size = (1, 1)
) -> Tensor:
    """View an activation as ``(N, C, H, W)``.

    Args:
        activation: as its layout says; see ``channel_map``.
        layout: likewise.
        prefix_tokens: likewise.
        beside: height and width of another activation of the same images, in whose proportions
            tokens lie; by default they form a square.

    Returns:
        A view. Tokens that don't form such a rectangle are in one column.

    Raises:
        ValueError: on another number of dimensions, or too few tokens.

    Example:
        >>> import torch
        >>> at_positions(torch.zeros(1, 8, 5), layout="tokens", beside=(4, 8)).shape
        torch.Size([1, 5, 2, 4])
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
    whole = activation if channels == 1 else activation.movedim(channels, 1)
    if layout == "tokens":
        count, (height, width) = whole.shape[2], beside
        rows = max(1, math.isqrt(count * height // width))
        fits = count % rows == 0 and rows * width == count // rows * height
        whole = whole.reshape(*whole.shape[:2], rows if fits else count, -1)
    return whole


def in_a_column(whole: Tensor, *, layout: str, beside: Size = (1, 1)) -> bool:
    """Tell whether tokens are in one column since they form no rectangle.

    Args:
        whole: from ``at_positions``.
        layout: of the activation that it views.
        beside: as there.
    """
    count, width = whole.shape[2:]
    return layout == "tokens" and width == 1 < count and count * beside[1] != beside[0]


def cells_of(grid: Grid, *activations: Tensor, columns: bool = False) -> tuple[int, int]:
    """Return rows and columns of cells: as many as a grid asks for and all activations have.

    Args:
        grid: see ``channel_map``.
        activations: ``(N, C, H, W)``; a channel map ``(N, C)`` has one cell.
        columns: whether there are tokens ``in_a_column`` among them.

    Raises:
        ValueError: on another grid, or of tokens in one column.
    """
    sizes = [tuple(a.shape[2:]) if a.ndim == 4 else (1, 1) for a in activations]
    if not GRID.holds(grid):
        raise ValueError(f"grid: expected {GRID.words}; found {grid!r}")
    if columns and not (grid == FULL and len(set(sizes)) == 1):
        tokens = next(size[0] for size in sizes if size[1] == 1 < size[0])
        raise ValueError(
            f"grid: {tokens} tokens form no square, or not the other side's rectangle; "
            "write grid: 1"
        )
    side = sys.maxsize if grid == FULL else int(grid)
    return min(side, *(size[0] for size in sizes)), min(side, *(size[1] for size in sizes))
