"""The training steps of one epoch, and what is summed over them."""

import math
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchdistill.common.main_util import is_main_process
from tqdm import tqdm

from ..common.distributed import sum_over_processes
from ..common.errors import UserError, place_of, reason_of
from ..common.images import every_batch, unpack
from ..reading.sections import term_path
from .boxes import Box, set_rng_of
from .metrics import record_terms


class NotFiniteError(Exception):
    """A loss that is infinite or not a number.

    Args:
        step: in the epoch, counted from 0.
        value: of the loss.
        term: the first that isn't finite, if any is.
    """

    hint = ". A lower learning rate or weight may help"

    def __init__(self, step: int, value: float, term: str | None) -> None:
        super().__init__(f"the loss became {value} in step {step + 1}")
        self.step, self.value, self.term = step, value, term

    def key_path(self, stage: str) -> str:
        """Return where the recipe, whose stage lies at a key path, has what went wrong."""
        return term_path(stage, self.term) if self.term else f"{stage}.criterion"

    def told(self, epoch: int) -> str:
        """Return what happened in an epoch, counted from 0."""
        by = f", by the term {self.term!r}" if self.term else ""
        return f"the loss became {self.value} in epoch {epoch + 1}, step {self.step + 1}{by}"


class FailedStepError(Exception):
    """A step that fails, or whose data can't be loaded.

    Args:
        step: in the epoch, counted from 0.
        loading: whether it was its data.
        cause: of any kind.
    """

    hint = ""

    def __init__(self, step: int, loading: bool, cause: Exception) -> None:
        self.step, self.loading = step, loading
        self.reason = reason_of(cause) + place_of(cause)
        super().__init__(f"{self.reason}, in step {step + 1}")

    def key_path(self, stage: str) -> str:
        """Return where the recipe, whose stage lies at a key path, has what failed."""
        return f"{stage}.train_data_loader" if self.loading else stage

    def told(self, epoch: int) -> str:
        """Return what happened in an epoch, counted from 0."""
        return f"{self.reason}, in epoch {epoch + 1}, step {self.step + 1}"


@contextmanager
def _failing(step: int) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of any kind, by which a loss refuses
        raise FailedStepError(step, loading=False, cause=error) from error


def not_finite(model: nn.Module) -> str | None:
    """Return the name of a model's first tensor that isn't finite, if there is one."""
    tensors = model.state_dict().items()
    return next((name for name, value in tensors if not torch.isfinite(value).all()), None)


class Reading(NamedTuple):
    """A step's means, on the device where they were computed.

    Args:
        step: in the epoch, counted from 0.
        images: of the step.
        values: the loss, then each weighted term, in float64.
        names: of the terms.
    """

    step: int
    images: int
    values: Tensor
    names: tuple[str, ...]


@dataclass
class EpochSums:
    """Sums over the images of an epoch, in float64 whatever the precision of training.

    Args:
        lr: learning rate of the first parameter group, at the epoch's beginning.
        images: how many.
        loss: summed.
        terms: each weighted term, summed.
        seconds: that the steps took.
        unread: steps whose loss isn't in the sums yet: to read it waits for the device.
    """

    lr: float
    images: float = 0
    loss: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    unread: list[Reading] = field(default_factory=list)

    def add(self, step: int, images: int, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Add a batch's means, to be read."""
        self.images += images
        # One number each, if not without a dimension: torchdistill's CRDLoss gives (1,).
        values = torch.stack([v.detach().double().reshape(()) for v in (loss, *terms.values())])
        self.unread.append(Reading(step, images, values, tuple(terms)))

    def read(self) -> float | None:
        """Add what wasn't read yet to the sums; return the last loss, if there is one.

        Raises:
            NotFiniteError: of the first step whose loss isn't finite.
        """
        unread, self.unread = self.unread, []
        if not unread:
            return None
        rows = torch.cat([reading.values for reading in unread]).tolist()  # one copy
        for step, images, values, names in unread:
            (loss, *terms), rows = rows[: len(values)], rows[len(values) :]
            by_name = dict(zip(names, terms, strict=True))
            if not math.isfinite(loss):
                bad = (name for name, term in by_name.items() if not math.isfinite(term))
                raise NotFiniteError(step, loss, next(bad, None))
            self.loss += loss * images
            for name, term in by_name.items():
                self.terms[name] = self.terms.get(name, 0.0) + term * images
        return float(loss)

    def means(self, device: torch.device) -> tuple[float, float, dict[str, float]]:
        """Return images, mean loss and mean terms, over all processes."""
        loss, images, *terms = sum_over_processes(
            self.loss, self.images, *self.terms.values(), device=device
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
        """Return it as plain values and tensors.

        Raises:
            NotFiniteError: if the loss of a step isn't finite.
        """
        self.sums.read()
        sums = {name: value for name, value in vars(self.sums).items() if name != "unread"}
        return {"rng": self.rng, "steps": self.steps, "sums": sums}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], now: dict[str, Any]) -> "Position":
        """Return what ``state`` was of, with the generators' state there."""
        return cls(state["rng"], state["steps"], EpochSums(**state["sums"]), now)


def train_steps(
    box: Box,
    device: torch.device,
    title: str,
    read_every: int = 1,
    begun: Position | None = None,
    after_step: Callable[[int, EpochSums], None] = lambda *_: None,
) -> EpochSums:
    """Train on each batch of an epoch once.

    Args:
        box: after its pre-epoch process.
        device: of the images.
        title: of the progress bar.
        read_every: steps from one reading of the loss to the next; each waits for the device.
        begun: where the epoch is gone on with; generators are as at its beginning.
        after_step: called with the number of steps done and the sums over them.

    Raises:
        NotFiniteError: of a step whose loss isn't finite: before its update of the weights, or
            after it where the loss isn't read at every step.
        FailedStepError: of a step that raises anything else.
    """
    loader = box.train_data_loader
    if device.type == "cuda":
        loader.pin_memory = True  # or each copy would wait for the device
    sums = EpochSums(lr=box.optimizer.param_groups[0]["lr"]) if begun is None else begun.sums
    batches, first = _batches(box, begun)
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
    # Its workers end with it, not when what stopped it is forgotten.
    with closing(batches), record_terms(box.criterion) as terms:
        for step, batch in enumerate(bar, first):
            with _failing(step):
                images, targets, extra = unpack(batch, device)
                loss = box.forward_process(images, targets, extra)
            sums.add(step, len(images), loss, terms)
            value = sums.read() if (step + 1) % read_every == 0 else None
            with _failing(step):
                box.post_forward_process(loss=loss)
            sums.seconds = time.perf_counter() - started
            if value is not None:
                rate = sums.images / sums.seconds
                told = f"loss {value:.3f}, lr {sums.lr:.3g}, {rate:.0f} images/s"
                bar.set_postfix_str(told, refresh=False)
            after_step(step + 1, sums)
    sums.read()
    sums.seconds = time.perf_counter() - started  # an accelerator has been waited for
    return sums


def _batches(box: Box, begun: Position | None) -> tuple[Generator[Any], int]:
    """Return an epoch's batches after those that are done, and how many these are."""
    batches = _loaded(box.train_data_loader)
    if begun is None:
        return batches, 0
    for _ in range(begun.steps):  # drawn again, so that workers' generators are where they were
        next(batches)
    set_rng_of(box, begun.now)
    return batches, begun.steps


def _loaded(loader: Any) -> Generator[Any]:
    step = 0
    try:
        for batch in every_batch(loader):
            yield batch
            step += 1
    except ValueError as error:
        raise FailedStepError(step, loading=True, cause=error) from error
