"""Evaluation: clean accuracy, PGD and AutoAttack, with all that a quoted figure needs."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..common.distributed import sum_over_processes
from ..common.images import check_images, drawn, unpack
from ..common.state import eval_mode, preserved_rng
from ..parts.adversarial.threat_model import perturbation_size
from .attacks import Attack

logger = logging.getLogger("mixacm")


@dataclass(frozen=True)
class Accuracy:
    """Correct images out of ``n``, with the attack and the seed that gave them.

    Args:
        correct: images that are classified right, also under the attack.
        clean_correct: images that are classified right without it.
        n: images in all.
        attack: with its threat model.
        seed: of the images' choice and of the attack.
        batch_size: of the attack, whose random draws depend on it.
    """

    correct: int
    clean_correct: int
    n: int
    attack: Attack
    seed: int
    batch_size: int | None = None

    @property
    def value(self) -> float:
        """Accuracy under the attack, as a fraction."""
        return self.correct / self.n

    @property
    def clean(self) -> float:
        """Clean accuracy on the same images, as a fraction."""
        return self.clean_correct / self.n

    def interval(self) -> tuple[float, float]:
        """95 % confidence interval (Wilson) over the choice of test images."""
        from scipy.stats import binomtest  # only here, since it takes a while

        bounds = binomtest(self.correct, self.n).proportion_ci(0.95, method="wilson")
        return float(bounds.low), float(bounds.high)

    def to_json(self) -> dict[str, Any]:
        """Return the figure and its setting as plain values."""
        low, high = self.interval()
        return {
            **asdict(self),
            "attack": self.attack.settings(),
            "accuracy": self.value,
            "clean_accuracy": self.clean,
            "interval_95": [low, high],
        }


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    attack: Attack,
    *,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = 250,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Accuracy:
    """Accuracy of a model under an attack, on images of a dataset.

    Only correctly classified images are attacked, so robust accuracy can't exceed clean accuracy.
    On every batch it is checked that the perturbation is in the ball and the image in [0, 1].

    Args:
        model: takes ``(N, 3, H, W)`` in [0, 1]; put into eval mode.
        dataset: yields ``(image, label)``, images in [0, 1].
        attack: with its threat model.
        n: number of images, drawn with ``seed``, the same for every model; by default all.
        seed: of the choice of images and of the attack.
        batch_size: images attacked at a time.
        num_workers: processes that load images.
        device: where to run.
        progress: show a progress bar.

    Raises:
        ValueError: if an image isn't in [0, 1] or there are fewer than ``n``.
        RuntimeError: if the attack leaves the ball or [0, 1].
    """
    images_of_seed = drawn(dataset, n, seed)
    loader = DataLoader(images_of_seed, batch_size=batch_size, num_workers=num_workers)
    for warning in attack.warnings():
        logger.warning(warning)
    model = model.to(device).eval()
    correct = clean_correct = 0
    with preserved_rng():
        torch.manual_seed(seed)
        for batch in tqdm(loader, desc=attack.name, disable=not progress, leave=False):
            images, labels, _ = unpack(batch, torch.device(device))
            check_images(images)
            with torch.no_grad():
                right = model(images).argmax(1) == labels
            clean_correct += int(right.sum())
            if right.any():
                images, labels = images[right], labels[right]
                adversarial, robust = attack.perturb(model, images, labels, seed)
                _check_adversarial(adversarial, images, attack)
                correct += int(robust.sum())
    return Accuracy(correct, clean_correct, len(images_of_seed), attack, seed, batch_size)


def _check_adversarial(adversarial: Tensor, images: Tensor, attack: Attack) -> None:
    try:
        check_images(adversarial)
    except ValueError as error:
        raise RuntimeError(f"{attack.title} left [0, 1]: {error}") from error
    norm, eps = attack.ball
    largest = perturbation_size(adversarial - images, norm).max()
    if largest > eps + 1e-5:
        raise RuntimeError(f"{attack.title} left its ball: {norm} {largest:.6f} > {eps:.6f}")


@torch.no_grad()
def clean_accuracy(model: nn.Module, loader: DataLoader, device: torch.device) -> float:
    """Top-1 accuracy, as a fraction, on unattacked images; the model is used in eval mode."""
    correct = total = 0
    with eval_mode(model):
        for batch in loader:
            images, labels, _ = unpack(batch, device)
            correct += int((model(images).argmax(1) == labels).sum())
            total += len(labels)
    correct_everywhere, total_everywhere = sum_over_processes(correct, total, device=device)
    return correct_everywhere / total_everywhere
