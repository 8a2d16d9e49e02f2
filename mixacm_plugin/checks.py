"""Checks of a recipe before a model is built: its parts, keys, arguments and teacher."""

from collections.abc import Collection, Iterator, Mapping
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

Config = Mapping[str, Any]

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
LOADER_KEYS: dict[str, tuple[str, Collection[str]]] = {
    "collate_fn": ("collate function", datasets.COLLATE_FUNC_DICT),
    "batch_sampler.key": ("batch sampler", datasets.BATCH_SAMPLER_DICT),
    "dataset_wrapper.key": ("dataset wrapper", datasets.DATASET_WRAPPER_DICT),
}
MODEL_KEYS: dict[str, tuple[str, Collection[str]]] = {
    "forward_proc": ("forward process", processes.FORWARD_PROC_FUNC_DICT),
    "auxiliary_model_wrapper.key": ("auxiliary model wrapper", models.AUXILIARY_MODEL_WRAPPER_DICT),
}


def get(config: Any, path: str) -> Any:
    """Value at a dotted path of nested mappings, or ``None``."""
    for name in path.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return None
        config = config[name]
    return config


def stages(config: Config) -> Iterator[tuple[str, Config]]:
    """Yield the key path and the part of each training stage."""
    train = config["train"]
    names = [name for name in train if str(name).startswith("stage")]
    if not names:
        yield "train", train
    for name in names:
        yield f"train.{name}", train[name]


def current_stage(config: Config, box: Any) -> tuple[str, Config]:
    """Key path and part of the stage that the host's box is in."""
    return list(stages(config))[getattr(box, "stage_number", 1) - 1]


def model_sections(config: Config) -> dict[str, str]:
    """Key path of each model by role: ``student`` and, where there is one, ``teacher``."""
    student = "student_model" if "student_model" in config["models"] else "model"
    roles = {"student": f"models.{student}"}
    if config["models"].get("teacher_model") is not None:
        roles["teacher"] = "models.teacher_model"
    return roles


def brings_weights(config: Config, path: str) -> bool:
    """Whether the model at ``path`` has trained weights without a ``src_ckpt``."""
    section = get(config, path)
    kwargs = section.get("kwargs") or {}
    loaded = (kwargs.get("pretrained"), kwargs.get("weights"), section.get("repo_or_dir"))
    return any(loaded) or section["key"] == "robust_teacher"


def stage_sections(config: Config) -> dict[str, str]:
    """Name of each role's part of a stage: the host calls a lone student ``model``."""
    roles = model_sections(config)
    return (
        {"teacher": "teacher", "student": "student"} if "teacher" in roles else {"student": "model"}
    )


def check_config(recipe: Recipe, config: Config) -> None:
    """Check what can be seen without building a model.

    Raises:
        RecipeError: on a missing part, an unknown registry key, arguments that a loss, optimiser
            or scheduler refuses, or a teacher that would be trained.
    """
    require(
        recipe,
        config,
        "datasets",
        "models",
        "train",
        "train.num_epochs" if "stage1" not in (config.get("train") or {}) else "train.stage1",
    )
    require(recipe, config, "test", "test.test_data_loader")
    for name in ("datasets", "models", "train", "test"):
        if not isinstance(config[name], Mapping):
            raise recipe.error(name, f"expected a mapping; found {config[name]!r}")
    check_loader(recipe, config, "test.test_data_loader")
    if get(config, "models.student_model") is None and get(config, "models.model") is None:
        raise recipe.error("models", "expected student_model (or model, without a teacher)")
    for path in model_sections(config).values():
        check_model_key(recipe, config, path)
    student = model_sections(config)["student"]
    require(recipe, config, f"{student}.dst_ckpt")
    for path, stage in stages(config):
        require(recipe, config, f"{path}.num_epochs", f"{path}.criterion.key")
        epochs = stage["num_epochs"]
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise recipe.error(
                f"{path}.num_epochs", f"expected a whole number of at least 1; found {epochs!r}"
            )
        if path in ("train", "train.stage1"):
            require(recipe, config, f"{path}.optimizer.key", f"{path}.train_data_loader")
            require(recipe, config, f"{path}.val_data_loader")
        _check_keys(recipe, stage, path, STAGE_KEYS)
        for loader in ("train_data_loader", "val_data_loader"):
            if stage.get(loader) is not None:
                check_loader(recipe, config, f"{path}.{loader}")
        for role, section in stage_sections(config).items():
            if stage.get(section) or path in ("train", "train.stage1"):
                require(recipe, config, f"{path}.{section}.forward_proc")
            _check_keys(recipe, stage.get(section) or {}, f"{path}.{section}", MODEL_KEYS)
            if role == "teacher":
                _check_teacher_frozen(recipe, stage.get(section) or {}, f"{path}.{section}")
        _check_terms(recipe, config, stage, path)
        _check_optimizer(recipe, config, stage, path)


