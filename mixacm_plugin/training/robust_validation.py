"""Robust validation: a recipe's block ``validate``, and a student's accuracy under its attack."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchdistill.common.main_util import get_rank, get_world_size, is_main_process

from ..common.distributed import sum_over_processes
from ..common.errors import nearest
from ..common.images import count, every_batch, unpack
from ..common.outputs import LogitsOnly
from ..common.state import eval_mode, preserved_rng
from ..evaluation.accuracy import evaluate
from ..evaluation.attacks import ATTACKS, Attack, attack_of
from ..evaluation.logits import check_class_count, clean_accuracies
from ..loading.datasets import FEW, as_collated, first_batch
from ..loading.shared_images import shared_by_name
from ..reading import sections
from ..reading.recipe import Recipe
from .boxes import Box

OWN = ("attack", "n", "every", "patience")  # the other keys are the attack's settings
DEFAULT_N = 500
SEED = 0  # of the images' choice and of the attack: epochs are compared on the same


@dataclass(frozen=True)
class RobustValidation:
    """What a recipe's block ``validate`` asks for.

    Args:
        attack: with its threat model.
        n: number of validation images; by default 500, or all where there are fewer.
        every: number of epochs from one robust validation to the next; the last epoch has one.
        patience: number of them without improvement after which training ends; by default none.
    """

    attack: Attack
    n: int | None = None
    every: int = 1
    patience: int | None = None

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Whether there is one after an epoch, counted from 0, of so many."""
        return (epoch + 1) % self.every == 0 or epoch + 1 == epochs


def robust_validation(recipe: Recipe, config: Mapping[str, Any]) -> RobustValidation | None:
    """Read a recipe's block ``validate``, if it has one.

    Args:
        recipe: names the file in errors.
        config: the built recipe, held against the schema before.

    Raises:
        RecipeError: on an unknown attack or setting, or a value that doesn't fit.
    """
    block = config.get("validate")
    if block is None:
        return None
    attack = _attack(recipe, block)
    own = {name: block[name] for name in OWN[1:] if block.get(name) is not None}
    if "patience" in own and len(list(sections.stages(config))) > 1:
        raise recipe.error("validate.patience", "expected a recipe of one stage")
    return RobustValidation(attack, **own)


def _attack(recipe: Recipe, block: Mapping[str, Any]) -> Attack:
    name = block["attack"]
    adversaries = [known for known in ATTACKS if known != "clean"]
    if name not in adversaries:
        expected = f"expected {', '.join(adversaries)}; found {name!r}"
        raise recipe.error("validate.attack", expected + nearest(name, adversaries))
    known = [*OWN, *(field.name for field in fields(ATTACKS[name]))]
    for key in block:
        if key not in known:
            message = f"unknown key; expected {', '.join(known)}.{nearest(key, known)}"
            raise recipe.error(f"validate.{key}", message)
    settings = {k: v for k, v in block.items() if k not in OWN and v is not None}
    try:
        return attack_of({"name": name, **settings})
    except ValueError as error:
        raise recipe.error("validate", str(error)) from error


def check_validation_images(
    recipe: Recipe, config: Mapping[str, Any], validation: RobustValidation
) -> list[str]:
    """Check that every stage has the images that robust validation asks for.

    Returns:
        A warning where they are the test images, by which nothing may be chosen.

    Raises:
        RecipeError: if there are fewer.
    """
    warnings = []
    tested = config["test"]["test_data_loader"]["dataset_id"]
    for path, _ in sections.stages(config):
        dataset_id = sections.get(config, f"{path}.val_data_loader.dataset_id")
        if dataset_id is None:  # that of the stage before
            continue
        size = count(config["datasets"][dataset_id])
        if validation.n is not None and validation.n > size:
            message = f"expected at most the {size} images of {dataset_id}; found {validation.n}"
            raise recipe.error("validate.n", message)
        if told := shared_by_name(tested, dataset_id, config):  # no sampler may pick some of them
            warnings.append(
                f"{path}.val_data_loader.dataset_id: {told} are validated on, too: robust "
                "validation chooses the best checkpoint by them, so that their robust accuracy is "
                "too high"
            )
    return warnings


def check_attack_fits(
    recipe: Recipe, validation: RobustValidation, student: nn.Module, box: Box
) -> None:
    """Check that a student, not yet trained, can be attacked on validation images.

    Raises:
        RecipeError: if it can't.
    """
    model, loader = LogitsOnly(student), box.val_data_loader
    images, *_ = unpack(first_batch(loader, FEW), box.device)
    try:
        with preserved_rng(), eval_mode(student), torch.no_grad():
            check_class_count(model(images).shape[1], loader.dataset)
            validation.attack.check_model(model, images)
    except ValueError as error:
        raise recipe.error("validate", str(error)) from error


def accuracies(
    student: nn.Module,
    loader: DataLoader[Any],
    device: torch.device,
    validation: RobustValidation | None,
) -> tuple[float, float | None]:
    """Clean and, where it is asked for, robust accuracy on validation images, as fractions.

    Args:
        student: in whatever mode.
        loader: of this process's share of the validation images.
        device: of the student.
        validation: what is asked for.

    Raises:
        UnsuitedModelError, TypeError: on what isn't logits; see ``evaluate``.
        ValueError: on images outside of [0, 1].
    """
    clean = clean_accuracies(student, every_batch(loader), device)[1]
    if validation is None:
        return clean, None
    return clean, robust_accuracy(student, loader, device, validation)


def robust_accuracy(
    student: nn.Module,
    loader: DataLoader[Any],
    device: torch.device,
    validation: RobustValidation,
    most: int | None = None,
) -> float:
    """Accuracy under the attack of robust validation, as a fraction; see ``accuracies``.

    Args:
        student: or another model.
        loader: likewise.
        device: of the model.
        validation: what is asked for.
        most: at most so many images.
    """
    there, processes = count(loader.dataset), get_world_size()
    (in_all,) = sum_over_processes(there, device=device)
    n = min(validation.n or DEFAULT_N, int(in_all), most or int(in_all))
    own = n // processes + (get_rank() < n % processes)
    correct = 0
    if own:
        with eval_mode(student):  # evaluate leaves it in eval mode, and generators as they were
            correct = evaluate(
                student,
                as_collated(loader.dataset, loader.collate_fn),
                validation.attack,
                n=own,
                seed=SEED,
                batch_size=loader.batch_size or 250,
                num_workers=loader.num_workers,
                device=device,
                progress=sys.stderr.isatty() and is_main_process(),
            ).correct
    (total,) = sum_over_processes(correct, device=device)
    return total / n
