"""Evaluation: clean accuracy, PGD and AutoAttack, with all that a quoted figure needs."""

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from . import checks, sections
from .adversarial.threat_model import parse_number, perturbation_size, reaches_edge
from .attacks import Attack
from .batches import check_images, drawn, unpack
from .building import build_model, load_into
from .files import write_json
from .recipe import Recipe, read_recipe
from .rng import preserved_rng
from .value_kinds import NAME, expect
from .weights import checkpoint_of

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
    eps = parse_number(attack.eps)
    if attack.name == "pgd" and not reaches_edge(
        eps=eps, step_size=parse_number(attack.step_size), steps=attack.steps
    ):
        logger.warning("%s can't reach the edge of its ball, ε = %s", attack, attack.eps)
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
        raise RuntimeError(f"{attack} left [0, 1]: {error}") from error
    eps = 0.0 if attack.name == "clean" else parse_number(attack.eps)
    largest = perturbation_size(adversarial - images, attack.norm).max()
    if largest > eps + 1e-5:
        raise RuntimeError(f"{attack} left its ball: {attack.norm} {largest:.6f} > {eps:.6f}")


def load_model(recipe: Recipe, role: str = "student", checkpoint: str | None = None) -> nn.Module:
    """Build a recipe's plain student or teacher and load its checkpoint; in eval mode.

    Args:
        recipe: only its ``models`` are built, and ``train`` for a teacher without a checkpoint.
        role: ``student`` or ``teacher``.
        checkpoint: file; by default the student's ``dst_ckpt`` or the teacher's ``src_ckpt``,
            which may also be that of a training stage.

    Raises:
        RecipeError: if there is no such model, or its checkpoint can't be loaded.
    """
    config = {"models": recipe.build("models")}
    checks.check_models(recipe, config)
    roles = sections.model_sections(config)
    if role not in roles:
        raise recipe.error("models", f"no {role} in this recipe")
    path = roles[role]
    model = build_model(recipe, config, path)
    key, source = ("--ckpt", checkpoint) if checkpoint else checkpoint_of(recipe, config, role)
    load_into(recipe, model, key, source)
    return model.eval()


def evaluation_dataset(recipe: Recipe) -> Dataset:
    """Build the dataset of a recipe's ``test`` section, and no other.

    Raises:
        RecipeError: if there is none.
    """
    config = {"test": recipe.build("test"), "datasets": {}}
    where = "test.test_data_loader.dataset_id"
    checks.require(recipe, config, where)
    dataset_id = sections.get(config, where)
    expect(recipe, where, dataset_id, NAME)
    return recipe.build("datasets", dataset_id)


def markdown_table(rows: Sequence[tuple[str, Accuracy]]) -> str:
    """Lay out named accuracies as a table that carries all that a quoted figure needs."""
    lines = [
        "| model | attack | norm | ε | n | seed | clean % | accuracy % | 95 % interval |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, accuracy in rows:
        attack, (low, high) = accuracy.attack, accuracy.interval()
        threat = ("–", "–") if attack.name == "clean" else (attack.norm, attack.eps)
        lines.append(
            f"| {name} | {attack} | {threat[0]} | {threat[1]} | {accuracy.n} | {accuracy.seed} "
            f"| {100 * accuracy.clean:.1f} | {100 * accuracy.value:.1f} "
            f"| {100 * low:.1f} – {100 * high:.1f} |"
        )
    return "\n".join(lines)


def write_accuracies(path: str | Path, rows: Sequence[tuple[str, Accuracy]]) -> None:
    """Write named accuracies with their settings to a file."""
    write_json(path, [{"model": name, **accuracy.to_json()} for name, accuracy in rows])


def load_student(recipe: str | os.PathLike[str], checkpoint: str | None = None) -> nn.Module:
    """Load a trained student as the plain model that the recipe names, in eval mode.

    Args:
        recipe: file; of it only the models are built, no data.
        checkpoint: file; by default the recipe's ``dst_ckpt``.

    Raises:
        RecipeError: if the recipe or the checkpoint can't be used.
    """
    return load_model(read_recipe(recipe), "student", checkpoint)
