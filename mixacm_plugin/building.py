"""From a recipe to models with weights and the host's training box, ready for its first step."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchdistill.common.constant import SELF_MODULE_PATH
from torchdistill.common.main_util import is_dist_avail_and_initialized
from torchdistill.core.distillation import get_distillation_box
from torchdistill.core.training import get_training_box
from torchdistill.models.official import get_image_classification_model
from torchdistill.models.registry import get_model

from . import checks, sections
from .batches import check_images, first_batch, unpack
from .boxes import Box, distribute, skip_stage, student_of
from .checkpoints import CheckpointError, load_checkpoint, load_weights
from .losses import ACMLoss, PairError
from .modes import eval_mode
from .module_paths import check_module_paths
from .recipe import Recipe
from .rng import preserved_rng
from .value_kinds import FILE, expect

NO_BATCH = "not a single batch: fewer images than batch_size, and drop_last"
# Recipes that name one of these work on images in [0, 1]; others are the host's business.
OUR_PARTS = ("mixacm_plugin", "ACMLoss", "dm_wide_resnet", "normalized", "robust_teacher")


def build_model(recipe: Recipe, config: Mapping[str, Any], path: str) -> nn.Module:
    """Build the plain model that the recipe has at ``path``, without weights.

    Raises:
        RecipeError: if its key or its arguments are wrong.
    """
    checks.check_model_key(recipe, config, path)
    section = sections.get(config, path)
    try:
        model = get_image_classification_model(section, is_dist_avail_and_initialized())
        if model is None:
            model = get_model(section["key"], section.get("repo_or_dir"), **section["kwargs"])
    except Exception as error:
        raise recipe.error(f"{path}.kwargs", f"{type(error).__name__}: {error}") from error
    return model


def load_into(recipe: Recipe, model: nn.Module, where: str, checkpoint: str | None) -> None:
    """Load the checkpoint named at ``where``, if one is named.

    Raises:
        RecipeError: if it is missing, unreadable or of another architecture.
    """
    if checkpoint is None:
        return
    expect(recipe, where, checkpoint, FILE)
    with _errors_at(recipe, where):
        load_weights(model, checkpoint)


@contextmanager
def _errors_at(recipe: Recipe, where: str) -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise recipe.error(where, str(error)) from error


def build_models(recipe: Recipe, config: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Build the plain models by role (``teacher``, ``student``), with their source checkpoints."""
    built = {}
    for role, path in reversed(sections.model_sections(config).items()):  # the host's order
        built[role] = build_model(recipe, config, path)
        source = sections.get(config, f"{path}.src_ckpt")
        load_into(recipe, built[role], f"{path}.src_ckpt", source)
    return built


def check_stage_checkpoints(
    recipe: Recipe, config: Mapping[str, Any], models: Mapping[str, nn.Module]
) -> None:
    """Check the checkpoints that the host loads by itself at the beginning of a stage.

    The host goes on where one is missing, and would run code that is in it. One for a model in a
    wrapper, or redesigned, has keys of its own: it is read, but only the host can compare them.

    Raises:
        RecipeError: if one is missing, unreadable or of another architecture.
    """
    for number, (path, stage) in enumerate(sections.stages(config)):
        for role, section in sections.stage_sections(config).items():
            source = sections.get(stage, f"{section}.src_ckpt")
            if source is None or (number and source == _written_between(config, section)):
                continue
            where, part = f"{path}.{section}.src_ckpt", stage[section]
            if sections.is_redesigned(part) or part.get("auxiliary_model_wrapper"):
                with _errors_at(recipe, where):
                    load_checkpoint(source)
            else:
                load_into(recipe, copy.deepcopy(models[role]), where, source)


def _written_between(config: Mapping[str, Any], section: str) -> str | None:
    """Checkpoint of a role that the host writes at the end of a stage."""
    return sections.get(config, f"train.{section}.dst_ckpt")


def build_box(
    recipe: Recipe,
    config: Mapping[str, Any],
    models: Mapping[str, nn.Module],
    device: torch.device,
    *,
    distributed: bool = False,
    lr_factor: int = 1,
    seed: int | None = None,
) -> Box:
    """Build the host's box and try a step on a few images, so that a wrong recipe stops here.

    Raises:
        RecipeError: on anything that would stop the first training step.
    """
    _part_optimisers(config["train"])
    check_module_paths(recipe, config, models)
    # Without ids a single process's model would be spread over all GPUs.
    device_ids = [device] if device.type == "cuda" else None
    for model in models.values():
        model.to(device)
    common = (config["datasets"], config["train"], device, device_ids, distributed, lr_factor)
    try:
        if "teacher" in models:
            box = get_distillation_box(models["teacher"], models["student"], *common)
        else:
            box = get_training_box(models["student"], *common)
    except Exception as error:
        raise recipe.error("train", f"{type(error).__name__}: {error}") from error
    if distributed:
        distribute(box, config, seed)
    check_stage(recipe, config, box, models)
    return box


def _part_optimisers(train: dict[str, Any]) -> None:
    # The host multiplies the rate in place; where stages are aliases, it would do so twice.
    for name in [n for n in train if str(n).startswith("stage")]:
        if train[name].get("optimizer"):
            train[name] = {**train[name], "optimizer": copy.deepcopy(train[name]["optimizer"])}


