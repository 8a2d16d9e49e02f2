"""A step before training, on a stage's own batches, so that what would fail fails before hours."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchdistill.common.main_util import is_dist_avail_and_initialized
from torchdistill.models.wrapper import AuxiliaryModelWrapper

from ..common.errors import RecipeError
from ..common.images import check_images, count, unpack
from ..common.modules import covering
from ..common.outputs import are_probabilities, logits_of
from ..common.state import eval_mode, preserved_modules, preserved_rng
from ..evaluation.logits import check_logits
from ..loading.datasets import FEW, TEST, batches_of, few_measured, first_batch, normalises
from ..reading import sections
from ..reading.nodes import plain
from ..reading.recipe import Recipe
from .boxes import (
    FIND_UNUSED,
    Box,
    models_of,
    processes_of,
    stand_ins,
    student_of,
    terms_of,
    without_ddp,
)
from .metrics import record_terms
from .own_losses import check_loss, untrained
from .places import said_at
from .soft_labels import BY_CLASS, check_answers
from .unset_gradients import refused_unset_gradients

NO_BATCH = "not a single batch: fewer images than batch_size, and drop_last"


def try_loaders(
    recipe: Recipe,
    box: Box,
    models: Mapping[str, nn.Module],
    path: str,
    *,
    attacked: bool,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Load a batch of a stage's training data, and a few images of its validation data.

    Args:
        recipe: names the file in errors.
        box: at the beginning of a stage.
        models: the plain model of each role.
        path: of the stage.
        attacked: whether validation images will be.

    Returns:
        A few of the training images; as many of the validation images, and their labels.

    Raises:
        RecipeError: if a loader can't be used, and on images outside of [0, 1] where an ε or a
            model that normalises inside takes them for pixels.
    """
    pixels = any(map(normalises, models.values())) or any(
        getattr(owner, "takes_pixels", False) for owner in processes_of(box)
    )
    with said_at(recipe, f"{path}.train_data_loader"), preserved_rng():
        loader = box.train_data_loader
        if len(loader) == 0:
            raise ValueError(NO_BATCH)
        trained, *_ = unpack(first_batch(loader, _batch_sizes(loader)[0]), box.device)
        if pixels:
            check_images(trained)
    where = f"{path}.val_data_loader"
    with said_at(recipe, where), preserved_rng():
        validated = few_measured(recipe, where, box.val_data_loader, box.device, attacked)
        if pixels or attacked:
            check_images(validated[0])
    return trained[:FEW], validated


@torch.no_grad()
def check_images_kept(
    recipe: Recipe, config: Mapping[str, Any], models: Mapping[str, nn.Module], images: Tensor
) -> None:
    """Refuse a teacher that changes the images which the student gets after it.

    Args:
        recipe: names the file in errors.
        config: the built recipe.
        models: the plain model of each role.
        images: of the training data, left as they are.
    """
    if "teacher" not in models:
        return
    given = images[:1].clone()
    with preserved_rng(), eval_mode(models["teacher"]), suppress(Exception):
        models["teacher"](given)  # what it refuses, the trial step tells
    if not torch.equal(given.nan_to_num(), images[:1].nan_to_num()):
        raise recipe.error(
            sections.model_sections(config)["teacher"],
            "it changes its images in place, and the student gets the same ones after it; let it "
            "work on a copy, such as x - mean in place of x.sub_(mean)",
        )


def try_step(
    recipe: Recipe,
    box: Box,
    models: Mapping[str, nn.Module],
    path: str,
    validated: tuple[Tensor, Tensor],
) -> list[str]:
    """Train a step on a full batch, and on one of the last batch's size, without the optimiser's.

    Nothing is left of it: weights, buffers, gradients, modes, random generators, the memories of
    losses and of forward processes are as before.

    Args:
        recipe: names the file in errors.
        box: at the beginning of a stage, its loaders tried.
        models: the plain model of each role.
        path: of the stage.
        validated: some of its validation images, and their labels.

    Returns:
        A warning for each weighted term that has no gradient.

    Raises:
        RecipeError: on what would stop the training.
    """
    warnings: dict[str, None] = {}
    for owner in processes_of(box):
        if hasattr(owner, "check_box"):
            owner.check_box(box)
    with preserved_rng():
        loaded = f"{path}.train_data_loader"
        sizes = _batch_sizes(box.train_data_loader)
        for size in sizes:
            try:
                with said_at(recipe, loaded):
                    batch = unpack(first_batch(box.train_data_loader, size), box.device)
                warnings |= dict.fromkeys(_step(recipe, box, models, batch, path))
            except RecipeError as error:
                if size == sizes[0]:
                    raise
                message = f"in the last batch, of {size} of the images: {error.message}"
                hint = "; kwargs.drop_last: True leaves it out"
                raise recipe.error(loaded, message + hint) from error
        with said_at(recipe, f"{path}.val_data_loader"):
            _measure(models["student"], *validated)
    return list(warnings)


