"""Checks of a recipe before a model is built: its parts, keys, arguments and teacher."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchdistill.core.interfaces import registry as processes
from torchdistill.datasets import registry as datasets
from torchdistill.losses import registry as losses
from torchdistill.models import registry as models
from torchdistill.models.official import OFFICIAL_MODEL_DICT
from torchdistill.optim import registry as optim

from .losses import SIDES, PairError
from .recipe import Recipe, nearest
from .rng import preserved_rng
from .sections import Config, get, model_sections, stage_sections, stages, terms
from .value_kinds import (
    COUNT,
    LOADER_KINDS,
    MAPPING,
    MODEL_KINDS,
    NAME,
    NATURAL,
    NUMBER,
    RECIPE_KINDS,
    ROLE_KINDS,
    STAGE_KINDS,
    check_kinds,
    expect,
)

# key path below a stage -> what is looked up there, and where
STAGE_KEYS: dict[str, tuple[str, Collection[str]]] = {
    "criterion.key": ("high-level loss", losses.HIGH_LEVEL_LOSS_DICT),
    "criterion.func2extract_model_loss": (
        "function that extracts the model's loss",
        losses.FUNC2EXTRACT_MODEL_OUTPUT_DICT,
    ),
    "optimizer.key": ("optimizer", optim.OPTIM_DICT),
    "scheduler.key": ("scheduler", optim.SCHEDULER_DICT),
    "pre_epoch_process": ("pre-epoch process", processes.PRE_EPOCH_PROC_FUNC_DICT),
    "pre_forward_process": ("pre-forward process", processes.PRE_FORWARD_PROC_FUNC_DICT),
    "post_forward_process": ("post-forward process", processes.POST_FORWARD_PROC_FUNC_DICT),
    "post_epoch_process": ("post-epoch process", processes.POST_EPOCH_PROC_FUNC_DICT),
}
WITH_TEACHER = ("keep_teacher_in_eval", "default_pre_epoch_process_with_teacher")
LOADER_KEYS: dict[str, tuple[str, Collection[str]]] = {
    "collate_fn": ("collate function", datasets.COLLATE_FUNC_DICT),
    "batch_sampler.key": ("batch sampler", datasets.BATCH_SAMPLER_DICT),
    "dataset_wrapper.key": ("dataset wrapper", datasets.DATASET_WRAPPER_DICT),
}
MODEL_KEYS: dict[str, tuple[str, Collection[str]]] = {
    "forward_proc": ("forward process", processes.FORWARD_PROC_FUNC_DICT),
    "auxiliary_model_wrapper.key": ("auxiliary model wrapper", models.AUXILIARY_MODEL_WRAPPER_DICT),
}


def check_config(recipe: Recipe, config: Config) -> None:
    """Check what can be seen without building a model.

    Raises:
        RecipeError: on a missing part, an unknown registry key, arguments that a loss, optimiser
            or scheduler refuses, or a teacher that would be trained.
    """
    check_kinds(recipe, config, "", RECIPE_KINDS)
    require(recipe, config, *RECIPE_KINDS, "test.test_data_loader")
    require(recipe, config, "train.stage1" if "stage1" in config["train"] else "train.num_epochs")
    check_loader(recipe, config, "test.test_data_loader")
    check_models(recipe, config)
    for path in model_sections(config).values():
        check_model_key(recipe, config, path)
    student = model_sections(config)["student"]
    require(recipe, config, f"{student}.dst_ckpt")
    # In several stages the host looks at these too, when the next one begins.
    _check_roles(recipe, config, config["train"], "train")
    for path, stage in stages(config):
        expect(recipe, path, stage, MAPPING)
        check_kinds(recipe, stage, path, STAGE_KINDS)
        require(recipe, config, f"{path}.num_epochs", f"{path}.criterion.key")
        if path in ("train", "train.stage1"):
            require(recipe, config, f"{path}.optimizer.key", f"{path}.train_data_loader")
            require(recipe, config, f"{path}.val_data_loader")
        _check_keys(recipe, stage, path, STAGE_KEYS)
        process = stage.get("pre_epoch_process")
        if process in WITH_TEACHER and "teacher" not in model_sections(config):
            raise recipe.error(
                f"{path}.pre_epoch_process",
                f"{process} needs a teacher; the recipe has no models.teacher_model",
            )
        for loader in ("train_data_loader", "val_data_loader"):
            if stage.get(loader) is not None:
                check_loader(recipe, config, f"{path}.{loader}")
        _check_roles(recipe, config, stage, path)
        for role, section in stage_sections(config).items():
            part, where = stage.get(section, {}), f"{path}.{section}"
            require(recipe, config, f"{where}.forward_proc")  # the host has no default
            _check_keys(recipe, part, where, MODEL_KEYS)
            if role == "teacher":
                _check_teacher_frozen(recipe, part, where)
        _check_terms(recipe, config, stage, path)
        _check_optimizer(recipe, config, stage, path)


def _check_roles(recipe: Recipe, config: Config, part: Config, path: str) -> None:
    for section in stage_sections(config).values():
        expect(recipe, f"{path}.{section}", part.get(section, {}), MAPPING)
        check_kinds(recipe, part.get(section, {}), f"{path}.{section}", ROLE_KINDS)


def require(recipe: Recipe, config: Config, *paths: str) -> None:
    """Raise ``RecipeError`` for the first path that the recipe lacks."""
    for path in paths:
        if get(config, path) is None:
            parent = path.rpartition(".")[0]
            there = get(config, parent) if parent else config
            has = f"; it has {', '.join(map(str, there))}" if isinstance(there, Mapping) else ""
            raise recipe.error(path, f"missing from {parent or 'the recipe'}{has}")


def check_models(recipe: Recipe, config: Config) -> None:
    """Raise ``RecipeError`` unless there is a student and each model's part can be read."""
    check_kinds(recipe, config, "", {"models": MAPPING})
    require(recipe, config, "models")
    if get(config, "models.student_model") is None and get(config, "models.model") is None:
        raise recipe.error("models", "expected student_model (or model, without a teacher)")
    for path in model_sections(config).values():
        require(recipe, config, path)
        expect(recipe, path, get(config, path), MAPPING)
        check_kinds(recipe, get(config, path), path, MODEL_KINDS)


