"""A model whose passes run in another precision, memory format or compiled."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from logging import getLogger
from typing import Any

import torch
from torch import Tensor, nn

from ..common.outputs import in_float32

PRECISIONS = ("fp32", "bf16")

logger = getLogger(__name__)


def bfloat16_autocast(device: str) -> torch.autocast:
    """Return bfloat16 autocast, and warn once where the processor has no such arithmetic.

    Args:
        device: its type, such as ``cpu``.
    """
    if device == "cpu" and emulates_bfloat16():
        _warn_of_emulation()
    return torch.autocast(device, torch.bfloat16)


def emulates_bfloat16() -> bool:
    """Whether the processor has no such arithmetic, as far as torch tells."""
    has = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # without oneDNN, none
    return has is not None and not has()


@cache
def _warn_of_emulation() -> None:
    logger.warning(
        "this processor has no bfloat16: it is emulated, and a step takes many times as long "
        "as in float32; take --precision fp32"
    )


class Computed(nn.Module):
    """Run every pass of a model as told; its weights, hooks and modes are the model's own.

    It stands around a model for a while and is never saved.

    Args:
        model: takes ``(N, C, H, W)``, or anything.
        precision: ``fp32``, also where a caller's autocast says otherwise, or ``bf16``: bfloat16
            autocast, with outputs in float32. ``None`` leaves it to the caller.
        channels_last: give it images whose channels lie last in memory.
        run: what runs the model, such as itself compiled; by default itself.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: str | None = None,
        channels_last: bool = False,
        run: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self.precision, self.channels_last = precision, channels_last
        self.run = model if run is None else run

    def around(self, model: nn.Module) -> "Computed":
        """Return the same around another model."""
        return Computed(model, self.precision, self.channels_last)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the model's output."""
        if self.channels_last:
            args = tuple(_channels_last(value) for value in args)
        with self._precision(args):
            output = self.run(*args, **kwargs)
        return in_float32(output) if self.precision == "bf16" else output

    def _precision(self, args: tuple[Any, ...]) -> Any:
        if self.precision is None:
            return nullcontext()
        device = next((v.device.type for v in args if isinstance(v, Tensor)), "cpu")
        if self.precision == "bf16":
            return bfloat16_autocast(device)
        return torch.autocast(device, enabled=False)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)


def _channels_last(value: Any) -> Any:
    if isinstance(value, Tensor) and value.ndim == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value