def require(recipe: Recipe, config: Config, *paths: str) -> None:
    """Raise ``RecipeError`` for the first path that the recipe lacks."""
    for path in paths:
        if get(config, path) is None:
            parent = path.rpartition(".")[0]
            there = get(config, parent) if parent else config
            has = f"; it has {', '.join(map(str, there))}" if isinstance(there, Mapping) else ""
            raise recipe.error(path, f"missing from {parent or 'the recipe'}{has}")


def check_model_key(recipe: Recipe, config: Config, path: str) -> None:
    """Raise ``RecipeError`` unless the model at ``path`` names one that can be built."""
    require(recipe, config, path, f"{path}.key", f"{path}.kwargs")
    section = get(config, path)
    if section.get("repo_or_dir") is None:
        # torchvision's models, and what else its namespace holds: only the callables in lower case
        official = {n for n, m in OFFICIAL_MODEL_DICT.items() if n.islower() and callable(m)}
        _lookup(recipe, f"{path}.key", section["key"], "model", official | set(models.MODEL_DICT))


def check_loader(recipe: Recipe, config: Config, path: str) -> None:
    """Raise ``RecipeError`` unless the data loader at ``path`` can be built."""
    require(recipe, config, f"{path}.dataset_id", f"{path}.sampler", f"{path}.kwargs")
    dataset_id, known = get(config, f"{path}.dataset_id"), config["datasets"]
    if dataset_id not in known:
        has = ", ".join(map(str, known))
        raise recipe.error(
            f"{path}.dataset_id",
            f"no dataset {dataset_id!r} under datasets; it has {has}.{nearest(dataset_id, known)}",
        )
    _check_keys(recipe, get(config, path), path, LOADER_KEYS)


def _check_keys(
    recipe: Recipe, part: Config, path: str, table: Mapping[str, tuple[str, Collection[str]]]
) -> None:
    for name, (kind, known) in table.items():
        key = get(part, name)
        if key is not None:
            _lookup(recipe, f"{path}.{name}", key, kind, known)


def _lookup(recipe: Recipe, path: str, key: Any, kind: str, known: Collection[str]) -> None:
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


def terms(stage: Config, path: str) -> Iterator[tuple[str, Config]]:
    """Yield the key path and the part of each term of a stage's loss."""
    for name, term in (get(stage, "criterion.kwargs.sub_terms") or {}).items():
        yield f"{path}.criterion.kwargs.sub_terms.{name}", term


def _check_terms(recipe: Recipe, config: Config, stage: Config, path: str) -> None:
    kwargs = get(stage, "criterion.kwargs") or {}
    if not kwargs.get("sub_terms") and not kwargs.get("model_term"):
        raise recipe.error(f"{path}.criterion.kwargs.sub_terms", "expected at least one term")
    known = {**losses.LOSS_DICT, **losses.LOW_LEVEL_LOSS_DICT, **losses.MIDDLE_LEVEL_LOSS_DICT}
    for where, term in terms(stage, path):
        criterion = term.get("criterion")
        if isinstance(criterion, nn.Module):
            continue
        if get(term, "criterion.key") is None or term.get("weight") is None:
            raise recipe.error(where, "expected criterion: {key, kwargs} and weight")
        weight = term["weight"]
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise recipe.error(f"{where}.weight", f"expected a number; found {weight!r}")
        _lookup(recipe, f"{where}.criterion.key", criterion["key"], "loss", known)
        wrapper = get(term, "criterion_wrapper.key")
        if wrapper is not None:
            key = f"{where}.criterion_wrapper.key"
            _lookup(recipe, key, wrapper, "loss wrapper", losses.LOSS_WRAPPER_DICT)
        kwargs = f"{where}.criterion.kwargs"
        try:
            with torch.random.fork_rng():
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
    batches = stage["optimizer"].get("grad_accum_step", 1)
    if isinstance(batches, bool) or not isinstance(batches, int) or batches < 1:
        raise recipe.error(
            f"{path}.optimizer.grad_accum_step",
            f"expected a whole number of at least 1; found {batches!r}",
        )
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
            scheduler.step(*[0.0] * isinstance(scheduler, ReduceLROnPlateau))
    except Exception as error:
        raise recipe.error(where, f"{type(error).__name__}: {error}") from error
