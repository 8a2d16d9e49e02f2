"""Training: epochs on the host's boxes, checkpoints, metrics and resuming."""

import logging
import time
from contextlib import nullcontext
from dataclasses import asdict

import torch
import torch.distributed as dist
from torchdistill.common import main_util
from torchdistill.core.distillation import DistillationBox

from ..common.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from ..common.distributed import decided_by_first, gather, share_buffers
from ..common.files import write_json_lines
from ..common.state import rng_state, set_rng_state
from ..evaluation.accuracy import UnsuitedModelError, clean_accuracies
from ..parts.acm.frozen_teacher import FrozenTeacher
from ..reading import sections
from ..reading.recipe import Recipe
from .box_state import box_state, load_box_state
from .boxes import distribute, skip_stage
from .building import check_stage
from .epoch import NotFiniteError, train_steps
from .folder import held, replaced
from .metrics import EpochMetrics, lines_before
from .prepare import prepare
from .run_files import run_files

logger = logging.getLogger("mixacm")


class Training:
    """A training run: all of its state, and where it is kept.

    Args:
        recipe: what to train.
        device: where.
        seed: of all generators; a run on the CPU with a seed is repeatable bit for bit.
        start_epoch: number of the first epoch.
        adjust_lr: multiply the learning rate by the number of processes.

    Raises:
        RecipeError: on construction, on anything wrong with the recipe.

    Attributes:
        models: the plain models, by role.
        box: the host's, around them.
        last_ckpt, best_ckpt, metrics_file: what ``run`` writes.
    """

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device | str,
        seed: int | None = None,
        start_epoch: int = 0,
        adjust_lr: bool = False,
    ) -> None:
        self.recipe, self.device = recipe, torch.device(device)
        self.seed, self.start_epoch = seed, start_epoch
        self.best_val_accuracy = 0.0
        self.resumed: str | None = None  # checkpoint that the run goes on from
        self.last_saved: int | None = None
        self.replaces = False  # an earlier run, with the first checkpoint
        self.distributed = main_util.is_dist_avail_and_initialized()
        prepared = prepare(
            recipe,
            self.device,
            seed=seed,
            start_epoch=start_epoch,
            lr_factor=main_util.get_world_size() if adjust_lr else 1,
        )
        self.config, self.models, self.box = prepared.config, prepared.models, prepared.box
        if prepared.teacher:
            logger.info(prepared.teacher)
        for warning in prepared.warnings:
            logger.warning(warning)
        if start_epoch:
            logger.warning(
                "--start_epoch only sets the first epoch's number; the optimiser and its schedule "
                "start anew (to go on from a checkpoint: --resume)"
            )
        self.files = run_files(self.config)
        self.ckpt_key, self.last_ckpt, self.best_ckpt, self.metrics_file = self.files

    def resume(self, path: str) -> None:
        """Go on from a checkpoint of this recipe, exactly as if the run hadn't stopped.

        Raises:
            RecipeError: if the checkpoint can't be used for that.
        """
        try:
            checkpoint = load_checkpoint(path)
            missing = {"model", "optimizer", "epoch", "rng"} - set(checkpoint)
            if missing:
                raise CheckpointError(
                    f"{path} holds no {', '.join(sorted(missing))}: it isn't a checkpoint to "
                    "resume from (to start from its weights, name it as the student's src_ckpt)"
                )
            self._compare_recipes(path, checkpoint.get("recipe", self.recipe.text()))
            self.start_epoch = checkpoint["epoch"] + 1
            last = self.box.num_epochs  # a finished run stays in its last stage
            while getattr(self.box, "stage_end_epoch", last) <= min(self.start_epoch, last - 1):
                skip_stage(self.box)
                self._distribute()
            self.box.current_epoch = self.start_epoch
            load_box_state(self.box, self.models, checkpoint)
            states = checkpoint["rng"]  # one for each process
            if len(states) != main_util.get_world_size():
                logger.warning(
                    "%s is of %d processes: mixup and crops go on as they wouldn't have there",
                    path,
                    len(states),
                )
            set_rng_state(states[main_util.get_rank() % len(states)])
        except CheckpointError as error:
            raise self.recipe.error("--resume", str(error)) from error
        except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            message = f"{path} isn't a checkpoint of this recipe: {type(error).__name__}: {error}"
            raise self.recipe.error("--resume", message) from error
        self.best_val_accuracy = checkpoint["best_value"] / 100
        self.last_saved, self.resumed = checkpoint["epoch"], path

    def _compare_recipes(self, path: str, then: str) -> None:
        now, before = self.recipe.text(), then.splitlines()
        added = [line.strip() for line in now.splitlines() if line not in before]
        if now != then:
            logger.warning(
                "%s is of a recipe with other settings%s; its schedule and optimiser state go on, "
                "so that a run can't be lengthened this way",
                path,
                f" than {', '.join(added[:3])}" if added else "",
            )

    @property
    def finished(self) -> bool:
        """Whether there is nothing to train: what was resumed is of the last epoch."""
        return self.start_epoch >= self.box.num_epochs

    def _distribute(self) -> None:
        if self.distributed:
            distribute(self.box, self.config, self.seed)

    def run(self) -> None:
        """Train all epochs; keep the last and the best checkpoint and ``metrics.jsonl``.

        Raises:
            RecipeError: if a loss or a weight stops being finite, or a later stage is wrong.
        """
        with held(self.recipe, self.files):
            decided_by_first(self._begin)
            if self.finished:
                logger.warning("nothing to train: %s is of the last epoch", self.resumed)
            self._train()

    def _begin(self) -> None:
        there = [file for file in self.files.written if file.exists()]
        self.replaces = self.last_saved is None and bool(there)
        try:
            lines = lines_before(self.metrics_file, self.start_epoch)
            if self.replaces:
                logger.warning(
                    "overwriting %s when the first epoch is written (to go on: --resume)",
                    " and ".join(map(str, there)),
                )
            else:
                write_json_lines(self.metrics_file, lines)
        except (OSError, ValueError, LookupError, TypeError) as error:
            message = f"can't write {self.metrics_file}: {error}"
            raise self.recipe.error(self.ckpt_key, message) from error

    def _train(self) -> None:
        criterion = self.box.criterion
        for epoch in range(self.start_epoch, self.box.num_epochs):
            if self.box.criterion is not criterion:  # the host has begun a new stage
                criterion = self.box.criterion
                self._distribute()
                check_stage(self.recipe, self.config, self.box, self.models)
            metrics = self._train_epoch(epoch)
            self.box.post_epoch_process(metrics=metrics.val_accuracy)
            self._save(metrics)
        self.box.clean_modules()
        if self.distributed:
            dist.barrier()  # the first process has written what all may read next

    def _train_epoch(self, epoch: int) -> EpochMetrics:
        box, started = self.box, time.perf_counter()
        self._begin_epoch(epoch)
        try:
            sums = train_steps(box, self.device, f"epoch {epoch + 1}/{box.num_epochs}")
        except NotFiniteError as error:
            raise self._not_finite(epoch, error) from error
        self._check_weights(epoch)
        images, loss, terms = sums.means(self.device)
        share_buffers(self.models["student"])
        accuracy = self._validate(epoch)
        self.improved = accuracy > self.best_val_accuracy or epoch == 0
        self.best_val_accuracy = max(self.best_val_accuracy, accuracy)
        return EpochMetrics(
            epoch=epoch,
            loss=loss,
            terms=terms,
            lr=sums.lr,
            val_accuracy=accuracy,
            best_val_accuracy=self.best_val_accuracy,
            images_per_second=images / sums.seconds,
            seconds=time.perf_counter() - started,
        )

    def _validate(self, epoch: int) -> float:
        student, loader = self.models["student"], self.box.val_data_loader
        try:
            return clean_accuracies(student, loader, self.device)[1]
        except (UnsuitedModelError, TypeError) as error:
            stage, _ = sections.current_stage(self.config, self.box)
            message = f"{error}, after epoch {epoch + 1}; {self._last_good()}"
            raise self.recipe.error(f"{stage}.val_data_loader", message) from error

    def _begin_epoch(self, epoch: int) -> None:
        box = self.box
        if isinstance(box.teacher_model if self.distilled else None, FrozenTeacher):
            box.teacher_model.transforms_ckpt = None  # they go into the student's checkpoint
        box.pre_epoch_process(epoch=epoch)
        stage, _ = sections.current_stage(self.config, box)
        if self.distilled and not sections.get(self.config, f"{stage}.teacher.keep_train_mode"):
            self.models["teacher"].eval()  # the host's default leaves it as it is

    @property
    def distilled(self) -> bool:
        """Whether there is a teacher."""
        return isinstance(self.box, DistillationBox)

    def _not_finite(self, epoch: int, error: NotFiniteError) -> Exception:
        stage, _ = sections.current_stage(self.config, self.box)
        path = f"{stage}.criterion" + (f".kwargs.sub_terms.{error.term}" if error.term else "")
        return self.recipe.error(
            path,
            f"the loss became {error.value} in epoch {epoch + 1}, step {error.step + 1}"
            f"{f', by the term {error.term!r}' if error.term else ''}; {self._last_good()}. "
            "A lower learning rate or weight may help",
        )

    def _check_weights(self, epoch: int) -> None:
        for name, value in self.models["student"].state_dict().items():
            if not torch.isfinite(value).all():
                raise self.recipe.error(
                    "train",
                    f"the student's {name!r} isn't finite after epoch {epoch + 1}; "
                    f"{self._last_good()}. A lower learning rate may help",
                )

    def _last_good(self) -> str:
        if self.last_saved is None:
            return "no checkpoint was written yet"
        return f"{self.last_ckpt} holds epoch {self.last_saved + 1}"

    def _save(self, metrics: EpochMetrics) -> None:
        states = gather(rng_state())
        if not main_util.is_main_process():
            return
        content = {
            **box_state(self.box, self.models),
            "best_value": 100 * self.best_val_accuracy,  # in per cent, as the host has it
            "args": {"config": self.recipe.path, "seed": self.seed},
            "recipe": self.recipe.text(),
            "epoch": metrics.epoch,
            "rng": states,
        }
        lines = [*lines_before(self.metrics_file, metrics.epoch), asdict(metrics)]
        with replaced(self.files) if self.replaces else nullcontext():
            # The last checkpoint comes last: after a kill, resuming from it repeats the others.
            if self.improved:
                save_checkpoint(self.best_ckpt, content)
            write_json_lines(self.metrics_file, lines)
            save_checkpoint(self.last_ckpt, content)
        self.replaces = False
        self.last_saved = metrics.epoch
        logger.info(metrics.line(self.box.num_epochs))
