"""How far an evaluation is: a line that is redrawn on a terminal, or now and then one in a log."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm

from .attacks.base import Part

WIDTH = 79  # and the cursor
ON_TERMINAL, TO_FUNCTION, IN_LOG = 0.1, 1.0, 10.0  # seconds between two lines


class Progress:
    """Counts a model's passes under an attack, and tells how far it is.

    Args:
        title: of the attack.
        suite: its parts.
        n: images in all, also those that aren't loaded yet.
        to: where to tell it: on the standard error, nowhere, or to a function that takes it in
            few words.
    """

    def __init__(
        self, title: str, suite: Sequence[Part], n: int, to: bool | Callable[[str], None] = True
    ) -> None:
        self.title, self.suite, self.n, self.to = title, suite, n, to
        # Only on a terminal: a bar, so that lines of the log go above it.
        self.bar = tqdm(bar_format="{desc}", leave=False, disable=None if to is True else True)
        self.every = TO_FUNCTION if callable(to) else IN_LOG if self.bar.disable else ON_TERMINAL
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
        if now - self.told < self.every:
            return
        self.told = now
        seconds = now - self.started
        if callable(self.to):
            self.to(self.few_words(seconds))
        elif not self.bar.disable:
            self.bar.set_description_str(self.line(seconds)[:WIDTH])
        elif self.to:
            print(self.line(seconds), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave a terminal's line empty."""
        self.bar.close()

    def line(self, seconds: float) -> str:
        """Return what is told after so many seconds of attacks."""
        if self.part < 0:
            return f"{self.title}: {self.loaded} of {self.n} images loaded"
        part = f" {self.suite[self.part].name} ({self.part + 1} of {len(self.suite)}):"
        name = self.title + (f":{part}" if len(self.suite) > 1 else ":")
        left = f", about {self._left(seconds)} left" if self.passes else ""
        return f"{name} {self._at:.0f} of {self.images} images, {self.standing} stand{left}"

    def few_words(self, seconds: float) -> str:
        """Return in few words what is told after so many seconds of attacks."""
        if self.part < 0:
            return f"{self.title}: {self.loaded}/{self.n} loaded"
        part = f" {self.part + 1}/{len(self.suite)}" if len(self.suite) > 1 else ""
        left = f", {self._left(seconds)} left" if self.passes else ""
        return f"{self.title}{part}: {self._at:.0f}/{self.images} images{left}"

    @property
    def _at(self) -> float:
        """Images of the part that are done, by the passes of the batch."""
        passes = self.size * self.suite[self.part].passes
        return self.done + self.size * min(1.0, (self.passes - self.before) / max(1, passes))

    def _left(self, seconds: float) -> str:
        # What stands now is taken to stand until the end, so that it rather takes less.
        later = sum(other.passes for other in self.suite[self.part + 1 :])
        unloaded = (self.n - self.loaded) * sum(other.passes for other in self.suite)
        passes = (self.images - self._at) * self.suite[self.part].passes
        return _words(seconds * (passes + self.standing * later + unloaded) / self.passes)


def _words(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
