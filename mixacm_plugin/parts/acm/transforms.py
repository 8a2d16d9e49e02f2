"""Transforms: make the channel counts of two channel maps equal (paper, supplement A.4.6)."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


def _pool(maps: Tensor, channels: int, *, pool: Callable[[Tensor, int], Tensor]) -> Tensor:
    # The channels of (N, C) are the positions of a 1-d signal with one channel.
    return pool(maps.unsqueeze(1), channels).squeeze(1)


# A new kind of transform without parameters goes here: (N, C) and a channel count to (N, count).
POOLINGS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "adaptive_max_pool": partial(_pool, pool=F.adaptive_max_pool1d),
    "adaptive_avg_pool": partial(_pool, pool=F.adaptive_avg_pool1d),
}


def resize_channels(maps: Tensor, channels: int, *, kind: str) -> Tensor:
    """Pool a channel map over the channel axis to a given number of channels, fewer or more.

    Args:
        maps: ``(N, C)``.
        channels: target number of channels, at least 1.
        kind: ``adaptive_max_pool`` or ``adaptive_avg_pool``.

    Returns:
        ``(N, channels)``.

    Raises:
        ValueError: if ``kind`` is unknown.

    Source: MixACM, supplement A.4.6 and Table 9.

    Example:
        >>> import torch
        >>> resize_channels(torch.tensor([[1., 2., 3., 4.]]), 2, kind="adaptive_max_pool").tolist()
        [[2.0, 4.0]]
    """
    if kind not in POOLINGS:
        raise ValueError(f"kind must be one of {', '.join(POOLINGS)}; found {kind!r}")
    return POOLINGS[kind](maps, channels)


def affine(in_channels: int, out_channels: int, bias: bool = True) -> nn.Linear:
    """Learnable affine transform of a channel map, for a ``FrozenTeacher`` to own.

    Args:
        in_channels: channels of the side that is transformed.
        out_channels: channels of the other side.
        bias: whether to learn an offset.

    Returns:
        Takes ``(N, in_channels)``, gives ``(N, out_channels)``.

    Source: MixACM, supplement A.4.6 ("a fully connected layer").
    """
    return nn.Linear(in_channels, out_channels, bias=bias)
