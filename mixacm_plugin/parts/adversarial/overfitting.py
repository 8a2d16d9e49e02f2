"""Catastrophic overfitting of single-step adversarial training, and a process that looks for it."""

import logging
from typing import Any

import torch
from torch import nn
from torchdistill.common.main_util import is_main_process
from torchdistill.common.module_util import check_if_wrapped
from torchdistill.core.distillation import DistillationBox
from torchdistill.core.interfaces.post_epoch_proc import (
    default_post_epoch_process_with_teacher,
    default_post_epoch_process_without_teacher,
)
from torchdistill.core.interfaces.registry import register_post_epoch_proc_func
from torchdistill.core.training import TrainingBox

from ...common.images import every_batch, unpack
from ...common.outputs import LogitsOnly
from ...common.state import eval_mode, preserved_rng
from ...common.values import COUNT, check_kind
from ..processes import key_of
from .arguments import checked_attack, warn_of_short_reach
from .pgd import pgd

logger = logging.getLogger("mixacm")

LEAST_FGSM = 0.1  # below, accuracies may differ by chance
LEAST_FGSM_OF_CLEAN = 0.5  # below, the model isn't robust to FGSM either
MOST_PGD_OF_FGSM = 0.2  # a robust model has more than a half


def has_overfitted(*, clean: float, fgsm: float, pgd: float) -> bool:
    """Whether a model withstands FGSM but not PGD, by its accuracies as fractions.

    Source: Wong et al. 2020, section 5.4, and Andriushchenko & Flammarion 2020, which show FGSM
    accuracy near the clean one while PGD accuracy falls to zero; the thresholds are ours.
    """
    withstands_fgsm = fgsm >= max(LEAST_FGSM, LEAST_FGSM_OF_CLEAN * clean)
    return withstands_fgsm and pgd <= MOST_PGD_OF_FGSM * fgsm


class OverfittingWatch:
    """Post-epoch process that compares FGSM with PGD; see ``watch_overfitting``."""

    def __init__(self, *, attack: dict[str, Any], n: int, setting: str) -> None:
        self.attack, self.n, self.setting = attack, n, setting
        self.epochs = 0
        self.overfitted = False

    def __call__(self, box: TrainingBox | DistillationBox, *args: Any, **kwargs: Any) -> None:
        """Do what the host's default does, then look at the student, in the main process."""
        if isinstance(box, DistillationBox):
            default_post_epoch_process_with_teacher(box, *args, **kwargs)
            student = box.org_student_model
        else:
            default_post_epoch_process_without_teacher(box, *args, **kwargs)
            student = box.org_model
        self.epochs += 1
        if is_main_process():
            # Only boxes with stages count epochs; on others it is where training was resumed.
            counted = 1 if hasattr(box, "stage_number") else self.epochs
            epoch = getattr(box, "current_epoch", 0) + counted
            # A model wrapped by DDP would wait for the other processes.
            self._look(student.module if check_if_wrapped(student) else student, box, epoch)

    def _look(self, student: nn.Module, box: TrainingBox | DistillationBox, epoch: int) -> None:
        n, accuracies = self.measure(student, box)
        overfitted = has_overfitted(**accuracies)
        percent = {name: f"{100 * value:.1f} %" for name, value in accuracies.items()}
        figures = (
            f"epoch {epoch}: accuracy FGSM {percent['fgsm']}, PGD-{self.attack['steps']} "
            f"{percent['pgd']}, clean {percent['clean']} ({self.setting}, {n} validation images, "
            "seed 0)"
        )
        logger.info(figures)
        if overfitted and not self.overfitted:
            logger.warning(
                f"{figures}: catastrophic overfitting, the model withstands single steps only; "
                "train it again with a smaller step_size, or with PGD (adversarial_forward with "
                "more steps), or keep an earlier checkpoint"
            )
        self.overfitted = overfitted

    @torch.no_grad()
    def measure(
        self, student: nn.Module, box: TrainingBox | DistillationBox
    ) -> tuple[int, dict[str, float]]:
        """Accuracies on the first validation images; no trace is left in model and generators.

        Returns:
            The number of images, and the fraction that is right ``clean``, also after ``fgsm``
            and also after ``pgd``.
        """
        # Not by ``evaluate``, which leaves a model in eval mode and has no attack without a random
        # start, as FGSM is; the three accuracies also share their clean predictions.
        fgsm = {**self.attack, "step_size": self.attack["eps"], "steps": 1, "random_start": False}
        attacks = {"fgsm": fgsm, "pgd": self.attack}
        n, correct = 0, dict.fromkeys(("clean", *attacks), 0)
        model = LogitsOnly(student)
        with preserved_rng(), eval_mode(student):
            torch.manual_seed(0)  # the same starts every epoch
            for batch in every_batch(box.val_data_loader):
                images, labels, _ = unpack(batch, box.device)
                images, labels = images[: self.n - n], labels[: self.n - n]
                right = model(images).argmax(1) == labels
                n, correct["clean"] = n + len(images), correct["clean"] + int(right.sum())
                images, labels = images[right], labels[right]
                for name, attack in attacks.items() if len(images) else ():
                    attacked = pgd(model, images, labels, **attack)
                    correct[name] += int((model(attacked).argmax(1) == labels).sum())
                if n == self.n:
                    break
        return n, {name: count / n for name, count in correct.items()}


def watch_overfitting(
    eps: str | float, step_size: str | float, norm: str = "Linf", steps: int = 10, n: int = 500
) -> str:
    """Register a watch for catastrophic overfitting and return its key.

    The key is for ``post_epoch_process`` in a recipe, with or without a teacher. After the host's
    default process it logs the accuracy of the student in eval mode under FGSM (one step of ε)
    and under PGD (from a random start), and warns in the epoch in which the student begins to
    withstand FGSM but not PGD, as single-step adversarial training may teach it. Training goes on
    as it would without the watch: weights, modes and random generators stay as they are.

    Epochs count from 1, or go on from a checkpoint; ``--start_epoch`` isn't known here.

    Args:
        eps: radius of the ball, in pixels of range [0, 1]; ``8/255`` may be written as such.
        step_size: length of PGD's steps, in the same unit.
        norm: ``Linf`` or ``L2``.
        steps: of PGD, at least 1.
        n: number of validation images, the first ones, at least 1.

    Raises:
        ValueError: on other values.

    Source: Wong et al. 2020, section 5.4; Andriushchenko & Flammarion 2020.
    """
    caller = "watch_overfitting"
    attack = checked_attack(caller, eps=eps, step_size=step_size, steps=steps, norm=norm)
    check_kind(f"{caller}: n", n, COUNT)
    warn_of_short_reach(caller, **attack)
    key = key_of(caller, **attack, n=n)
    watch = OverfittingWatch(attack=attack, n=n, setting=f"{norm}, ε {eps}, step {step_size}")

    # The host sets processes on the box's class, from where Python binds functions only.
    def process(box: TrainingBox | DistillationBox, *args: Any, **kwargs: Any) -> None:
        watch(box, *args, **kwargs)

    process.takes_pixels = True  # type: ignore[attr-defined]
    register_post_epoch_proc_func(key=key)(process)
    return key
