"""Attacks with their threat models: none, PGD and AutoAttack."""

import logging
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from .adversarial.pgd import pgd
from .adversarial.threat_model import parse_eps, parse_number
from .value_kinds import COUNT, KINDS

# attack -> what there is to set
SETTINGS = {
    "clean": (),
    "pgd": ("norm", "eps", "steps", "step_size", "restarts"),
    "autoattack": ("norm", "eps"),
}
logging.getLogger("auto-attack").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Attack:
    """An attack and its threat model.

    Args:
        name: ``clean`` (none), ``pgd`` or ``autoattack`` (the standard version).
        norm: ``Linf`` or ``L2``.
        eps: radius of the ball, in pixels of range [0, 1]; ``8/255`` may be written as such.
        steps: of PGD.
        step_size: of PGD, written like ``eps``; by default a quarter of it.
        restarts: of PGD, from random points; an image counts as robust if it survives them all.

    What an attack doesn't use is left at its default, so that equal attacks are equal.

    Raises:
        ValueError: on other values.
    """

    name: str
    norm: str = "Linf"
    eps: str | float = "8/255"
    steps: int = 20
    step_size: str | float | None = None
    restarts: int = 1

    def __post_init__(self) -> None:
        if self.name not in SETTINGS:
            raise ValueError(f"attack must be one of {', '.join(SETTINGS)}; found {self.name!r}")
        parse_eps(self.eps, self.norm)
        if self.step_size is None:
            object.__setattr__(self, "step_size", quarter(self.eps))
        parse_number(self.step_size)
        for name in ("steps", "restarts"):
            if not KINDS[COUNT](getattr(self, name)):
                raise ValueError(f"{name} must be {COUNT}; found {getattr(self, name)!r}")
        for field in fields(Attack)[1:]:
            if field.name not in SETTINGS[self.name]:
                object.__setattr__(self, field.name, field.default)

    def __str__(self) -> str:
        if self.name == "pgd":
            restarts = f", {self.restarts} restarts" if self.restarts > 1 else ""
            return f"PGD-{self.steps} (step {self.step_size}{restarts})"
        return {"clean": "none", "autoattack": "AutoAttack (standard)"}[self.name]

    def settings(self) -> dict[str, Any]:
        """Return the name and what the attack uses, as plain values."""
        return {name: getattr(self, name) for name in ("name", *SETTINGS[self.name])}

    def check_classes(self, model: nn.Module, images: Tensor) -> None:
        """Raise ``ValueError`` if a model has too few classes for the attack."""
        if self.name == "autoattack":
            _checked_classes(model, images)

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Attack images ``(N, 3, H, W)`` in [0, 1] that the model classifies correctly.

        Returns:
            The perturbed images, and ``(N,)`` whether each is still classified correctly.
        """
        eps = parse_number(self.eps)
        if self.name == "autoattack":
            return _autoattack(model, images, labels, norm=self.norm, eps=eps, seed=seed)
        adversarial = images.clone()
        standing = torch.ones(len(images), dtype=torch.bool, device=images.device)
        for _ in range(self.restarts if self.name == "pgd" else 0):
            attacked = pgd(
                model,
                images[standing],
                labels[standing],
                eps=eps,
                step_size=parse_number(self.step_size),
                steps=self.steps,
                norm=self.norm,
            )
            adversarial[standing] = attacked
            with torch.no_grad():
                standing[standing.clone()] = model(attacked).argmax(1) == labels[standing]
            if not standing.any():
                break
        return adversarial, standing


def quarter(eps: str | float) -> str:
    """Return a quarter of ε as it was written: 2/255 of 8/255, 0.0375 of 0.15."""
    if isinstance(eps, str) and "/" in eps:
        return str(Fraction(eps) / 4)
    return f"{parse_number(eps) / 4:g}"


def _checked_classes(model: nn.Module, images: Tensor) -> int:
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    if classes < 4:
        raise ValueError(f"AutoAttack's standard version needs at least 4 classes; found {classes}")
    return classes


def _autoattack(
    model: nn.Module, images: Tensor, labels: Tensor, *, norm: str, eps: float, seed: int
) -> tuple[Tensor, Tensor]:
    others = _checked_classes(model, images) - 1
    attack = AutoAttack(
        model, norm=norm, eps=eps, seed=seed, version="standard", device=images.device
    )
    # The standard version attacks towards nine other classes; there may be fewer.
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(9, others)
    adversarial, predicted = attack.run_standard_evaluation(images, labels, batch_size=len(images))
    # Its own verdict: a second look in another batch can flip points on the decision boundary.
    return adversarial, predicted == labels
