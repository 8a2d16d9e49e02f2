"""Convolutions whose weights get gradients that torch computes wrongly, refused before training."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn


@contextmanager
def refused_unset_gradients(model: nn.Module) -> Iterator[None]:
    """Refuse passes of a model after which weights would get gradients from unset memory.

    In bfloat16 on a CPU, torch 2.14's oneDNN leaves unset what the weights of a strided
    convolution of a single position get for positions that only padding has; it should be zero.

    Raises:
        ValueError: in such a pass, naming the module.
    """
    hooks = [
        module.register_forward_pre_hook(partial(_check, name), with_kwargs=True)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.weight.requires_grad
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check(name: str, module: nn.Conv2d, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    (images,) = args or kwargs.values()
    if (
        images.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and tuple(images.shape[-2:]) == (1, 1)
        and max(module.kernel_size) > 1
        and max(module.stride) > 1
    ):
        raise ValueError(
            f"'{name}' is a strided convolution of a single position, for which torch gives wrong "
            "gradients in bfloat16 on a CPU; take --precision fp32, or larger images"
        )
