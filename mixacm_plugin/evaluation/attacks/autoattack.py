"""AutoAttack, by pyautoattack."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .base import Attacked, BallAttack, Part, setting
from .pyautoattack_suite import Suite, square_found

# Parts of each version, and the passes that an image takes in them at most (``Attack.passes``).
PASSES = {
    "standard": {
        "apgd-ce": 101 * 3,
        "apgd-t": 9 * 101 * 3,
        "fab-t": 9 * 100 * 4,
        "square": 5000,
    },
    "rand": {"apgd-ce": 101 * 20 * 3, "apgd-dlr": 101 * 20 * 3},
}


def version(text: str) -> str:
    """Check a flag's version of AutoAttack."""
    if text not in PASSES:
        raise ValueError(f"version must be one of {', '.join(PASSES)}; found {text!r}")
    return text


@dataclass(frozen=True)
class AutoAttack(BallAttack):
    """AutoAttack: by default two APGDs, FAB and Square, without parameters.

    Args:
        norm: ``Linf`` or ``L2``.
        eps: radius of the ball, in pixels of range [0, 1]; ``8/255`` may be written as such.
        version: ``standard``, or ``rand`` for randomised models: APGD on the mean of 20 gradients.

    Raises:
        ValueError: on other values.

    Source: Croce & Hein 2020; ``pyautoattack``.
    """

    name = "autoattack"
    version: str = setting("standard", "standard, or rand for randomised models", version)

    def __post_init__(self) -> None:
        super().__post_init__()
        version(self.version)

    @property
    def title(self) -> str:
        """Its version."""
        return f"AutoAttack ({self.version})"

    @property
    def short(self) -> str:
        """A column's title."""
        return "AutoAttack"

    def details(self) -> dict[str, str]:
        """Each setting in words."""
        return {**super().details(), "version": self.version}

    @property
    def passes(self) -> int:
        """Of all parts."""
        return sum(PASSES[self.version].values())

    def suite(self) -> Sequence[Part]:
        """Return the parts of its version."""
        suite = Suite(*self.ball, version=self.version)
        return [
            Part(name, partial(_perturb, suite, [name]), passes)
            for name, passes in PASSES[self.version].items()
        ]

    def verdict(self, standing: Sequence[int], n: int) -> list[str]:
        """Return AutoAttack's own warning where Square finds what gradients didn't."""
        return square_found(dict(zip(PASSES[self.version], standing, strict=True)), n)

    def check_model(self, model: nn.Module, images: Tensor) -> None:
        """Raise ``ValueError`` if there are too few classes to attack towards, too."""
        super().check_model(model, images)
        _other_classes(model, images)

    def perturb(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Attacked:
        """Attack with each part what still stands, as one batch."""
        suite = Suite(*self.ball, version=self.version)
        return _perturb(suite, list(PASSES[self.version]), model, images, labels, seed)


def _perturb(
    suite: Suite, parts: list[str], model: nn.Module, images: Tensor, labels: Tensor, seed: int
) -> Attacked:
    # The standard version attacks towards nine other classes; there may be fewer.
    targets = min(9, _other_classes(model, images))
    return suite.perturb(parts, model, images, labels, seed, targets)


def _other_classes(model: nn.Module, images: Tensor) -> int:
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    if classes < 4:
        raise ValueError(
            f"AutoAttack needs at least 4 classes; found {classes}: take pgd, and square"
        )
    return int(classes) - 1
