"""pyautoattack's attacks on batches, by a model with finite logits, with its warnings kept."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .base import Attacked

LOGGER = logging.getLogger("auto-attack")  # pyautoattack's


class Guarded(nn.Module):
    """A model whose logits are finite: where they aren't, they say another class than the label.

    An argmax would take a NaN for the class at whose place it stands, here and inside the attacks.
    """

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.model = model
        self.images, self.labels = images, labels

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, K)`` of images in the balls around those that are attacked."""
        if images.requires_grad:
            images = images.clone()
            images.register_hook(torch.nan_to_num)
        logits: Tensor = self.model(images)
        if logits.detach().sum().isfinite():  # cheaper than to look at each, and mostly enough
            return logits
        odd = ~logits.isfinite().all(1)
        nearest = torch.cdist(images[odd].flatten(1), self.images.flatten(1)).argmin(1)
        other = (self.labels[nearest] + 1) % logits.shape[1]
        logits = torch.where(odd[:, None], 0, logits)
        return logits.index_put((odd.nonzero()[:, 0], other), torch.ones_like(logits[odd, 0]))


class Suite:
    """Attacks of pyautoattack, for one batch after the other.

    Args:
        norm: ``Linf`` or ``L2``.
        eps: radius of the ball, in pixels of [0, 1].
        version: pyautoattack's, which sets its attacks up.
        queries: of Square.
    """

    def __init__(
        self, norm: str, eps: float, *, version: str = "standard", queries: int = 5000
    ) -> None:
        self.norm, self.eps, self.version, self.queries = norm, eps, version, queries
        self.checked = False

    def perturb(
        self,
        parts: Sequence[str],
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        seed: int,
        targets: int = 9,
    ) -> Attacked:
        """Attack a batch with each of some parts what still stands.

        Args:
            parts: as pyautoattack names them.
            model: see ``Attack.perturb``, as the next ones.
            images: that the model classifies correctly.
            labels: of the images.
            seed: of the attacks' draws.
            targets: other classes that targeted attacks attack towards.
        """
        import pyautoattack  # only here, since it takes a while

        with warnings_kept() as said:
            attack = pyautoattack.AutoAttack(
                Guarded(model, images, labels),
                norm=self.norm,
                eps=self.eps,
                seed=seed,
                version=self.version,
                device=images.device,
            )
            attack.attacks_to_run = list(parts)
            attack.square.n_queries = self.queries
            attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
            if self.checked:  # whether the model is randomised, on the first batch, as it does
                attack.version = "rand"
            self.checked = True
            adversarial, predicted = attack.run_standard_evaluation(
                images, labels, batch_size=len(images)
            )
        # Its own verdict: a second look in another batch can flip points on the decision boundary.
        return Attacked(adversarial, predicted == labels, dict.fromkeys(said, len(images)))


def square_found(standing: Mapping[str, int], n: int) -> list[str]:
    """Return pyautoattack's warning, if Square found what attacks by gradients didn't.

    Args:
        standing: images that stand after each part.
        n: images in all.
    """
    from pyautoattack.checks import check_square_sr

    with warnings_kept() as said:
        check_square_sr({name: count / n for name, count in standing.items()}, logger=LOGGER)
    return said


@contextmanager
def warnings_kept() -> Iterator[list[str]]:
    """Collect what pyautoattack warns of, in one line each, instead of printing it."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(_in_a_line(record))  # type: ignore[method-assign]
    level, propagate = LOGGER.level, LOGGER.propagate
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.WARNING)
    LOGGER.propagate = False
    try:
        yield said
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        LOGGER.propagate = propagate


def _in_a_line(record: logging.LogRecord) -> str:
    text = re.sub(r" See \S+ for details\.", "", record.getMessage())
    # Counts differ from batch to batch; how many images there were is said beside it.
    text = re.sub(r"there are \d+ points", "there are points", text)
    return f"AutoAttack says: {' '.join(text.split())}"
