"""From models to the host's training box, stage by stage."""

import copy
import traceback
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import DistributedSampler, RandomSampler
from torchdistill.common.main_util import is_dist_avail_and_initialized
from torchdistill.core.distillation import get_distillation_box
from torchdistill.core.training import get_training_box

from ..common.checkpoints import load_checkpoint
from ..common.state import preserved_rng
from ..loading.models import errors_at, load_into
from ..reading import sections
from ..reading.recipe import Recipe
from .boxes import Box, device_ids, distribute, save_stage, skip_stage
from .compute import activations_in_float32, use_compute
from .hooked import check_hooked
from .optimiser import check_optimiser, freed
from .schedule import check_schedule
from .trial_step import check_images_kept, try_loaders, try_step

BUILDERS = {  # functions of the host, and what they build of a stage
    "get_high_level_loss": "criterion.kwargs",
    "get_optimizer": "optimizer.kwargs",
    "get_scheduler": "scheduler.kwargs",
}
LOADER_PARTS = (  # variables of the host's function in their order, and what it builds before them
    ("sampler_config", "dataset_wrapper"),
    ("sampler", "sampler"),
    ("batch_sampler", "batch_sampler"),
)


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
                with errors_at(recipe, where):
                    load_checkpoint(source)
            else:
                model = copy.deepcopy(models[role])
                load_into(recipe, model, where, source)
                _check_as_it_is(recipe, model, where, source, sections.model_sections(config)[role])


def _check_as_it_is(
    recipe: Recipe, model: nn.Module, where: str, source: str, section: str
) -> None:
    """Refuse a file that fits once it is unpacked, which the host doesn't do."""
    content = load_checkpoint(source)
    try:
        model.load_state_dict(content.get("model", content))
    except (RuntimeError, TypeError) as error:
        raise recipe.error(
            where,
            f"{source} has its weights under other names, and torchdistill loads a stage's file as "
            f"it is; name it at {section}.src_ckpt, or save the weights alone",
        ) from error


def _written_between(config: Mapping[str, Any], section: str) -> str | None:
    """Checkpoint of a role that the host writes at the end of a stage."""
    path: str | None = sections.get(config, f"train.{section}.dst_ckpt")
    return path


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
    """Build the host's box, at the beginning of its first stage.

    Raises:
        RecipeError: if the host can't.
    """
    use_compute(config, models)
    for model in models.values():
        model.to(device)
    ids = device_ids(device)
    common = (config["datasets"], _for_host(config), device, ids, distributed, lr_factor)
    try:
        if "teacher" in models:
            box = get_distillation_box(models["teacher"], models["student"], *common)
        else:
            box = get_training_box(models["student"], *common)
    except Exception as error:
        path, stage = next(sections.stages(config))
        raise recipe.error(
            _place(path, stage, error), f"{type(error).__name__}: {error}"
        ) from error
    if hasattr(box, "save_stage_ckpt"):
        box.save_stage_ckpt = save_stage
    # Here, so that whoever makes a step has it.
    box.forward_process = activations_in_float32(box)(box.forward_process)
    if distributed:
        distribute(box, config, seed)
    return box


def _for_host(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training for the host, in whose stages models have no wrapper for processes.

    The host would wrap them on GPUs alone, also of one process. ``distribute`` does, on every
    device, and leaves what has a wrapper of its own.
    """
    train = dict(config["train"])
    for stage in sections.part_stages(train):
        if stage.get("optimizer"):
            # The host multiplies the rate in place; where stages are aliases, it would do so twice.
            stage["optimizer"] = copy.deepcopy(stage["optimizer"])
        for section in sections.stage_sections(config).values():
            stage[section] = {k: v for k, v in stage[section].items() if k != "wrapper"}
    return train


def _place(path: str, stage: Mapping[str, Any], error: Exception) -> str:
    """Key path of what the host was building of a stage when it failed."""
    running = {f.f_code.co_name: f.f_locals for f, _ in traceback.walk_tb(error.__traceback__)}
    if "empty parameter list" in str(error):
        for role in ("student", "model"):
            if sections.get(stage, f"{role}.requires_grad") is False:
                return f"{path}.{role}.requires_grad"
    for name, key in BUILDERS.items():
        if name in running:
            return f"{path}.{key}"
    loader = running.get("build_data_loader", {})
    for name in ("train_data_loader", "val_data_loader"):
        if loader and stage.get(name) is loader["data_loader_config"]:
            part = next((part for made, part in LOADER_PARTS if made not in loader), "kwargs")
            return f"{path}.{name}.{part}"
    return path


def check_later_stages(
    recipe: Recipe, config: Mapping[str, Any], models: Mapping[str, nn.Module], device: torch.device
) -> list[str]:
    """Set up each stage once, on copies, so that a mistake in a later one shows before training.

    Returns:
        A warning for each thing that may be wrong.

    Raises:
        RecipeError: on anything that would stop a stage's first step.
    """
    warnings: list[str] = []
    later = len(list(sections.stages(config))) - 1
    if later == 0:
        return warnings
    # The host changes it, and its wrappers of datasets change those.
    datasets = {name: copy.copy(dataset) for name, dataset in config["datasets"].items()}
    config = {**config, "train": recipe.build("train"), "datasets": datasets}
    for _, stage in sections.stages(config):
        for section in sections.stage_sections(config).values():
            if sections.get(stage, f"{section}.src_ckpt") == _written_between(config, section):
                stage[section].pop("src_ckpt", None)  # what lies there is of an earlier run
    models = copy.deepcopy(dict(models))
    frozen = {n: p for n, p in models["student"].named_parameters() if not p.requires_grad}
    with preserved_rng():
        box = build_box(recipe, config, models, device)
        for _ in range(later):
            try:
                skip_stage(box)
            except Exception as error:
                where = _place(*sections.current_stage(config, box), error)
                raise recipe.error(where, f"{type(error).__name__}: {error}") from error
            warnings += check_stage(recipe, config, box, models)
            path, _ = sections.current_stage(config, box)
            student = sections.stage_sections(config)["student"]
            warnings += freed(f"{path}.{student}", box, frozen)
    return warnings


def check_stage(
    recipe: Recipe, config: Mapping[str, Any], box: Box, models: Mapping[str, nn.Module]
) -> list[str]:
    """Check a box at the beginning of a stage: who is trained, what is hooked, then a step.

    Returns:
        A warning for each thing that may be wrong.

    Raises:
        RecipeError: if the optimiser trains what it shouldn't, its schedule fails, the teacher
            changes its images, a pair has another layout than its modules, the step fails, or
            several processes can't do it.
    """
    path, stage = sections.current_stage(config, box)
    _check_sampler(recipe, path, stage)
    warnings = check_optimiser(recipe, path, box, models)
    check_schedule(recipe, config, path, box)
    attacked = bool(config.get("validate"))
    images, validated = try_loaders(recipe, box, models, path, attacked=attacked)
    check_images_kept(recipe, config, models, images)
    warnings += check_hooked(recipe, config, path, models, images)
    return warnings + try_step(recipe, box, models, path, validated)


def _check_sampler(recipe: Recipe, path: str, stage: Mapping[str, Any]) -> None:
    """Refuse a sampler in whose place the host puts its own in several processes."""
    key = "train_data_loader.sampler.class_or_func"
    sampler = sections.get(stage, key)
    if is_dist_avail_and_initialized() and sampler not in (None, RandomSampler, DistributedSampler):
        name = getattr(sampler, "__name__", sampler)
        message = f"{name} isn't used in several processes, which get shuffled shares of the data"
        raise recipe.error(f"{path}.{key}", f"{message}; use RandomSampler, or one process")