def try_test(
    recipe: Recipe, loader: DataLoader[Any], student: nn.Module, device: torch.device
) -> list[str]:
    """Send a few of the test images, which are used after the last epoch, through the student.

    Returns:
        A warning where it returns probabilities.

    Raises:
        RecipeError: if it can't take them, or their labels are of other classes.
    """
    with preserved_rng(), said_at(recipe, TEST):
        answers = _measure(student, *few_measured(recipe, TEST, loader, device))
    if not are_probabilities(answers):
        return []
    path = sections.model_sections(plain(recipe.root))["student"]
    return [
        f"{path}: it returns probabilities, which losses and attacks take for logits; leave its "
        "softmax out"
    ]


@torch.no_grad()
def _measure(student: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with eval_mode(student):
        logits = logits_of(student(images))
    # An untrained one's statistics may be far off; the first epoch mends them.
    check_logits(torch.zeros_like(logits), labels)
    return logits


def _batch_sizes(loader: DataLoader) -> list[int]:
    """Sizes of a loader's batches: the usual one, and the last one's where it is another."""
    sampler: Any = batches_of(loader)
    size = getattr(sampler, "batch_size", None) or len(next(iter(sampler)))
    own: Any = loader.sampler  # a process's share, where there are several
    total = len(own) if hasattr(own, "__len__") else count(loader.dataset)
    last = 0 if getattr(sampler, "drop_last", False) or total <= size else total % size
    return [min(size, total), *([last] if last else [])]


def _step(
    recipe: Recipe,
    box: Box,
    models: Mapping[str, nn.Module],
    batch: tuple[Tensor, Tensor, Any],
    path: str,
) -> list[str]:
    images, targets, extra = batch
    with preserved_rng(), preserved_modules(*models_of(box).values()), stand_ins(box):
        for model in models_of(box).values():
            model.train()
        if "teacher" in models:
            models["teacher"].eval()
        running: list[tuple[str, Any]] = []  # the terms so far, and what they were given
        for name, (term, _) in terms_of(box.criterion).items():
            term.register_forward_pre_hook(lambda _, args, name=name: running.append((name, args)))
            term.register_forward_hook(check_loss)
            if isinstance(term, BY_CLASS):
                term.register_forward_pre_hook(partial(check_answers, recipe, path, name))
        where = f"{path}.train_data_loader.collate_fn"
        with (
            said_at(recipe, f"{path}.criterion", running),
            _checked_targets(recipe, without_ddp(student_of(box)), targets, where),
            refused_unset_gradients(models["student"]),
            record_terms(box.criterion) as terms,
        ):
            loss = box.forward_process(images, targets, extra)
            if loss.requires_grad:
                loss.backward()
        if is_dist_avail_and_initialized():
            name = sections.stage_sections(plain(recipe.root))["student"]
            _check_gradients(recipe, student_of(box), f"{path}.{name}")
        weighted = {name for name, (_, weight) in terms_of(box.criterion).items() if weight}
    return [untrained(path, n) for n, t in terms.items() if n in weighted and not t.requires_grad]


def _check_gradients(recipe: Recipe, student: nn.Module, section: str) -> None:
    """Refuse what is trained without a gradient: DDP would wait for it in the next step."""
    if sections.told(plain(recipe.root), f"{section}.{FIND_UNUSED}"):
        return
    trained = [(n, p) for n, p in student.named_parameters() if p.requires_grad]
    without = {name for name, parameter in trained if parameter.grad is None}
    if without:
        hint = f"[{', '.join(covering(student, without))}]"
        if isinstance(student, AuxiliaryModelWrapper):
            hint += ", and set find_unused_parameters: True in its auxiliary_model_wrapper's kwargs"
        raise recipe.error(
            f"{section}.frozen_modules",
            f"{len(without)} parameters of the student get no gradient, of which several processes "
            f"have to know; freeze them: {hint}",
        )


@contextmanager
def _checked_targets(
    recipe: Recipe, student: nn.Module, targets: Tensor, where: str
) -> Iterator[None]:
    def check(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(module, AuxiliaryModelWrapper) and not isinstance(output, Tensor):
            return
        try:
            classes = logits_of(output).shape[1]  # as validation takes them
        except TypeError:
            return
        if targets.ndim == 2 and targets.shape[1] != classes:
            raise recipe.error(
                where, f"labels have {targets.shape[1]} classes, the student has {classes}"
            )
        if targets.ndim == 1 and int(targets.max()) >= classes:
            raise recipe.error(
                where, f"found label {int(targets.max())}, the student has {classes} classes"
            )

    handle = student.register_forward_hook(check)
    try:
        yield
    finally:
        handle.remove()
