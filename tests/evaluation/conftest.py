"""What tests of evaluation share: a model that attacks fool."""

import socket

import pytest
import torch
from torch import nn

from recipes import digits


@pytest.fixture(scope="module")
def model():
    """The classifier by the nearest class mean, which needs no training and isn't robust."""
    train = digits("train")
    labels = torch.tensor(train.targets)
    means = torch.stack([train.images[labels == c].mean(0).flatten() for c in range(10)])
    linear = nn.Linear(means.shape[1], 10)
    with torch.no_grad():
        linear.weight.copy_(2 * means)
        linear.bias.copy_(-means.square().sum(1))
    return nn.Sequential(nn.Flatten(), linear)


@pytest.fixture
def free_port():
    """Return a port that nobody listens at."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
