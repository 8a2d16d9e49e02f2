"""What a run writes into its folder: before its first epoch, after each, and within one."""

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from ..common.checkpoints import save_checkpoint
from ..common.files import write_json_lines
from ..reading.recipe import Recipe
from .folder import replaced
from .metrics import EpochMetrics, lines_before
from .run_files import RunFiles

logger = logging.getLogger("mixacm")


class Writer:
    """Writes a run's files, in the first of its processes.

    Args:
        recipe: of the run.
        files: of the run, whose folder is held.

    Attributes:
        last_saved: epoch of the last checkpoint, also of one that the run goes on from.
    """

    def __init__(self, recipe: Recipe, files: RunFiles) -> None:
        self.recipe, self.files = recipe, files
        self.last_saved: int | None = None
        self.replaces = False  # an earlier run, with the first checkpoint

    def begin(self, start_epoch: int) -> None:
        """Leave of ``metrics.jsonl`` what the run goes on from; say what it will overwrite.

        Raises:
            RecipeError: if it can't be read or written.
        """
        there = [file for file in self.files.written if file.exists()]
        self.replaces = self.last_saved is None and bool(there)
        if start_epoch > 0 and self.last_saved is not None and self.files.best not in there:
            logger.warning(
                "%s isn't there: the best epoch of the run that is gone on with; it is written "
                "when a later one is better",
                self.files.best,
            )
        try:
            lines = lines_before(self.files.metrics, start_epoch)
            if self.replaces:
                logger.warning(
                    "overwriting %s when the first epoch is written (to go on: --resume)",
                    " and ".join(map(str, there)),
                )
            else:
                write_json_lines(self.files.metrics, lines)
        except (OSError, ValueError, LookupError, TypeError) as error:
            message = f"can't write {self.files.metrics}: {error}"
            raise self.recipe.error(self.files.key, message) from error

    def write(
        self,
        content: Mapping[str, Any],
        epoch: int,
        metrics: EpochMetrics | None,
        *,
        improved: bool,
    ) -> None:
        """Write an epoch, or without its metrics a part of it.

        Args:
            content: of the checkpoint.
            epoch: counted from 0.
            metrics: of the epoch, if all of it is done.
            improved: whether it is the best so far.
        """
        content = {
            **content,
            "recipe": self.recipe.text(),
            "epoch": epoch - (metrics is None),  # that is done
        }
        lines: list[Any] = lines_before(self.files.metrics, epoch)
        with replaced(self.files) if self.replaces else nullcontext():
            # The last checkpoint comes last: after a kill, resuming from it repeats the others.
            if improved:
                save_checkpoint(self.files.best, content)
            if metrics and metrics.ema_val_accuracy is not None:
                about = {name: content[name] for name in ("args", "recipe", "epoch")}
                save_checkpoint(self.files.ema, {"model": content["ema"]["model"], **about})
            lines += [metrics.record()] if metrics else []
            write_json_lines(self.files.metrics, lines)
            save_checkpoint(self.files.last, content)
        self.replaces, self.last_saved = False, content["epoch"]

    def last_good(self) -> str:
        """Say what there is of the run, for an error."""
        if self.last_saved is None:
            return "no checkpoint was written yet"
        if self.last_saved < 0:
            return f"{self.files.last} holds a part of epoch 1"
        return f"{self.files.last} holds epoch {self.last_saved + 1}"
