"""How far a student's answers can be driven from its teacher's within a ball."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..common.images import check_images, count, drawn, every_batch, unpack
from ..common.outputs import LogitsOnly, are_probabilities
from ..common.state import preserved_rng
from ..parts.adversarial.pgd import ascend
from ..parts.adversarial.threat_model import random_perturbation
from .attacks import PGD
from .attacks.base import Part
from .logits import UnsuitedModelError, check_logits, differ
from .progress import Progress

RANDOMISED = (
    "the student or the teacher is randomised: two passes over the same images differ, so that the "
    "largest distance is that of many draws, and no bound from below"
)
AT_START = "the student's gradient is zero where the search starts, which can't move there"


@dataclass(frozen=True)
class Disagreement:
    """The largest distance between the answers of a student and its teacher, mean over images.

    Args:
        mean: of the largest distance that was found around each image.
        deviation: standard deviation over images.
        clean: mean of the distance on the images themselves.
        n: images in all.
        attack: that sought it.
        seed: of the images' choice and of the attack.
        batch_size: of the attack, whose random draws depend on it.
        warnings: what speaks against the figure, a line each.
    """

    mean: float
    deviation: float
    clean: float
    n: int
    attack: PGD
    seed: int
    batch_size: int | None = None
    warnings: tuple[str, ...] = ()

    def interval(self) -> tuple[float, float]:
        """95 % confidence interval (normal) of the mean, over the choice of test images.

        Within [0, 1], where distances lie; all of it for a single image, which has no spread.
        """
        half = 1.96 * self.deviation / math.sqrt(self.n) if self.n > 1 else 1.0
        return max(0.0, self.mean - half), min(1.0, self.mean + half)

    def to_json(self) -> dict[str, Any]:
        """Return the figure and its setting as plain values."""
        settings = {**self.attack.settings(), "name": "disagreement"}
        return {
            **asdict(self),
            "attack": settings,
            "interval_95": list(self.interval()),
            "warnings": list(self.warnings),
        }


def total_variation(logits: Tensor, others: Tensor) -> Tensor:
    """Half the l1 distance of two models' class probabilities: 0 where they agree, at most 1.

    Args:
        logits: ``(N, K)``, any scale.
        others: likewise.

    Returns:
        ``(N,)``.

    Example:
        >>> total_variation(torch.tensor([[0.0, 100.0]]), torch.tensor([[100.0, 0.0]])).tolist()
        [1.0]
    """
    return (logits.softmax(1) - others.softmax(1)).abs().sum(1) / 2


def disagreement(
    student: nn.Module,
    teacher: nn.Module,
    dataset: Dataset[Any],
    attack: PGD,
    *,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = 250,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Disagreement:
    """Seek, around each image, where a student and its teacher disagree most.

    It estimates, from below, the distillation term of the paper's Theorem 4.1, which bounds a
    student's robust error: the largest distance between student and teacher in the ball, here of
    their class probabilities, and with the teacher's own head.

    Args:
        student: takes ``(N, C, H, W)`` in [0, 1]; put into eval mode.
        teacher: likewise, of the same classes.
        dataset: yields ``(image, label)``, images in [0, 1].
        attack: norm, ε, steps and restarts of two ascents, on the student's cross-entropy of the
            teacher's answer and then, from the farthest point, on the distance; all iterates count.
        n: number of images, drawn with ``seed``, as in ``evaluate``; by default all.
        seed: of the choice of images and of the random starts.
        batch_size: images attacked at a time.
        device: where to run.
        progress: tell on the standard error how far it is.

    Raises:
        ValueError: if an image isn't in [0, 1], there are fewer than ``n``, or the models have
            other classes than each other.
        UnsuitedModelError: if logits aren't finite, or are probabilities.

    Source: MixACM, Theorem 4.1.
    """
    chosen = drawn(dataset, n, seed)
    models = [LogitsOnly(model).to(device).eval() for model in (student, teacher)]
    part = Part("disagreement", attack.perturb, 2 * attack.passes)
    told = Progress("disagreement", [part], count(chosen), progress)
    watching = models[0].register_forward_hook(told.watch)
    clean: list[Tensor] = []
    largest: list[Tensor] = []
    flat: list[Tensor] = []
    warnings = attack.warnings()
    with preserved_rng():
        torch.manual_seed(seed)
        try:
            told.begin_part(0, count(chosen))
            for batch in every_batch(DataLoader(chosen, batch_size=batch_size)):
                images, labels, _ = unpack(batch, torch.device(device))
                check_images(images)
                told.begin_batch(told.loaded, len(images))
                told.loaded += len(images)
                logits = _logits(models, images, labels)
                if not clean and any(map(differ, logits, _logits(models, images, labels))):
                    warnings.append(RANDOMISED)
                clean.append(total_variation(*logits))
                found, unmoved = _largest(models, images, attack)
                largest.append(found)
                flat.append(unmoved)
        finally:
            watching.remove()
            told.close()
    unmoved = torch.cat(flat)
    if unmoved.any():
        warnings.append(f"{AT_START} ({int(unmoved.sum())} of {len(unmoved)} images)")
    distances = torch.cat(largest).double()
    return Disagreement(
        float(distances.mean()),
        float(distances.std()) if len(distances) > 1 else 0.0,
        float(torch.cat(clean).double().mean()),
        len(distances),
        attack,
        seed,
        batch_size,
        tuple(warnings),
    )


@torch.no_grad()
def _logits(models: list[LogitsOnly], images: Tensor, labels: Tensor) -> list[Tensor]:
    """Logits of student and teacher, as they have to be for a distance of their answers."""
    student, teacher = found = [model(images) for model in models]
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student has {student.shape[1]} classes and the teacher {teacher.shape[1]}; "
            "expected the same"
        )
    for role, own in (("student", student), ("teacher", teacher)):
        try:
            check_logits(own, labels)
            if are_probabilities(own):
                raise UnsuitedModelError("it returns probabilities; expected logits")
        except UnsuitedModelError as error:
            raise UnsuitedModelError(f"of the {role}: {error}") from error
    return found


def _largest(models: list[LogitsOnly], images: Tensor, attack: PGD) -> tuple[Tensor, Tensor]:
    """Largest distance on the ways of all ascents, ``(N,)``; whether one couldn't begin to move."""
    norm, eps = attack.ball
    student, teacher = models
    best, place = images.new_full((len(images),), -1.0), images
    flat = torch.zeros(len(images), dtype=torch.bool, device=images.device)

    def watch(step: int, gradient: Tensor) -> None:
        if step == 0:
            flat.logical_or_(gradient.flatten(1).abs().amax(1) == 0)

    def seen(adversarial: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        nonlocal best, place
        logits, others = student(adversarial), teacher(adversarial)
        distance = total_variation(logits, others)
        found = distance.detach().nan_to_num(1.0)  # no answer is none at all
        farther = (found > best).view(-1, *[1] * (images.ndim - 1))
        place = torch.where(farther, adversarial.detach(), place)
        best = torch.maximum(best, found)
        return logits, others, distance

    def away(adversarial: Tensor) -> Tensor:
        logits, others, _ = seen(adversarial)
        return F.cross_entropy(logits, others.argmax(1), reduction="sum")

    def distances(adversarial: Tensor) -> Tensor:
        return seen(adversarial)[2].sum()

    with torch.no_grad():
        seen(images)
    for _ in range(attack.restarts):
        start = random_perturbation(images, eps=eps, norm=norm)
        # The distance alone leads to where the teacher doubts, and stays there: a student of whom
        # nearly all answers can be changed would seem to be near its teacher.
        for objective, watched in ((away, watch), (distances, None)):
            last = ascend(
                objective,
                images,
                eps=eps,
                step_size=attack.step,
                steps=attack.steps,
                norm=norm,
                start=start,
                watch=watched,
            )
            with torch.no_grad():
                seen(last)
            start = place - images
    return best, flat
