"""Where a hooked activation has its channels: told by the module, or by images of another size."""

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    _AvgPoolNd,
    _MaxPoolNd,
)
from torchvision.models.convnext import LayerNorm2d

CHANNELS_FIRST = (
    _ConvNd,
    _BatchNorm,
    _InstanceNorm,
    nn.GroupNorm,
    LayerNorm2d,
    _AvgPoolNd,
    _MaxPoolNd,
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
)
CHANNELS_LAST = (nn.Linear, nn.LayerNorm)


def told_layout(
    module: nn.Module, shape: Sequence[int], doubled: Sequence[int] | None = None
) -> str | None:
    """Tell the layout of what a module takes or returns.

    Args:
        module: that is hooked.
        shape: of its input or output.
        doubled: the same for images of twice the height and width, if the model takes them.

    Returns:
        ``nchw``, ``nhwc``, ``tokens``, or ``ncl`` for channels before the positions of a sequence,
        which no layout of ``channel_map`` is; ``None`` where it can't be told.

    Example:
        >>> told_layout(nn.Conv2d(3, 8, 3), (1, 8, 5, 5))
        'nchw'
        >>> told_layout(nn.Identity(), (1, 5, 5, 8), (1, 10, 10, 8))
        'nhwc'
    """
    names = {4: {1: "nchw", 3: "nhwc"}, 3: {1: "ncl", 2: "tokens"}}.get(len(shape))
    if names is None:
        return None
    last = len(shape) - 1
    if isinstance(module, CHANNELS_FIRST):
        return names[1]
    if type(module).forward in [kind.forward for kind in CHANNELS_LAST]:  # timm has others
        return names[last]
    kept = {d for d in names if shape[d] == doubled[d]} if doubled else set(names)
    if doubled and len(kept) == 1:
        return names[kept.pop()]
    # Pooled to one position, or known by the widths of what is inside.
    single = {d for d in names if all(shape[o] == 1 for o in range(1, len(shape)) if o != d)}
    if len(single) == 1:
        return names[single.pop()]
    widths = set(_widths(module))
    known = {d for d in names if shape[d] in widths}
    return names[known.pop()] if len(known) == 1 else None


def _widths(module: nn.Module) -> Iterator[int]:
    """Numbers of channels that the parts of a module take or return."""
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            yield part.normalized_shape[-1]
        elif isinstance(part, nn.Linear):
            yield from (part.in_features, part.out_features)
        elif isinstance(part, nn.modules.conv._ConvNd):
            yield from (part.in_channels, part.out_channels)
        elif isinstance(part, _BatchNorm):
            yield part.num_features
