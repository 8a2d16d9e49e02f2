"""What pyautoattack needs around it: a model with finite logits, and its warnings kept."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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
        odd = ~logits.isfinite().all(1)
        if not odd.any():
            return logits
        nearest = torch.cdist(images[odd].flatten(1), self.images.flatten(1)).argmin(1)
        other = (self.labels[nearest] + 1) % logits.shape[1]
        logits = torch.where(odd[:, None], 0, logits)
        return logits.index_put((odd.nonzero()[:, 0], other), torch.ones_like(logits[odd, 0]))


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
