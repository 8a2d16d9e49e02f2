"""Models that take images in [0, 1] and normalise them inside."""

from .hendrycks_wide_resnet import HendrycksWideResNet, hendrycks_wide_resnet
from .normalization import normalize_inside, normalized
from .wide_resnet import WideResNet, dm_wide_resnet

__all__ = [
    "HendrycksWideResNet",
    "WideResNet",
    "dm_wide_resnet",
    "hendrycks_wide_resnet",
    "normalize_inside",
    "normalized",
]
