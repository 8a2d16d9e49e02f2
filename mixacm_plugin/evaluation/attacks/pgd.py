"""Projected gradient descent, with restarts."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from ...common.values import (
    COUNT,
    POSITIVE,
    check_kind,
    of_python,
    parse_count,
    parse_number,
    written_positive,
)
from ...parts.adversarial.pgd import pgd
from ...parts.adversarial.threat_model import reaches_edge
from .base import Attacked, BallAttack, setting, still_right

# Of images that withstood; PGD stands still where the gradient is exactly zero.
AT_START = "zero gradient at the start of PGD, which can't move there; try AutoAttack"
AT_END = "zero gradient at the end of PGD, which can't move there; try AutoAttack"


@dataclass(frozen=True)
class PGD(BallAttack):
    """PGD on the cross-entropy, from random points of the ball.

    Args:
        norm: ``Linf`` or ``L2``.
        eps: radius of the ball, in pixels of range [0, 1]; ``8/255`` may be written as such.
        steps: number of steps.
        step_size: length of a step, written like ``eps``; by default a quarter of it.
        restarts: number of random starts; an image counts as robust if it survives them all.

    Raises:
        ValueError: on other values.

    Source: Madry et al. 2018.
    """

    name = "pgd"
    steps: int = setting(20, "number of steps", parse_count)
    step_size: str | float | None = setting(
        None, "length of a step, by default a quarter of ε", written_positive
    )
    restarts: int = setting(1, "number of random starts", parse_count)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size is None:
            object.__setattr__(self, "step_size", quarter(self.eps))
        if self.step == 0 < self.ball[1]:
            raise ValueError(f"step_size must be {POSITIVE.words}; found {self.step_size!r}")
        object.__setattr__(self, "step_size", of_python(self.step_size))
        for name in ("steps", "restarts"):
            check_kind(name, getattr(self, name), COUNT)
            object.__setattr__(self, name, of_python(getattr(self, name)))

    @property
    def title(self) -> str:
        """Number of steps, their length, restarts."""
        restarts = f", {self.restarts} restarts" if self.restarts > 1 else ""
        return f"PGD-{self.steps} (step {self.step_size}{restarts})"

    @property
    def short(self) -> str:
        """A column's title."""
        return f"PGD-{self.steps}"

    def details(self) -> dict[str, str]:
        """Each setting in words."""
        return {
            **super().details(),
            "step_size": f"step {self.step_size}",
            "restarts": f"{self.restarts} restart{'s' if self.restarts > 1 else ''}",
        }

    def warnings(self) -> list[str]:
        """Whether its steps can lead from the centre to the edge, and not beyond from anywhere."""
        _, eps = self.ball
        if not reaches_edge(eps=eps, step_size=self.step, steps=self.steps):
            return [f"{self.title} can't reach the edge of its ball, ε = {self.eps}"]
        if self.step > 2 * eps > 0:
            return [f"a step of {self.title} is longer than its ball is wide, ε = {self.eps}"]
        return []

    @property
    def passes(self) -> int:
        """Of all steps from all starts."""
        return self.restarts * (3 * self.steps + 1)

    def perturb(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Attacked:
        """Attack from each random start what still stands."""
        norm, eps = self.ball
        adversarial = images.clone()
        standing = torch.ones(len(images), dtype=torch.bool, device=images.device)
        flat = {place: torch.zeros_like(standing) for place in (AT_START, AT_END)}
        for _ in range(self.restarts):

            def watch(step: int, gradient: Tensor) -> None:
                zero = gradient.flatten(1).abs().amax(1) == 0
                for place, at in ((AT_START, 0), (AT_END, self.steps - 1)):
                    if step == at:
                        flat[place][standing] |= zero

            attacked = pgd(
                model,
                images[standing],
                labels[standing],
                eps=eps,
                step_size=self.step,
                steps=self.steps,
                norm=norm,
                watch=watch,
            )
            adversarial[standing] = attacked
            with torch.no_grad():
                standing[standing.clone()] = still_right(model(attacked), labels[standing])
            if not standing.any():
                break
        doubts = {place: int((zero & standing).sum()) for place, zero in flat.items()}
        return Attacked(adversarial, standing, doubts)

    @property
    def step(self) -> float:
        """Length of a step, in pixels of [0, 1]."""
        return step_length(self.step_size)


def step_length(step_size: Any) -> float:
    """Read the length of a step.

    Raises:
        ValueError: if it is no such number.
    """
    try:
        return parse_number(step_size)
    except ValueError as error:
        raise ValueError(f"step_size: {error}") from None


def quarter(eps: str | float) -> str:
    """Return a quarter of ε as it was written: 2/255 of 8/255, 0.0375 of 0.15."""
    if isinstance(eps, str) and "/" in eps:
        return str(Fraction(eps) / 4)
    return f"{parse_number(eps) / 4:g}"
