"""Square, the attack of AutoAttack that takes no gradients, by pyautoattack."""

from dataclasses import dataclass

from torch import Tensor, nn

from ...common.values import COUNT, check_kind, of_python, parse_count
from .base import Attacked, BallAttack, setting
from .pyautoattack_suite import Suite


@dataclass(frozen=True)
class Square(BallAttack):
    """Random search by squares: a black-box attack, to hold gradients' attacks against.

    Args:
        norm: ``Linf`` or ``L2``.
        eps: radius of the ball, in pixels of range [0, 1]; ``8/255`` may be written as such.
        queries: number of forward passes.

    Raises:
        ValueError: on other values.

    Source: Andriushchenko et al. 2020; ``pyautoattack``.
    """

    name = "square"
    queries: int = setting(5000, "number of forward passes", parse_count)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind("queries", self.queries, COUNT)
        object.__setattr__(self, "queries", of_python(self.queries))

    @property
    def title(self) -> str:
        """Its number of queries."""
        return f"Square ({self.queries} queries)"

    @property
    def short(self) -> str:
        """A column's title."""
        return "Square"

    def details(self) -> dict[str, str]:
        """Each setting in words."""
        return {**super().details(), "queries": f"{self.queries} queries"}

    @property
    def passes(self) -> int:
        """Its queries."""
        return self.queries

    def perturb(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Attacked:
        """Attack all images at once."""
        suite = Suite(*self.ball, queries=self.queries)
        return suite.perturb(["square"], model, images, labels, seed)
