"""AutoAttack, by pyautoattack."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base import BallAttack


@dataclass(frozen=True)
class AutoAttack(BallAttack):
    """AutoAttack's standard version: two APGDs, FAB and Square, without parameters.

    Args:
        norm: ``Linf`` or ``L2``.
        eps: radius of the ball, in pixels of range [0, 1]; ``8/255`` may be written as such.

    Raises:
        ValueError: on other values.

    Source: Croce & Hein 2020; ``pyautoattack``.
    """

    name = "autoattack"

    @property
    def title(self) -> str:
        """Its version."""
        return "AutoAttack (standard)"

    @property
    def short(self) -> str:
        """A column's title."""
        return "AutoAttack"

    def check_model(self, model: nn.Module, images: Tensor) -> None:
        """Raise ``ValueError`` if there are too few classes to attack towards."""
        _other_classes(model, images)

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Attack with each part what still stands."""
        import pyautoattack  # only here, since it takes a while

        logging.getLogger("auto-attack").setLevel(logging.WARNING)
        others = _other_classes(model, images)
        norm, eps = self.ball
        attack = pyautoattack.AutoAttack(
            model, norm=norm, eps=eps, seed=seed, version="standard", device=images.device
        )
        # The standard version attacks towards nine other classes; there may be fewer.
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(9, others)
        adversarial, predicted = attack.run_standard_evaluation(
            images, labels, batch_size=len(images)
        )
        # Its own verdict: a second look in another batch can flip points on the decision boundary.
        return adversarial, predicted == labels


def _other_classes(model: nn.Module, images: Tensor) -> int:
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    if classes < 4:
        raise ValueError(f"AutoAttack's standard version needs at least 4 classes; found {classes}")
    return int(classes) - 1
