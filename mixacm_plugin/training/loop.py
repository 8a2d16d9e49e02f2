"""Training: epochs on the host's boxes, checkpoints, metrics and resuming."""

import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torchdistill.common import main_util

from ..common.checkpoints import CheckpointError
from ..common.distributed import decided_by_first, gather
from ..common.errors import reason_of
from ..common.signals import Stopped
from ..common.values import whole_seed
from ..parts.acm.frozen_teacher import FrozenTeacher
from ..reading import sections
from ..reading.read import read_recipe
from ..reading.recipe import Recipe
from .beginning import Beginning
from .boxes import distribute, rng_of, seed_sampler, set_rng_of, skip_stage
from .building import check_stage
from .checkpoint import compare_recipes, read_run, restore, run_state
from .epoch import EpochSums, FailedStepError, NotFiniteError, Position, not_finite, train_steps
from .folder import held
from .metrics import EpochMetrics
from .moving_average import followed
from .prepare import prepare
from .run_files import run_files
from .tracking import tracked
from .validating import Validator
from .writing import Writer

logger = logging.getLogger("mixacm")


class Training:
    """A training run: all of its state, and where it is kept.

    Args:
        recipe: what to train, or its file.
        device: where.
        seed: of all generators; a run on the CPU with a seed is repeatable bit for bit, whatever
            else is made and trained in the same process.
        start_epoch: number of the first epoch.
        adjust_lr: multiply the learning rate by the number of processes.

    Raises:
        RecipeError: on construction, on anything wrong with the recipe.
        ValueError: on construction, if the seed is none.

    Attributes:
        models: the plain models, by role.
        box: the host's, around them.
        last_ckpt, best_ckpt, metrics_file: what ``run`` writes.
    """

    def __init__(
        self,
        recipe: Recipe | str | os.PathLike[str],
        device: torch.device | str,
        seed: int | None = None,
        start_epoch: int = 0,
        adjust_lr: bool = False,
    ) -> None:
        self.recipe = recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
        self.device, self.start_epoch = torch.device(device), start_epoch
        self.seed = None if seed is None else whole_seed(seed)
        self.resumed: str | None = None  # checkpoint that the run goes on from
        self.begun: Position | None = None  # where in its first epoch the run goes on
        self.distributed = main_util.is_dist_avail_and_initialized()
        lr_factor = main_util.get_world_size() if adjust_lr else 1
        prepared = prepare(
            recipe, self.device, seed=self.seed, start_epoch=start_epoch, lr_factor=lr_factor
        )
        self.config, self.models, self.box = prepared.config, prepared.models, prepared.box
        self.average = prepared.average
        self.validator = Validator(prepared.validation, self.average)
        if prepared.teacher:
            logger.info(prepared.teacher)
        for warning in prepared.warnings:
            logger.warning(warning)
        self.files = run_files(self.config)
        self.last_ckpt, self.best_ckpt = self.files.last, self.files.best
        self.metrics_file = self.files.metrics
        self.writer = Writer(recipe, self.files)
        self._beginning = Beginning(self.box, repeatable=self.seed is not None)

    def resume(self, path: str) -> None:
        """Go on from a checkpoint of this recipe, exactly as if the run hadn't stopped.

        Raises:
            RecipeError: if the checkpoint can't be used for that.
            UserError: if it has run.
        """
        self._beginning.check()
        try:
            checkpoint = read_run(path)
            compare_recipes(self.recipe, path, checkpoint.get("recipe", self.recipe.text()))
            if self.seed is None and isinstance(checkpoint.get("args"), dict):
                self.seed = checkpoint["args"].get("seed")
                seed_sampler(self.box, self.seed)
            self.start_epoch = checkpoint["epoch"] + 1
            last = self.box.num_epochs  # a finished run stays in its last stage
            while getattr(self.box, "stage_end_epoch", last) <= min(self.start_epoch, last - 1):
                skip_stage(self.box)
                self._distribute()
            self.box.current_epoch = self.start_epoch
            self.begun = restore(self.box, self.models, self.average, checkpoint, path)
            self.validator.load(checkpoint)
        except CheckpointError as error:
            raise self.recipe.error("--resume", str(error)) from error
        except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            message = f"{path} isn't a checkpoint of this recipe: {type(error).__name__}: {error}"
            raise self.recipe.error("--resume", message) from error
        self.writer.last_saved, self.resumed = checkpoint["epoch"], path
        self._beginning = Beginning(self.box, repeatable=True)

    @property
    def finished(self) -> bool:
        """Whether there is nothing to train: what was resumed is of the last epoch."""
        return self.start_epoch >= self.box.num_epochs or self.validator.out_of_patience

    @property
    def best_val_accuracy(self) -> float:
        """Highest clean accuracy on the validation images so far, as a fraction."""
        return self.validator.best.clean

    def _distribute(self) -> None:
        if self.distributed:
            distribute(self.box, self.config, self.seed)

    def run(
        self,
        save_every: int | None = None,
        asked_to_stop: Callable[[], int] = lambda: 0,
        track: str | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Train all epochs, once; keep the last and the best checkpoint and ``metrics.jsonl``.

        Args:
            save_every: also write the last checkpoint after so many steps of an epoch.
            asked_to_stop: returns the number of a signal, or 0, after every step, in several
                processes every ``log_freq`` steps.
            track: name of a tracker that is told of each epoch.
            say: is told after each step, in a few words, where the run is.

        Raises:
            RecipeError: if a loss or a weight stops being finite, or a later stage is wrong.
            UserError: if it has run.
            Stopped: when it was asked to stop, and the checkpoint is written.
        """
        self._beginning.check()
        self.save_every, self.asked_to_stop, self.say = save_every, asked_to_stop, say
        with held(self.recipe, self.files):
            decided_by_first(lambda: self.writer.begin(self.start_epoch))
            if self.finished:
                logger.warning("nothing to train: %s is of the last epoch", self.resumed)
            with tracked(track, self.recipe, self.files, self.start_epoch) as self.tell:
                self._train()

    def _train(self) -> None:
        self._beginning.begin()
        criterion = self.box.criterion
        last = self.start_epoch if self.finished else self.box.num_epochs
        for epoch in range(self.start_epoch, last):
            if self.box.criterion is not criterion:  # the host has begun a new stage
                criterion = self.box.criterion
                self._distribute()
                check_stage(self.recipe, self.config, self.box, self.models)
            metrics = self._train_epoch(epoch)
            self.box.post_epoch_process(metrics=metrics.val_accuracy)
            self.tell(metrics.record())  # before it is saved: if that fails, it comes again
            self._save(epoch, metrics)
            self._stop(max(gather(self.asked_to_stop())), f"after epoch {epoch + 1}")
            if self.validator.out_of_patience and epoch + 1 < last:
                waited = f"{self.validator.best.waited} robust validations without improvement"
                logger.info("ended after epoch %d: %s", epoch + 1, waited)
                break
        self.box.clean_modules()
        if self.distributed:
            dist.barrier()  # the first process has written what all may read next

    def _train_epoch(self, epoch: int) -> EpochMetrics:
        box, started = self.box, time.perf_counter()
        begun, self.begun = self.begun, None
        if begun is not None:
            started -= begun.sums.seconds
            set_rng_of(box, begun.rng)
        rng = rng_of(box)
        self._begin_epoch(epoch)

        def after_step(steps: int, sums: EpochSums) -> None:
            self._after_step(epoch, Position(rng, steps, sums))

        title = f"epoch {epoch + 1}/{box.num_epochs}"
        every = 1 if self.device.type == "cpu" else self._log_freq
        try:
            with followed(self.average, box.optimizer, self.models["student"], epoch):
                sums = train_steps(box, self.device, title, every, begun, after_step)
        except (NotFiniteError, FailedStepError) as error:
            raise self._ended(epoch, error) from error
        self._check_weights(epoch)
        images, loss, terms = sums.means(self.device)
        figures = self._validate(epoch)
        return EpochMetrics(
            epoch=epoch,
            loss=loss,
            terms=terms,
            lr=sums.lr,
            **figures,
            images_per_second=images / sums.seconds,
            seconds=time.perf_counter() - started,
        )

    def _validate(self, epoch: int) -> dict[str, Any]:
        try:
            return self.validator.validate(
                self.models["student"],
                self.box.val_data_loader,
                self.device,
                epoch=epoch,
                epochs=self.box.num_epochs,
            )
        except Exception as error:  # of any kind, by which a dataset refuses
            stage, _ = sections.current_stage(self.config, self.box)
            message = f"{reason_of(error)}, after epoch {epoch + 1}; {self.writer.last_good()}"
            raise self.recipe.error(f"{stage}.val_data_loader", message) from error

    def _begin_epoch(self, epoch: int) -> None:
        box = self.box
        if self.distilled and isinstance(box.teacher_model, FrozenTeacher):
            box.teacher_model.transforms_ckpt = None  # they go into the student's checkpoint
        box.pre_epoch_process(epoch=epoch)
        _, stage = sections.current_stage(self.config, box)
        if self.distilled and not sections.get(stage, "teacher.keep_train_mode"):
            self.models["teacher"].eval()  # the host's default leaves it as it is

    @property
    def distilled(self) -> bool:
        """Whether there is a teacher."""
        return "teacher" in self.models

    def _ended(self, epoch: int, error: NotFiniteError | FailedStepError) -> Exception:
        stage, _ = sections.current_stage(self.config, self.box)
        message = f"{error.told(epoch)}; {self.writer.last_good()}{error.hint}"
        return self.recipe.error(error.key_path(stage), message)

    def _check_weights(self, epoch: int) -> None:
        name = not_finite(self.models["student"])
        if name is not None:
            message = f"the student's {name!r} isn't finite after epoch {epoch + 1}"
            hint = f"{self.writer.last_good()}. A lower learning rate may help"
            raise self.recipe.error("train", f"{message}; {hint}")

    def _after_step(self, epoch: int, position: Position) -> None:
        """Write the checkpoint in the middle of an epoch where it is time, and stop if asked to."""
        steps, of = position.steps, len(self.box.train_data_loader)
        self.say(f"epoch {epoch + 1}/{self.box.num_epochs}, step {steps}/{of}")
        agreed = not self.distributed or steps % self._log_freq == 0 or steps == of
        number = max(gather(self.asked_to_stop())) if agreed else 0
        if number or (self.save_every and steps % self.save_every == 0 and steps < of):
            self._save(epoch, None, position)
        self._stop(number, f"in epoch {epoch + 1} after step {steps} of {of}")

    @property
    def _log_freq(self) -> int:
        _, stage = sections.current_stage(self.config, self.box)
        return int(stage.get("log_freq") or 100)

    def _stop(self, number: int, where: str) -> None:
        if number:
            name = signal.Signals(number).name
            message = f"stopped by {name} {where}; --resume goes on from {self.last_ckpt}"
            raise Stopped(number, message if main_util.is_main_process() else "")

    def _save(
        self, epoch: int, metrics: EpochMetrics | None, position: Position | None = None
    ) -> None:
        """Write an epoch, or with a position a part of it, in all processes together."""
        state = run_state(self.box, self.models, self.average, position)
        if not main_util.is_main_process():
            return
        content = {
            **state,
            "best_value": 100 * self.best_val_accuracy,  # in per cent, as the host has it
            "best": self.validator.best.state(),
            "args": {"config": self.recipe.path, "seed": self.seed},
        }
        improved = metrics is not None and self.validator.improved
        self.writer.write(content, epoch, metrics, improved=improved)
        if metrics is not None:
            logger.info(metrics.line(self.box.num_epochs))
