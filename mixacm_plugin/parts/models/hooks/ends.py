"""What hooked modules take and return in a pass, and where that has its channels."""

from collections.abc import Collection, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....common.modules import alone, find_module
from ....common.state import eval_mode, preserved_modules, preserved_rng
from ..layouts import told_layout
from .trace import Node, ends_seen, run

End = tuple[str, str]  # a module's path, and input or output


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
    model: nn.Module, ends: Iterable[End], images: Tensor, *, training: bool = False
) -> dict[End, Hooked]:
    """Return what is hooked in a pass over images, of the ends that are a module's.

    Args:
        model: left as it was.
        ends: path and ``input`` or ``output`` of modules.
        images: ``(N, C, H, W)``.
        training: whether the pass is in train mode.

    Raises:
        ValueError: if the model doesn't take the images.
    """
    found: dict[End, Hooked] = {}
    with ExitStack() as stack:
        stack.enter_context(preserved_rng())
        stack.enter_context(preserved_modules(model) if training else eval_mode(model))
        model.train(training)
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


@dataclass
class Passes:
    """What is hooked in a pass over an image, in one at twice its size, and in one over it twice.

    Args:
        model: that was passed.
        image: ``(1, C, H, W)``.
        plain: from ``hooked_ends``.
        doubled: likewise; empty if the model doesn't take that size.
        two: likewise; empty if all that is hooked begins with the image, or it takes one alone.
    """

    model: nn.Module
    image: Tensor
    plain: dict[End, Hooked] = field(default_factory=dict)
    doubled: dict[End, Hooked] = field(default_factory=dict)
    two: dict[End, Hooked] = field(default_factory=dict)

    @cached_property
    def _traced(self) -> dict[End, Node]:
        """What the operations of another pass show, for what nothing else tells."""
        return ends_seen(self.model, self.image.shape[1:])

    def layout(self, end: End) -> tuple[str | None, int | None]:
        """Tell the layout of what is hooked, as ``told_layout``, and its tokens of no position.

        Returns:
            ``None`` for either that can't be told.
        """
        hooked, doubled = self.plain[end], self.doubled.get(end)
        told = told_layout(hooked.module, hooked.shape, doubled.shape if doubled else None)
        if told in (None, "tokens") and (node := self._traced.get(end)):
            return told or node.layout, node.prefix
        return told, None

    def rows(self, end: End) -> int | None:
        """Tell how many rows an image has; ``None`` if another dimension than the first grows."""
        rows, two = self.plain[end].shape[0], self.two.get(end)
        return None if two and two.shape[:1] == (rows,) else rows


def passes_over(model: nn.Module, ends: Collection[End], image: Tensor) -> Passes:
    """Pass an image, and the same at twice its size.

    Args:
        model: left as it was.
        ends: of which modules; without any nothing is passed.
        image: ``(1, C, H, W)``, left as it was; of another number of dimensions nothing is passed.

    Raises:
        ValueError: if the model doesn't take the image.
    """
    seen = Passes(model, image)
    if ends and image.ndim == 4:
        seen.plain = hooked_ends(model, ends, image.clone())  # a model may change its images
        with suppress(ValueError):  # it may take images of one size
            seen.doubled = hooked_ends(model, ends, F.interpolate(image, scale_factor=2.0))
        if any(hooked.shape[:1] > (1,) for hooked in seen.plain.values()):
            with suppress(ValueError):
                seen.two = hooked_ends(model, ends, image.repeat(2, 1, 1, 1))
    return seen
