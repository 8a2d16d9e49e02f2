"""What every attack has: a name, settings that say all that a quoted figure needs, ``perturb``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from ...common.values import of_python, written_number
from ...parts.adversarial.threat_model import NORMS, check_norm, check_radius, parse_eps


def setting(default: Any, about: str, read: Callable[[str], Any] = str) -> Any:
    """Return a field of an attack that a person may set, also by a flag of ``mixacm evaluate``.

    Args:
        default: its value where none is given.
        about: help for the flag.
        read: makes a value of the flag's text, or raises ``ValueError``.
    """
    return field(default=default, metadata={"help": about, "read": read})


@dataclass(frozen=True)
class Attack(ABC):
    """An attack and its threat model; its dataclass fields are its settings.

    Attributes:
        name: as studies and ``--attack`` name it.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def title(self) -> str:
        """The attack with what it was set to, but for the threat model: ``PGD-20 (step 2/255)``."""

    @property
    @abstractmethod
    def short(self) -> str:
        """A column's title: ``PGD-20``."""

    @property
    def ball(self) -> tuple[str, float]:
        """Norm and radius, in pixels of [0, 1], that a perturbation must not leave."""
        return "Linf", 0.0

    @property
    def threat(self) -> tuple[str, str] | None:
        """Norm and ε as they were written; ``None`` without an adversary."""
        return None

    def settings(self) -> dict[str, Any]:
        """Return the name and the settings as plain values, for ``attack_of``."""
        return {"name": self.name, **asdict(self)}

    def details(self) -> dict[str, str]:
        """Return each setting in words, to tell attacks with the same ``short`` apart."""
        return {}

    def warnings(self) -> list[str]:
        """Return what makes the attack weaker than it looks."""
        return []

    @property
    def passes(self) -> int:
        """Forward passes that an image takes at most, a backward pass counted as two."""
        return 1

    def suite(self) -> "Sequence[Part]":
        """Return the attacks it consists of, each for the images that those before it left."""
        return [Part(self.short, self.perturb, self.passes)]

    def verdict(self, standing: Sequence[int], n: int) -> list[str]:
        """Return what speaks against the figure, by the images that stand after each part.

        Args:
            standing: how many, in the order of ``suite``.
            n: images in all.
        """
        return []

    def check_model(self, model: nn.Module, images: Tensor) -> None:  # noqa: B027 (most fit any)
        """Raise ``ValueError`` if a model doesn't suit the attack, by its logits of ``images``."""

    @abstractmethod
    def perturb(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> "Attacked":
        """Attack images that the model classifies correctly.

        Args:
            model: gives logits ``(N, K)``.
            images: ``(N, C, H, W)`` in [0, 1].
            labels: ``(N,)`` classes.
            seed: of the attack's own generators, where it has some.
        """


class Part(NamedTuple):
    """One of the attacks that an attack consists of.

    Args:
        name: what progress calls it.
        perturb: see ``Attack.perturb``.
        passes: see ``Attack.passes``.
    """

    name: str
    perturb: "Callable[[nn.Module, Tensor, Tensor, int], Attacked]"
    passes: int


class Attacked(NamedTuple):
    """What an attack made of a batch.

    Args:
        images: perturbed, of the shape they had.
        standing: ``(N,)`` whether each is still classified correctly, with finite logits.
        doubts: what speaks against the figure, with the number of images that show it.
    """

    images: Tensor
    standing: Tensor
    doubts: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class BallAttack(Attack):
    """An attack that may move an image anywhere in a ball.

    Args:
        norm: ``Linf`` or ``L2``.
        eps: radius of the ball, in pixels of range [0, 1]; ``8/255`` may be written as such, and is
            the default; of ``L2`` it is ``0.5``.

    Raises:
        ValueError: on other values.
    """

    norm: str = setting("Linf", "Linf or L2", check_norm)
    eps: str | float = setting(
        None, "radius in pixels of [0, 1], by default 8/255, of L2 0.5", written_number
    )

    def __post_init__(self) -> None:
        if self.eps is None:
            object.__setattr__(self, "eps", NORMS[check_norm(self.norm)])
        parse_eps(self.eps, self.norm)
        object.__setattr__(self, "eps", of_python(self.eps))

    @property
    def ball(self) -> tuple[str, float]:
        """Norm and radius."""
        return self.norm, parse_eps(self.eps, self.norm)

    @property
    def threat(self) -> tuple[str, str]:
        """Norm and ε as they were written."""
        return self.norm, str(self.eps)

    def check_model(self, model: nn.Module, images: Tensor) -> None:
        """Raise ``ValueError`` if the ball holds more than all images, or a model doesn't suit."""
        norm, eps = self.ball
        check_radius(images, eps=eps, norm=norm)

    def details(self) -> dict[str, str]:
        """Norm and ε."""
        return {"norm": self.norm, "eps": f"ε={self.eps}"}


def still_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether each image ``(N,)`` is classified correctly, by finite logits ``(N, K)``."""
    return (logits.argmax(1) == labels) & logits.isfinite().all(1)