def check_model_key(recipe: Recipe, config: Config, path: str) -> None:
    """Raise ``RecipeError`` unless the model at ``path`` names one that can be built."""
    section = get(config, path)
    require(recipe, config, f"{path}.key", f"{path}.kwargs")
    if section.get("repo_or_dir") is None:
        # torchvision's models, and what else its namespace holds: only the callables in lower case
        official = {n for n, m in OFFICIAL_MODEL_DICT.items() if n.islower() and callable(m)}
        _lookup(recipe, f"{path}.key", section["key"], "model", official | set(models.MODEL_DICT))


def check_loader(recipe: Recipe, config: Config, path: str) -> None:
    """Raise ``RecipeError`` unless the data loader at ``path`` can be built."""
    loader = get(config, path)
    expect(recipe, path, loader, MAPPING)
    check_kinds(recipe, loader, path, LOADER_KINDS)
    require(recipe, config, f"{path}.dataset_id", f"{path}.sampler", f"{path}.kwargs")
    dataset_id, known = loader["dataset_id"], config["datasets"]
    if dataset_id not in list(known):  # a list, since what isn't hashable may stand here
        has = ", ".join(map(str, known))
        raise recipe.error(
            f"{path}.dataset_id",
            f"no dataset {dataset_id!r} under datasets; it has {has}.{nearest(dataset_id, known)}",
        )
    _check_keys(recipe, loader, path, LOADER_KEYS)


def _check_keys(
    recipe: Recipe, part: Config, path: str, table: Mapping[str, tuple[str, Collection[str]]]
) -> None:
    for name, (kind, known) in table.items():
        key = get(part, name)
        if key is not None:
            _lookup(recipe, f"{path}.{name}", key, kind, known)


def _lookup(recipe: Recipe, path: str, key: Any, kind: str, known: Collection[str]) -> None:
    expect(recipe, path, key, NAME)
    if key not in known:
        hint = nearest(key, known) or " Does 'dependencies' name the package that registers it?"
        raise recipe.error(path, f"no {kind} {key!r} is registered.{hint}")


def _check_teacher_frozen(recipe: Recipe, teacher: Config, path: str) -> None:
    wrapper = get(teacher, "auxiliary_model_wrapper.key")
    if wrapper == "FrozenTeacher":
        if teacher.get("requires_grad", True) is False:
            raise recipe.error(
                f"{path}.requires_grad",
                "found False beside FrozenTeacher, which would freeze the learnable transforms "
                "too; remove it (the wrapper freezes the teacher by itself)",
            )
    elif wrapper is None and teacher.get("requires_grad", True) is not False:
        raise recipe.error(
            f"{path}.requires_grad",
            "the teacher would be trained with the student; set requires_grad: False, "
            "in every stage",
        )


