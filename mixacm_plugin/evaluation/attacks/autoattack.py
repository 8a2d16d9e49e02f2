"""AutoAttack, by pyautoattack."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base import Attacked, BallAttack, setting
from .pyautoattack_model import Guarded, warnings_kept

VERSIONS = ("standard", "rand")


def version(text: str) -> str:
    """Check a flag's version of AutoAttack."""
    if text not in VERSIONS:
        raise ValueError(f"version must be one of {', '.join(VERSIONS)}; found {text!r}")
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

    def check_model(self, model: nn.Module, images: Tensor) -> None:
        """Raise ``ValueError`` if there are too few classes to attack towards."""
        _other_classes(model, images)

    def perturb(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Attacked:
        """Attack with each part what still stands."""
        import pyautoattack  # only here, since it takes a while

        others = _other_classes(model, images)
        norm, eps = self.ball
        with warnings_kept() as said:
            attack = pyautoattack.AutoAttack(
                Guarded(model, images, labels),
                norm=norm,
                eps=eps,
                seed=seed,
                version=self.version,
                device=images.device,
            )
            # The standard version attacks towards nine other classes; there may be fewer.
            attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(9, others)
            adversarial, predicted = attack.run_standard_evaluation(
                images, labels, batch_size=len(images)
            )
        # Its own verdict: a second look in another batch can flip points on the decision boundary.
        return Attacked(adversarial, predicted == labels, dict.fromkeys(said, len(images)))


def _other_classes(model: nn.Module, images: Tensor) -> int:
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    if classes < 4:
        raise ValueError(f"AutoAttack's standard version needs at least 4 classes; found {classes}")
    return int(classes) - 1
