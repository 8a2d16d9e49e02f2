"""Batches as the host's loaders yield them."""

from typing import Any

import torch
from torch import Tensor


def unpack(batch: Any, device: torch.device) -> tuple[Tensor, Tensor, Any]:
    """Images, targets and the host's supplementary dict of a batch, on the device."""
    images, targets, *rest = batch
    return images.to(device), targets.to(device), rest[0] if rest else None


def check_images(images: Tensor) -> None:
    """Raise ``ValueError`` unless images are finite floats in [0, 1]."""
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; expected floats in [0, 1]")
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images range from {low:.3g} to {high:.3g}; expected [0, 1], so that ε means pixels. "
            "Normalise inside the model (dm_wide_resnet, normalized), not in the dataset"
        )
