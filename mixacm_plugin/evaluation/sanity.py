"""Sanity of an evaluation: what holds of any model unless attacks fail to do their work."""

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..common.images import count, drawn, every_batch, unpack
from ..common.outputs import LogitsOnly
from ..common.state import preserved_rng
from ..parts.adversarial.pgd import pgd
from .accuracy import evaluate
from .attacks import PGD, Attack, Square

IMAGES = 100
MORE_STEPS = 5  # times as many
QUERIES = 1000


@dataclass(frozen=True)
class SanityLine:
    """One thing that should hold.

    Args:
        name: what it is.
        holds: whether it does.
        figures: that tell.
    """

    name: str
    holds: bool
    figures: str

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        return f"sanity, {self.name}: {self.figures}: {verdict}"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def sanity(
    model: nn.Module,
    dataset: Dataset[Any],
    attack: Attack,
    *,
    n: int = IMAGES,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[SanityLine]:
    """Check that attacks do their work on a model.

    Args:
        model: as in ``evaluate``.
        dataset: likewise.
        attack: whose threat model counts, and PGD's settings where it is PGD.
        n: number of images, fewer where there are fewer.
        seed: of their choice and of the attacks.
        device: where to run.

    Returns:
        More steps aren't weaker, an unbounded attack leaves nothing, gradients do no worse than
        none, and the loss grows along the attack.

    Raises:
        ValueError: if the attack has no threat model.

    Source: Carlini et al. 2019, section 4 and 5.
    """
    if attack.threat is None:
        raise ValueError("sanity is of an attack with a threat model; 'clean' has none")
    norm, eps = attack.threat
    base = attack if isinstance(attack, PGD) else PGD(norm, eps)
    n = min(n, count(dataset))

    def right(other: Attack) -> int:
        return evaluate(model, dataset, other, n=n, seed=seed, device=device).correct

    plain, more = right(base), replace(base, steps=MORE_STEPS * base.steps)
    after_more, square = right(more), right(Square(norm, eps, QUERIES))
    unbounded = _unbounded(base, dataset)
    left = right(unbounded)
    losses = _losses(model, dataset, base, n, seed, device)
    slack = max(1, n // 100)  # of images, by another random start
    return [
        SanityLine(
            "more steps aren't weaker",
            after_more <= plain + slack,
            f"{base.short} {100 * plain / n:.1f} %, {more.short} {100 * after_more / n:.1f} %",
        ),
        SanityLine(
            "an attack without bounds leaves nothing",
            left == 0,
            f"{unbounded.short}, {norm} ε = {unbounded.eps}, {100 * left / n:.1f} %",
        ),
        SanityLine(
            "gradients do no worse than none",
            min(plain, after_more) <= square + slack,
            f"{more.short} {100 * after_more / n:.1f} %, Square with {QUERIES} queries "
            f"{100 * square / n:.1f} %",
        ),
        SanityLine(
            "the loss grows along the attack",
            all(after >= 0.99 * before for before, after in pairwise(losses))
            and losses[-1] > losses[0],
            " to ".join(f"{loss:.3g}" for loss in losses),
        ),
    ]


def _unbounded(base: PGD, dataset: Dataset[Any]) -> PGD:
    """Return PGD in a ball that holds every image."""
    image: Tensor = dataset[0][0]
    eps = 1.0 if base.norm == "Linf" else float(f"{image.numel() ** 0.5:.4g}")
    return replace(base, eps=eps, step_size=eps / 4)


def _losses(
    model: nn.Module,
    dataset: Dataset[Any],
    attack: PGD,
    n: int,
    seed: int,
    device: torch.device | str,
) -> list[float]:
    """Mean cross-entropy on the images, then a quarter, a half, ... along the attack."""
    model = LogitsOnly(model).to(device).eval()
    norm, eps = attack.ball
    images, labels, _ = unpack(
        next(every_batch(DataLoader(drawn(dataset, n, seed), batch_size=n))), torch.device(device)
    )
    means = []
    for quarter in range(5):
        with preserved_rng():
            torch.manual_seed(seed)  # the same start each time
            attacked = pgd(
                model,
                images,
                labels,
                eps=eps,
                step_size=attack.step,
                steps=quarter * attack.steps // 4,
                norm=norm,
            )
        with torch.no_grad():
            means.append(float(F.cross_entropy(model(attacked), labels)))
    return means
