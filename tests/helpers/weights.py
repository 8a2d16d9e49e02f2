"""Weights: of a model that was never trained, copied, and compared."""

from pathlib import Path

import torch
from torch import Tensor, nn

from mixacm_plugin import dm_wide_resnet


def checkpoint(path: str, seed: int, width: int = 1) -> str:
    """Write the weights of a WRN-10 that was never trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(dm_wide_resnet(10, width, 10).state_dict(), path)
    return path


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's parameters and buffers."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that differ in a bit; both must hold the same names."""
    assert list(one) == list(other)
    return [name for name in one if not torch.equal(one[name], other[name])]


def prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same weights by longer names."""
    return {prefix + name: value for name, value in weights.items()}
