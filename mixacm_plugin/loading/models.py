"""Models of a recipe: built plain, and given their trained weights."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy
from torchdistill.common.main_util import is_dist_avail_and_initialized
from torchdistill.models.official import get_image_classification_model
from torchdistill.models.registry import get_model

from ..common.checkpoints import CheckpointError
from ..common.errors import UserError
from ..common.state_dicts import load_weights
from ..common.values import FILE
from ..parts.models.normalization import model_by_key
from ..reading import sections
from ..reading.checks import check_part
from ..reading.nodes import children_of
from ..reading.read import read_recipe
from ..reading.recipe import Recipe
from ..reading.sections import Config


def brings_weights(section: Config) -> bool:
    """Whether a model, a part of ``models``, has trained weights without a ``src_ckpt``."""
    key, kwargs = section.get("key"), section.get("kwargs") or {}
    if key == "robust_teacher":
        return kwargs.get("checkpoint") is not False
    if key == "normalized":
        return brings_weights({"key": kwargs.get("model"), "kwargs": kwargs.get("model_kwargs")})
    return any((kwargs.get("pretrained"), kwargs.get("weights"), section.get("repo_or_dir")))


def checkpoint_of(recipe: Recipe, config: Config, role: str) -> tuple[str, str | None]:
    """Key path and value of the checkpoint of a trained student or teacher.

    The value is ``None`` for a teacher that brings its weights.

    Raises:
        RecipeError: if the model's weights would be random.
    """
    path = sections.model_sections(config)[role]
    section = sections.get(config, path)
    key = f"{path}.{'dst_ckpt' if role == 'student' else 'src_ckpt'}"
    source = sections.get(config, key)
    if source or (role == "teacher" and brings_weights(section)):
        return key, source
    if role == "teacher" and "train" in children_of(recipe.root):
        found = sections.stage_checkpoint({"train": recipe.build("train")})
        if found is not None:
            return found
    raise recipe.error(key, f"no checkpoint for the {role}, whose weights would be random")


def build_model(recipe: Recipe, config: Mapping[str, Any], path: str) -> nn.Module:
    """Build the plain model that the recipe has at ``path``, without weights.

    Raises:
        RecipeError: if its arguments are wrong.
    """
    section = sections.get(config, path)
    try:
        model = get_image_classification_model(section, is_dist_avail_and_initialized())
        if model is None:
            model = get_model(section["key"], section.get("repo_or_dir"), **section["kwargs"])
        _check_sizes(model)
    except UserError as error:
        raise recipe.error(f"{path}.key", str(error)) from error
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
    recipe.expect(where, checkpoint, FILE)
    with errors_at(recipe, where):
        load_weights(model, checkpoint)


def model_of_flag(
    flag: str, key: str, kwargs: Mapping[str, Any] | None, hint: str = ""
) -> nn.Module:
    """Build the plain model whose registered key a flag gives.

    Args:
        flag: for messages.
        key: registered, of torchvision or ``timm:NAME``.
        kwargs: its arguments.
        hint: ends the message about arguments that are wrong.

    Raises:
        UserError: if it can't be built.
    """
    given = dict(kwargs or {})
    try:
        model = model_by_key(key, **given)
        _check_sizes(model)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{flag}: {key} can't be built of {given}: {reason}{hint}") from error
    return model


def _check_sizes(model: nn.Module) -> None:
    """Raise ``UserError`` if a layer has no sizes yet: what it holds can't be loaded or trained."""
    for path, module in model.named_modules():
        if any(map(is_lazy, (*module._parameters.values(), *module._buffers.values()))):
            kind = type(module).__name__
            sized = kind.removeprefix("Lazy")
            hint = f", as torch.nn.{sized} has" if hasattr(nn, sized) else ""
            raise UserError(f"{kind} {path!r} has no sizes before a first pass; give them{hint}")


@contextmanager
def errors_at(recipe: Recipe, where: str) -> Iterator[None]:
    """Say of a checkpoint that can't be used where the recipe names it."""
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


def load_model(
    recipe: Recipe,
    role: str = "student",
    checkpoint: str | None = None,
    named_by: str | None = None,
) -> nn.Module:
    """Build a recipe's plain student or teacher and load its checkpoint; in eval mode.

    Args:
        recipe: only its ``models`` are built, and ``train`` for a teacher without a checkpoint.
        role: ``student`` or ``teacher``.
        checkpoint: file; by default the student's ``dst_ckpt`` or the teacher's ``src_ckpt``,
            which may also be that of a training stage.
        named_by: the flag that has named the file, for errors.

    Raises:
        RecipeError: if there is no such model, or its checkpoint can't be loaded.
    """
    config = {"models": recipe.build("models")}
    check_part(recipe, config)
    roles = sections.model_sections(config)
    if role not in roles:
        raise recipe.error("models", f"no {role} in this recipe")
    path = roles[role]
    section = sections.get(config, path)
    if checkpoint and section.get("key") == "robust_teacher":  # which reads its authors' layout
        section["kwargs"] = {**section["kwargs"], "checkpoint": checkpoint, "sha256": None}
        return build_model(recipe, config, path).eval()
    model = build_model(recipe, config, path)
    if checkpoint:
        load_into(recipe, model, named_by or path, checkpoint)
    else:
        load_into(recipe, model, *checkpoint_of(recipe, config, role))
    return model.eval()


def load_student(
    recipe: str | os.PathLike[str], checkpoint: str | os.PathLike[str] | None = None
) -> nn.Module:
    """Load a trained student as the plain model that the recipe names, in eval mode.

    Args:
        recipe: file; of it only the models are built, no data.
        checkpoint: file; by default the recipe's ``dst_ckpt``.

    Raises:
        RecipeError: if the recipe or the checkpoint can't be used.
    """
    file = None if checkpoint is None else os.fspath(checkpoint)
    return load_model(read_recipe(recipe), "student", file)