def _check_terms(recipe: Recipe, config: Config, stage: Config, path: str) -> None:
    kwargs = get(stage, "criterion.kwargs") or {}
    if not kwargs.get("sub_terms") and not kwargs.get("model_term"):
        raise recipe.error(f"{path}.criterion.kwargs.sub_terms", "expected at least one term")
    known = {**losses.LOSS_DICT, **losses.LOW_LEVEL_LOSS_DICT, **losses.MIDDLE_LEVEL_LOSS_DICT}
    for where, term in terms(stage, path):
        expect(recipe, where, term, MAPPING)
        criterion = term.get("criterion")
        if isinstance(criterion, nn.Module):
            continue
        if get(term, "criterion.key") is None or term.get("weight") is None:
            raise recipe.error(where, "expected criterion: {key, kwargs} and weight")
        expect(recipe, f"{where}.weight", term["weight"], NUMBER)
        _lookup(recipe, f"{where}.criterion.key", criterion["key"], "loss", known)
        wrapper = get(term, "criterion_wrapper.key")
        if wrapper is not None:
            key = f"{where}.criterion_wrapper.key"
            _lookup(recipe, key, wrapper, "loss wrapper", losses.LOSS_WRAPPER_DICT)
        kwargs = f"{where}.criterion.kwargs"
        try:
            with preserved_rng():
                losses.get_mid_level_loss(criterion, term.get("criterion_wrapper"))
        except PairError as error:
            raise recipe.error(f"{kwargs}.{error.where}", error.message) from error
        except Exception as error:
            raise recipe.error(kwargs, f"{type(error).__name__}: {error}") from error
        if criterion["key"] == "ACMLoss":
            _check_pairs_are_hooked(recipe, config, stage, path, kwargs, criterion["kwargs"])


def _check_pairs_are_hooked(
    recipe: Recipe, config: Config, stage: Config, path: str, where: str, kwargs: Config
) -> None:
    if "teacher" not in model_sections(config):
        raise recipe.error(where, "ACMLoss needs a teacher; the recipe has no models.teacher_model")
    for name, pair in kwargs["pairs"].items():
        for side in SIDES:
            end = pair[side]
            listed = get(stage, f"{side}.forward_hook.{end['io']}") or []
            if end["path"] not in listed:
                raise recipe.error(
                    f"{where}.pairs.{name}.{side}",
                    f"{end['path']!r} isn't listed under {path}.{side}.forward_hook."
                    f"{end['io']}, which has {', '.join(listed) or 'nothing'}",
                )


def _check_optimizer(recipe: Recipe, config: Config, stage: Config, path: str) -> None:
    if not stage.get("optimizer"):
        return
    require(recipe, config, f"{path}.optimizer.kwargs")
    if stage.get("scheduler"):
        require(recipe, config, f"{path}.scheduler.key", f"{path}.scheduler.kwargs")
        every = stage["scheduler"].get("scheduling_step", 0)
        expect(recipe, f"{path}.scheduler.scheduling_step", every, NATURAL)
    batches = stage["optimizer"].get("grad_accum_step", 1)
    expect(recipe, f"{path}.optimizer.grad_accum_step", batches, COUNT)
    where = f"{path}.optimizer.kwargs"
    try:
        weight = nn.Parameter(torch.zeros(1))
        optimizer = optim.OPTIM_DICT[stage["optimizer"]["key"]](
            [weight], **stage["optimizer"]["kwargs"]
        )
        if stage.get("scheduler"):
            where = f"{path}.scheduler.kwargs"
            scheduler = optim.get_scheduler(
                optimizer, stage["scheduler"]["key"], **stage["scheduler"]["kwargs"]
            )
            optimizer.step()
            by_epoch = not stage["scheduler"].get("scheduling_step", 0)
            for _ in range(stage["num_epochs"] if by_epoch else 1):
                scheduler.step(*[0.0] * isinstance(scheduler, ReduceLROnPlateau))
    except Exception as error:
        raise recipe.error(where, f"{type(error).__name__}: {error}") from error
