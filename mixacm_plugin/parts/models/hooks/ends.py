"""What hooked modules take and return in a pass."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ....common.modules import alone, find_module
from ....common.state import eval_mode, preserved_rng
from .trace import run


@dataclass
class Hooked:
    """A hooked end of a module, in one pass.

    Args:
        module: that is hooked.
        calls: how often it was called.
        shape: of what is hooked, of the last call; none unless it is a tensor alone.
    """

    module: nn.Module
    calls: int = 0
    shape: tuple[int, ...] = ()


@torch.no_grad()
def hooked_ends(
    model: nn.Module, ends: Iterable[tuple[str, str]], images: Tensor
) -> dict[tuple[str, str], Hooked]:
    """Return what is hooked in a pass over images, of the ends that are a module's.

    Args:
        model: left as it was.
        ends: path and ``input`` or ``output`` of modules.
        images: ``(N, C, H, W)``.

    Raises:
        ValueError: if the model doesn't take the images.
    """
    found: dict[tuple[str, str], Hooked] = {}
    with ExitStack() as stack:
        stack.enter_context(preserved_rng())
        stack.enter_context(eval_mode(model))
        for path, io in ends:
            module = find_module(model, path)
            if not isinstance(module, nn.Module):
                continue
            hooked = found[path, io] = Hooked(module)

            def note(_: Any, args: Any, output: Any, hooked: Hooked = hooked, io: str = io) -> None:
                value = args if io == "input" else output
                value = alone(value)
                hooked.calls += 1
                hooked.shape = tuple(value.shape) if isinstance(value, Tensor) else ()

            stack.callback(module.register_forward_hook(note).remove)
        run(model, images)
    return found
