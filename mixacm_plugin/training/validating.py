"""Validation after an epoch: its figures, the best epoch so far, and whether to go on."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from ..common.distributed import share_buffers
from ..common.state import preserved_rng
from .best import Best
from .moving_average import MovingAverage
from .robust_validation import RobustValidation, accuracies


class Validator:
    """Validates the students of a run.

    Args:
        validation: the robust one, where there is one.
        average: of the student, where there is one, which is measured beside it.

    Attributes:
        best: the best so far.
        improved: whether the epoch that was validated last is the best.
    """

    def __init__(self, validation: RobustValidation | None, average: MovingAverage | None) -> None:
        self.validation, self.average = validation, average
        self.best, self.improved = Best(), False

    def load(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on from a run's checkpoint.

        Raises:
            KeyError, TypeError: if it isn't one.
        """
        self.best = Best.from_checkpoint(checkpoint, robust=self.validation is not None)

    @property
    def out_of_patience(self) -> bool:
        """Whether there was no improvement for as long as the recipe waits for one."""
        patience = None if self.validation is None else self.validation.patience
        return patience is not None and self.best.waited >= patience

    def validate(
        self,
        student: nn.Module,
        loader: DataLoader[Any],
        device: torch.device,
        *,
        epoch: int,
        epochs: int,
    ) -> dict[str, float | None]:
        """Measure a student, in all processes together.

        Args:
            student: after an epoch.
            loader: of this process's share of the validation images.
            device: of the student.
            epoch: counted from 0.
            epochs: of the run.

        Returns:
            Figures as ``EpochMetrics`` names them.

        Raises:
            ValueError, TypeError: see ``accuracies``.
        """
        due = self.validation is not None and self.validation.is_due(epoch, epochs)
        validation = self.validation if due else None
        share_buffers(student)
        clean, robust = accuracies(student, loader, device, validation)
        judged = due or self.validation is None
        self.improved = self.best.update(clean, robust, judged=judged)
        figures = {
            "val_accuracy": clean,
            "best_val_accuracy": self.best.clean,
            "robust_val_accuracy": robust,
            "best_robust_val_accuracy": self.best.robust,
        }
        if self.average is None or not self.average.begun:
            return figures
        share_buffers(self.average.model)
        with preserved_rng():  # of which a pass over a loader takes some
            clean, robust = accuracies(self.average.model, loader, device, validation)
        return {**figures, "ema_val_accuracy": clean, "ema_robust_val_accuracy": robust}
