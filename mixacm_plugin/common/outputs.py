"""What a classification model returns: its logits, and all of it in float32."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
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


def are_probabilities(answers: Tensor) -> bool:
    """Whether what should be logits ``(N, K)`` is a softmax: no value negative, rows of sum 1.

    The logarithms of probabilities are logits.

    Example:
        >>> logits = torch.tensor([[0.0, 3.0], [2.0, -1.0]])
        >>> [are_probabilities(x) for x in (logits, logits.softmax(1), logits.log_softmax(1))]
        [False, True, False]
    """
    sums = answers.sum(1)
    return bool((answers >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-2)


class LogitsOnly(nn.Module):
    """A model that returns its logits alone, for attacks.

    Args:
        model: whose output ``logits_of`` knows.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, K)`` of images, which stay as they are whatever the model does."""
        return logits_of(self.model(images.clone()))


class _InFloat32(Mapping[str, Any]):
    """A mapping whose values are made float32 when they are looked up: most never are."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return in_float32(self._values[name])

    def __getattr__(self, name: str) -> Any:  # as Hugging Face's outputs are looked up, too
        return in_float32(getattr(self._values, name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def precise(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 or better."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def in_float32(value: Any) -> Any:
    """Return a value whose tensors are float32 at least, in tuples and mappings too."""
    if isinstance(value, Tensor):
        return precise(value) if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return _InFloat32(value)
    if isinstance(value, tuple):
        parts = [in_float32(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
