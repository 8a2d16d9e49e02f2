"""What is measured while training: loss terms, validation accuracy, one record an epoch."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..common.files import read_json_lines
from .boxes import terms_of


@dataclass
class EpochMetrics:
    """What one line of ``metrics.jsonl`` holds.

    Args:
        epoch: counted from 0.
        loss: mean over the epoch's images, of all processes.
        terms: the same of each weighted term, by its name in the recipe.
        lr: learning rate of the first parameter group.
        val_accuracy: clean top-1 accuracy on the validation images, as a fraction.
        best_val_accuracy: the best so far.
        images_per_second: of training, in all processes.
        seconds: of the epoch, validation included.
        robust_val_accuracy: of validation images under the attack of ``validate``, in epochs that
            have it; as a fraction.
        best_robust_val_accuracy: the best so far, where there was one.
        ema_val_accuracy: clean accuracy of the student's moving average, where there is one.
        ema_robust_val_accuracy: its robust accuracy.
    """

    epoch: int
    loss: float
    terms: dict[str, float]
    lr: float
    val_accuracy: float
    best_val_accuracy: float
    images_per_second: float
    seconds: float
    robust_val_accuracy: float | None = None
    best_robust_val_accuracy: float | None = None
    ema_val_accuracy: float | None = None
    ema_robust_val_accuracy: float | None = None

    def record(self) -> dict[str, Any]:
        """Return what there is of it as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def line(self, epochs: int) -> str:
        """Return the epoch in one line for people."""
        terms = ", ".join(f"{name} {value:.4g}" for name, value in self.terms.items())
        accuracies = {
            "val": self.val_accuracy,
            "robust": self.robust_val_accuracy,
            "ema val": self.ema_val_accuracy,
            "ema robust": self.ema_robust_val_accuracy,
        }
        told = [f"{name} {100 * v:.1f} %" for name, v in accuracies.items() if v is not None]
        return (
            f"epoch {self.epoch + 1}/{epochs}  loss {self.loss:.4f}"
            f"{f' ({terms})' if terms else ''}  lr {self.lr:.3g}  "
            f"{'  '.join(told)}  {self.images_per_second:.0f} images/s"
        )


def lines_before(file: Path, epoch: int) -> list[dict[str, Any]]:
    """Return the lines of a ``metrics.jsonl`` for the epochs before ``epoch``; it may be missing.

    Raises:
        OSError, ValueError, LookupError, TypeError: if it can't be read or isn't such a file.
    """
    return [line for line in read_json_lines(file) if line["epoch"] < epoch] if epoch else []


@contextmanager
def record_terms(criterion: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record each weighted term of the host's loss, by name and with its graph, in the block."""
    terms: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, (term, weight) in terms_of(criterion).items():

            def hook(_: Any, args: Any, out: Tensor, name: str = name, w: float = weight) -> None:
                terms[name] = torch.as_tensor(w * out)  # a loss of no image may be 0.0

            stack.callback(term.register_forward_hook(hook).remove)
        yield terms
