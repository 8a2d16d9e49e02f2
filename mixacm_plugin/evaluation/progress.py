"""How far an evaluation is: a line that is redrawn on a terminal, or now and then one in a log."""

import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from torch import Tensor, nn

from .attacks.base import Part

WIDTH = 79  # and the cursor
ON_TERMINAL, IN_LOG = 0.1, 10.0  # seconds between two lines


class Progress:
    """Counts a model's passes under an attack, and tells how far it is.

    Args:
        title: of the attack.
        suite: its parts.
        n: images in all, also those that aren't loaded yet.
        stream: where to tell it; nowhere by ``None``.
    """

    def __init__(
        self, title: str, suite: Sequence[Part], n: int, stream: TextIO | None = sys.stderr
    ) -> None:
        self.title, self.suite, self.n, self.stream = title, suite, n, stream
        self.terminal = stream is not None and stream.isatty()
        self.started = self.told = time.monotonic()
        self.loaded = 0  # images that the model has classified
        self.passes = 0  # of images through the model under attack
        self.part = -1
        self.begin_part(-1, 0)

    def begin_part(self, number: int, standing: int) -> None:
        """Begin with a part of the suite, on so many images; with none by -1."""
        if number >= 0 and self.part < 0 and self.passes == 0:
            self.started = time.monotonic()
        self.part, self.standing, self.images = number, standing, standing
        self.begin_batch(0, 0)

    def begin_batch(self, done: int, size: int) -> None:
        """Begin with a batch of the part, after so many images."""
        self.done, self.size, self.before = done, size, self.passes
        self.tell()

    def watch(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Count a pass; a forward hook of the model."""
        if self.part >= 0:
            images: Tensor = args[0]
            self.passes += len(images) * (3 if images.requires_grad else 1)
            self.tell()

    def tell(self) -> None:
        """Tell how far it is, if it is time to."""
        now = time.monotonic()
        if self.stream is None or now - self.told < (ON_TERMINAL if self.terminal else IN_LOG):
            return
        self.told = now
        text = self.line(now - self.started)[:WIDTH]
        self.stream.write(f"\r{text:{WIDTH}}" if self.terminal else f"{text}\n")
        self.stream.flush()

    def close(self) -> None:
        """Leave a terminal's line empty."""
        if self.stream is not None and self.terminal:
            self.stream.write(f"\r{'':{WIDTH}}\r")
            self.stream.flush()

    def line(self, seconds: float) -> str:
        """Return what is told after so many seconds of attacks."""
        if self.part < 0:
            return f"{self.title}: {self.loaded} of {self.n} images loaded"
        part = self.suite[self.part]
        inside = min(1.0, (self.passes - self.before) / max(1, self.size * part.passes))
        at = self.done + inside * self.size
        # What stands now is taken to stand until the end, so that it rather takes less.
        later = sum(other.passes for other in self.suite[self.part + 1 :])
        unloaded = (self.n - self.loaded) * sum(other.passes for other in self.suite)
        passes = (self.images - at) * part.passes + self.standing * later + unloaded
        left = f", about {_words(seconds * passes / self.passes)} left" if self.passes else ""
        several = f" {part.name} ({self.part + 1} of {len(self.suite)}):"
        name = self.title + (f":{several}" if len(self.suite) > 1 else ":")
        return f"{name} {at:.0f} of {self.images} images, {self.standing} stand{left}"


def _words(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