def check_later_stages(
    recipe: Recipe, config: Mapping[str, Any], models: Mapping[str, nn.Module], device: torch.device
) -> None:
    """Set up each stage once, on copies, so that a mistake in a later one shows before training.

    Raises:
        RecipeError: on anything that would stop a stage's first step.
    """
    later = len(list(sections.stages(config))) - 1
    if later == 0:
        return
    # The host changes it, and its wrappers of datasets change those.
    datasets = {name: copy.copy(dataset) for name, dataset in config["datasets"].items()}
    config = {**config, "train": recipe.build("train"), "datasets": datasets}
    for _, stage in sections.stages(config):
        for section in sections.stage_sections(config).values():
            if sections.get(stage, f"{section}.src_ckpt") == _written_between(config, section):
                stage[section].pop("src_ckpt", None)  # what lies there is of an earlier run
    models = copy.deepcopy(dict(models))
    with preserved_rng():
        box = build_box(recipe, config, models, device)
        for _ in range(later):
            try:
                skip_stage(box)
            except Exception as error:
                where = f"train.stage{box.stage_number}"
                raise recipe.error(where, f"{type(error).__name__}: {error}") from error
            check_stage(recipe, config, box, models)


def check_stage(
    recipe: Recipe, config: Mapping[str, Any], box: Box, models: Mapping[str, nn.Module]
) -> None:
    """Check a box at the beginning of a stage: who is trained, and one step without gradient.

    Raises:
        RecipeError: if the teacher would be trained, a learnable transform wouldn't, or the step
            fails.
    """
    path, _ = sections.current_stage(config, box)
    optimised = {id(p) for group in box.optimizer.param_groups for p in group["params"]}
    if "teacher" in models:
        teacher = models["teacher"].named_parameters()
        trained = [name for name, p in teacher if p.requires_grad and id(p) in optimised]
        if trained:
            raise recipe.error(
                f"{path}.teacher",
                f"the teacher would be trained ({len(trained)} tensors, e.g. {trained[0]!r}); "
                "set requires_grad: False, in every stage",
            )
    for where, name, loss in _acm_terms(box, path):
        for pair, module in loss.learnable_transforms():
            if any(id(p) not in optimised for p in module.parameters()):
                raise recipe.error(
                    f"{where}.kwargs.pairs.{pair}.transform.module",
                    f"the learnable transform of term {name!r} isn't in the optimiser; list it "
                    f"under {path}.teacher.auxiliary_model_wrapper.kwargs.modules of a "
                    "FrozenTeacher",
                )
    _dry_run(recipe, config, box, path)


def _acm_terms(box: Box, path: str) -> Iterator[tuple[str, str, ACMLoss]]:
    for name, (term, _) in getattr(box.criterion, "term_dict", {}).items():
        if isinstance(term, ACMLoss):
            yield f"{path}.criterion.kwargs.sub_terms.{name}.criterion", name, term


def _dry_run(recipe: Recipe, config: Mapping[str, Any], box: Box, path: str) -> None:
    loader, where = box.train_data_loader, f"{path}.train_data_loader"
    student, teacher = student_of(box), getattr(box, "teacher_model", nn.Identity())
    criterion = box.criterion
    running: list[tuple[str, Any]] = []  # the terms so far, and what they were given
    try:
        # In eval mode, on a copy of the loss and with the generators put back: no trace is left.
        with preserved_rng(), eval_mode(student), eval_mode(teacher), torch.no_grad():
            if len(loader) == 0:
                raise ValueError(NO_BATCH)
            images, targets, extra = unpack(first_batch(loader), box.device)
            text = recipe.text()
            ours = any(part in text for part in OUR_PARTS)
            if ours:
                check_images(images)
            where = f"{path}.val_data_loader"
            if len(box.val_data_loader) == 0:
                raise ValueError(NO_BATCH)
            validation = first_batch(box.val_data_loader)
            if ours:
                check_images(validation[0])
            where = f"{path}.criterion"
            box.criterion = copy.deepcopy(criterion)
            for name, (term, _) in getattr(box.criterion, "term_dict", {}).items():
                term.register_forward_pre_hook(
                    lambda _, args, name=name: running.append((name, args))
                )
            with _checked_targets(recipe, student, targets, f"{path}.train_data_loader.collate_fn"):
                box.forward_process(images, targets, extra)
    except PairError as error:
        key = f"{where}.kwargs.sub_terms.{running[-1][0]}.criterion.kwargs.{error.where}"
        raise recipe.error(key, error.message) from error
    except (LookupError, ValueError, TypeError, RuntimeError, AttributeError, OSError) as error:
        message = f"{type(error).__name__}: {error}"
        if running:
            where += f".kwargs.sub_terms.{running[-1][0]}"
            if isinstance(error, KeyError):
                message = (
                    f"the term looks for {error}, which isn't hooked; list it under forward_hook"
                )
            elif isinstance(error, TypeError):
                message += _hint_at_parts(running[-1][1])
        raise recipe.error(where, message) from error
    finally:
        box.criterion = criterion


def _hint_at_parts(io_dicts: Any) -> str:
    for side, io_dict in zip(("student", "teacher"), io_dicts, strict=False):
        parts = getattr(io_dict.get(SELF_MODULE_PATH, {}).get("output"), "_fields", ())
        if parts:
            return (
                f"; the {side}'s output has parts ({', '.join(parts)}): name one by "
                f"criterion_wrapper: {{key: OutputPart, kwargs: {{{side}: {parts[0]}}}}}"
            )
    return ""


@contextmanager
def _checked_targets(
    recipe: Recipe, student: nn.Module, targets: Tensor, where: str
) -> Iterator[None]:
    def check(module: nn.Module, args: Any, logits: Any) -> None:
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            return
        classes = logits.shape[1]
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
