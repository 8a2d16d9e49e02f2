"""Models that take images in [0, 1] and normalise them inside."""

from .normalization import normalize_inside, normalized
from .wide_resnet import WideResNet, dm_wide_resnet

__all__ = ["WideResNet", "dm_wide_resnet", "normalize_inside", "normalized"]
