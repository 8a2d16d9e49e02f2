"""Channel maps: what the channels of an activation respond to, one number each."""

from collections.abc import Callable

import torch
from torch import Tensor

# The paper leaves the formula of g_c open; `mean` is the plugin's default reading of it.
MAPPINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda a: a.mean((2, 3)),
    "abs_mean": lambda a: a.abs().mean((2, 3)),
    "square_mean": lambda a: a.square().mean((2, 3)),
    "max": lambda a: a.amax((2, 3)),
}


def channel_map(activation: Tensor, *, mapping: str = "mean") -> Tensor:
    r"""Channel map :math:`a = g_c(A)` of an activation, not yet normalised.

    Computed in float32 or, for float64 input, in float64.

    Args:
        activation: ``(N, C, H, W)``, any scale; ``(N, C)`` is a channel map already.
        mapping: ``mean``, ``abs_mean``, ``square_mean`` or ``max``, over the positions.

    Returns:
        ``(N, C)``.

    Raises:
        ValueError: if ``mapping`` is unknown or ``activation`` has neither 2 nor 4 dimensions.

    Source: MixACM, supplement A.2.

    Example:
        >>> channel_map(torch.tensor([[[[1.0, 3.0]], [[0.0, -4.0]]]])).tolist()
        [[2.0, -2.0]]
    """
    if mapping not in MAPPINGS:
        raise ValueError(f"mapping must be one of {', '.join(MAPPINGS)}; got {mapping!r}")
    if activation.ndim not in (2, 4):
        raise ValueError(f"channel_map needs (N, C, H, W) or (N, C), got {tuple(activation.shape)}")
    activation = activation.to(torch.promote_types(activation.dtype, torch.float32))
    return MAPPINGS[mapping](activation) if activation.ndim == 4 else activation


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
