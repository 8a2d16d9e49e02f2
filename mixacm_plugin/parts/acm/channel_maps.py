"""Channel maps: what the channels of an activation respond to, one number each."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Dims = tuple[int, ...]


class _Mean(torch.autograd.Function):
    """Mean over positions, in float32 or better.

    The gradient has the activation's own type and memory format. That of ``torch.mean`` has
    neither, so that every convolution before it would reorder its data in the backward pass.
    """

    @staticmethod
    def forward(activation: Tensor, positions: Dims) -> Tensor:
        return activation.mean(positions, dtype=_precise(activation.dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Dims], output: Tensor) -> None:
        activation, ctx.positions = inputs
        ctx.shape, ctx.dtype = activation.shape, activation.dtype
        ctx.strides = torch.empty_like(activation, device="meta").stride()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        for position in ctx.positions:
            gradient = gradient.unsqueeze(position)
        count = math.prod(ctx.shape[position] for position in ctx.positions)
        share = (gradient / count).to(ctx.dtype)
        whole = torch.empty_strided(ctx.shape, ctx.strides, dtype=ctx.dtype, device=share.device)
        return whole.copy_(share), None


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _mean(activation: Tensor, positions: Dims) -> Tensor:
    mean: Tensor = _Mean.apply(activation, positions)
    return mean


# The paper leaves the formula of g_c open; `mean` is the plugin's default reading of it.
MAPPINGS: dict[str, Callable[[Tensor, Dims], Tensor]] = {
    "mean": _mean,
    "abs_mean": lambda a, positions: _mean(a.abs(), positions),
    "square_mean": lambda a, positions: _mean(a.to(_precise(a.dtype)).square(), positions),
    "max": lambda a, positions: a.amax(positions).to(_precise(a.dtype)),
}


class Layout(NamedTuple):
    """Which dimensions of an activation are what."""

    shape: str
    channels: int
    positions: Dims


LAYOUTS = {
    "nchw": Layout("(N, C, H, W)", 1, (2, 3)),
    "nhwc": Layout("(N, H, W, C)", 3, (1, 2)),
    "tokens": Layout("(N, L, C)", 2, (1,)),
}


def channel_map(
    activation: Tensor, *, mapping: str = "mean", layout: str = "nchw", prefix_tokens: int = 0
) -> Tensor:
    r"""Channel map :math:`a = g_c(A)` of an activation, not yet normalised.

    Computed in float32 or, for float64 input, in float64.

    Args:
        activation: ``(N, C, H, W)``, any scale, or as its layout says; ``(N, C)`` is a channel map
            already.
        mapping: ``mean``, ``abs_mean``, ``square_mean`` or ``max``, over the positions.
        layout: ``nchw``; ``nhwc``, as in Swin transformers; ``tokens``, ``(N, L, C)``, as in ViTs.
        prefix_tokens: tokens at the beginning that are no positions, such as a ViT's class token.

    Returns:
        ``(N, C)``.

    Raises:
        ValueError: if ``mapping`` or ``layout`` is unknown, or ``activation`` has another number of
            dimensions or too few tokens.

    Source: MixACM, supplement A.2, which knows ``(N, C, H, W)`` only.

    Example:
        >>> channel_map(torch.tensor([[[[1.0, 3.0]], [[0.0, -4.0]]]])).tolist()
        [[2.0, -2.0]]
    """
    for name, value, known in (("mapping", mapping, MAPPINGS), ("layout", layout, LAYOUTS)):
        if value not in list(known):  # a list, since it may not be hashable
            raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    if activation.ndim == 2:
        return activation.to(_precise(activation.dtype))
    shape, _, positions = LAYOUTS[layout]
    if activation.ndim != len(positions) + 2:
        raise ValueError(
            f"channel_map needs {shape}, for the layout {layout}, or (N, C); got "
            f"{tuple(activation.shape)}"
        )
    if prefix_tokens:
        if layout != "tokens" or not 0 < prefix_tokens < activation.shape[1]:
            raise ValueError(
                f"prefix_tokens: expected fewer than the tokens of {LAYOUTS['tokens'].shape}; got "
                f"{prefix_tokens} of {tuple(activation.shape)} in the layout {layout}"
            )
        activation = activation[:, prefix_tokens:]
    return MAPPINGS[mapping](activation, positions)


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
