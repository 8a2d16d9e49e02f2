"""No attack."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base import Attack, Attacked


@dataclass(frozen=True)
class Clean(Attack):
    """No attack: the images as they are."""

    name = "clean"

    @property
    def title(self) -> str:
        """What a table says of it."""
        return "none"

    @property
    def short(self) -> str:
        """A column's title."""
        return "clean"

    def perturb(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Attacked:
        """Leave the images as they are."""
        standing = torch.ones(len(images), dtype=torch.bool, device=images.device)
        return Attacked(images, standing)
