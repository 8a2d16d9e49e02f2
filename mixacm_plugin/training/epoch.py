"""The training steps of one epoch, and what is summed over them."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torchdistill.common.main_util import is_main_process
from tqdm import tqdm

from ..common.distributed import sum_over_processes
from ..common.images import unpack
from ..common.state import set_rng_state
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

    def key_path(self, stage: str) -> str:
        """Return where the recipe, whose stage lies at a key path, has what went wrong."""
        return f"{stage}.criterion" + (f".kwargs.sub_terms.{self.term}" if self.term else "")

    def told(self, epoch: int) -> str:
        """Return what happened in an epoch, counted from 0."""
        by = f", by the term {self.term!r}" if self.term else ""
        return f"the loss became {self.value} in epoch {epoch + 1}, step {self.step + 1}{by}"


def not_finite(model: nn.Module) -> str | None:
    """Return the name of a model's first tensor that isn't finite, if there is one."""
    tensors = model.state_dict().items()
    return next((name for name, value in tensors if not torch.isfinite(value).all()), None)


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


@dataclass
class Position:
    """A place in an epoch, from which it can be gone on with bit for bit.

    Args:
        rng: state of the generators at the epoch's beginning.
        steps: that are done.
        sums: over them.
        now: state of the generators at the place, where it is gone on from.
    """

    rng: dict[str, Any]
    steps: int
    sums: EpochSums
    now: dict[str, Any] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """Return it as plain values and tensors."""
        sums = {**vars(self.sums), "terms": {n: float(t) for n, t in self.sums.terms.items()}}
        return {"rng": self.rng, "steps": self.steps, "sums": sums}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], now: dict[str, Any]) -> "Position":
        """Return what ``state`` was of, with the generators' state there."""
        sums = EpochSums(**state["sums"])
        sums.terms = {
            name: torch.tensor(value, dtype=torch.float64) for name, value in sums.terms.items()
        }
        return cls(state["rng"], state["steps"], sums, now)


def train_steps(
    box: Box,
    device: torch.device,
    title: str,
    *,
    begun: Position | None = None,
    after_step: Callable[[int, EpochSums], None] = lambda *_: None,
) -> EpochSums:
    """Train on each batch of an epoch once.

    Args:
        box: after its pre-epoch process.
        device: of the images.
        title: of the progress bar.
        begun: where the epoch is gone on with; generators are as at its beginning.
        after_step: called with the number of steps done and the sums over them.

    Raises:
        NotFiniteError: before the step whose loss isn't finite.
    """
    loader = box.train_data_loader
    if getattr(loader, "persistent_workers", False):
        loader._iterator = None  # new workers, whose generators don't depend on earlier epochs
    sums = EpochSums(lr=box.optimizer.param_groups[0]["lr"]) if begun is None else begun.sums
    batches, first = _batches(loader, begun)
    started = time.perf_counter() - sums.seconds
    shown = sys.stderr.isatty() and is_main_process()
    bar = tqdm(
        batches,
        desc=title,
        total=len(loader),
        initial=first,
        disable=not shown,
        leave=False,
        bar_format="{desc} |{bar}| {n_fmt}/{total_fmt}, {remaining} left{postfix}",
    )
    with terms_in_float32(box.criterion), record_terms(box.criterion) as terms:
        for step, batch in enumerate(bar, first):
            images, targets, extra = unpack(batch, device)
            loss = box.forward_process(images, targets, extra)
            value = loss.item()
            if not math.isfinite(value):
                bad = (name for name, term in terms.items() if not math.isfinite(term.detach()))
                raise NotFiniteError(step, value, next(bad, None))
            sums.add(len(images), value, terms)
            box.post_forward_process(loss=loss)
            sums.seconds = time.perf_counter() - started
            rate = sums.images / sums.seconds
            told = f"loss {value:.3f}, lr {sums.lr:.3g}, {rate:.0f} images/s"
            bar.set_postfix_str(told, refresh=False)
            after_step(step + 1, sums)
    return sums


def _batches(loader: Any, begun: Position | None) -> tuple[Iterator[Any], int]:
    """Return an epoch's batches after those that are done, and how many these are."""
    if begun is None:
        return iter(loader), 0
    batches = iter(loader)
    for _ in range(begun.steps):  # drawn again, so that workers' generators are where they were
        next(batches)
    set_rng_state(begun.now)
    return batches, begun.steps
