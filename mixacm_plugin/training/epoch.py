"""The training steps of one epoch, and what is summed over them."""

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchdistill.common.main_util import is_main_process
from tqdm import tqdm

from ..common.distributed import sum_over_processes
from ..common.images import unpack
from .boxes import Box
from .metrics import record_terms, terms_in_float32


class NotFiniteError(Exception):
    """A loss that is infinite or not a number.

    Args:
        step: in the epoch, counted from 0.
        value: of the loss.
        term: the first that isn't finite, if any is.
    """

    def __init__(self, step: int, value: float, term: str | None) -> None:
        super().__init__(f"the loss became {value} in step {step + 1}")
        self.step, self.value, self.term = step, value, term


@dataclass
class EpochSums:
    """Sums over the images of an epoch, in float64 whatever the precision of training.

    Args:
        images: how many.
        loss: summed.
        terms: each weighted term, summed.
        lr: learning rate of the first parameter group, at the epoch's beginning.
        seconds: that the steps took.
    """

    lr: float
    images: float = 0
    loss: float = 0.0
    terms: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, images: int, loss: float, terms: Mapping[str, Tensor]) -> None:
        """Add a batch's means."""
        self.images += images
        self.loss += loss * images
        for name, term in terms.items():
            value = term.detach().double() * images
            self.terms[name] = self.terms[name] + value if name in self.terms else value

    def means(self, device: torch.device) -> tuple[float, float, dict[str, float]]:
        """Return images, mean loss and mean terms, over all processes."""
        loss, images, *terms = sum_over_processes(
            self.loss, self.images, *map(float, self.terms.values()), device=device
        )
        by_name = zip(self.terms, terms, strict=True)
        return images, loss / images, {name: value / images for name, value in by_name}


def train_steps(box: Box, device: torch.device, title: str) -> EpochSums:
    """Train on each batch of an epoch once.

    Args:
        box: after its pre-epoch process.
        device: of the images.
        title: of the progress bar.

    Raises:
        NotFiniteError: before the step whose loss isn't finite.
    """
    started = time.perf_counter()
    sums = EpochSums(lr=box.optimizer.param_groups[0]["lr"])
    shown = sys.stderr.isatty() and is_main_process()
    bar = tqdm(box.train_data_loader, desc=title, disable=not shown, leave=False)
    with terms_in_float32(box.criterion), record_terms(box.criterion) as terms:
        for step, batch in enumerate(bar):
            images, targets, extra = unpack(batch, device)
            loss = box.forward_process(images, targets, extra)
            value = loss.item()
            if not math.isfinite(value):
                bad = (name for name, term in terms.items() if not math.isfinite(term.detach()))
                raise NotFiniteError(step, value, next(bad, None))
            sums.add(len(images), value, terms)
            box.post_forward_process(loss=loss)
            sums.seconds = time.perf_counter() - started
            rate = f"{sums.images / sums.seconds:.0f}"
            bar.set_postfix(loss=f"{value:.3f}", lr=f"{sums.lr:.3g}", images_per_s=rate)
    return sums
