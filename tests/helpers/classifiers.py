"""A classifier of digits that learnt something, and the same with other logits."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recipes import digits


@cache
def trained_network() -> nn.Module:
    """A network with a hidden layer, trained to tell the digits apart."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(30):
        for images, labels in DataLoader(digits("train"), 100, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    return network


class Scaled(nn.Module):
    """Logits times a number: the same classes, the same decision boundary.

    By a large one, float32's softmax has no gradient.
    """

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * self.model(images)
