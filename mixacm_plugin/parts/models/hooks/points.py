"""What hook points are."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from ...acm.positions import LAYOUTS


class HookPoint(NamedTuple):
    """What is hooked, and how its channels lie in it.

    Args:
        path: of the module.
        io: its ``input`` or its ``output``.
        layout: see ``channel_map``.
        prefix_tokens: likewise.
        shape: of what is hooked, without the batch; empty as long as no pass has shown it.
    """

    path: str
    io: str
    layout: str = "nchw"
    prefix_tokens: int = 0
    shape: tuple[int, ...] = ()

    @property
    def channels(self) -> int:
        """Return the number of channels; 0 as long as no pass has shown it."""
        if len(self.shape) == 1:  # a channel map already
            return self.shape[0]
        return self.shape[LAYOUTS[self.layout].channels - 1] if self.shape else 0

    def end(self) -> dict[str, Any]:
        """Return a side of a pair of ``ACMLoss``, with what differs from its defaults."""
        end: dict[str, Any] = {"path": self.path, "io": self.io}
        if self.layout != "nchw":
            end["layout"] = self.layout
        if self.prefix_tokens:
            end["prefix_tokens"] = self.prefix_tokens
        return end


@dataclass(frozen=True)
class HookPoints:
    """The blocks of a model: block 1 is its first layer, then come its stages, or their blocks.

    Args:
        family: what the model is, in words.
        raw: what each block returns.
        activated: the same after the next activation, or, where none follows, the block's own last
            one. Where a block ends in an activation of its own, that is the same point.
        stages: the stage of each block, the stem's being 0; empty where each block is a stage.
    """

    family: str
    raw: tuple[HookPoint, ...]
    activated: tuple[HookPoint, ...]
    stages: tuple[int, ...] = ()

    def blocks(self, *, activated: bool = True) -> tuple[HookPoint, ...]:
        """Return the points of either kind."""
        return self.activated if activated else self.raw

    def by_stage(self, *, activated: bool = True) -> list[list[HookPoint]]:
        """Return the points of either kind, a list a stage."""
        points = self.blocks(activated=activated)
        found: dict[int, list[HookPoint]] = {}
        for stage, point in zip(self.stages or range(len(points)), points, strict=True):
            found.setdefault(stage, []).append(point)
        return list(found.values())
