"""Logits: taken out of what a classification model returns."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def logits_of(output: Any) -> Tensor:
    """Return the logits ``(N, K)`` of a model's output.

    Args:
        output: the logits; or a tuple or list that begins with them, as torchvision's auxiliary
            outputs do; or a mapping with ``logits``, as Hugging Face's models return.

    Raises:
        TypeError: if it is something else.
    """
    logits: Any = output
    if isinstance(output, Mapping) and "logits" in output:
        logits = output["logits"]
    elif isinstance(output, tuple | list) and output:
        logits = output[0]
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = f"a {type(output).__name__}"
        if isinstance(output, Tensor):
            found = f"a tensor of shape {tuple(output.shape)}"
        raise TypeError(
            f"the model returns {found}; expected logits (N, K), a tuple that begins with them, "
            "or a mapping with 'logits'"
        )
    return logits


class LogitsOnly(nn.Module):
    """A model that returns its logits alone, for attacks.

    Args:
        model: whose output ``logits_of`` knows.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, K)`` of images."""
        return logits_of(self.model(images))
