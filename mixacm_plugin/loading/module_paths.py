"""Checks of the module paths that a recipe names, against its models."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..common.errors import nearest
from ..parts.acm.pairs import IO, SIDES
from ..parts.models.hook_points import hook_points
from ..reading import sections
from ..reading.recipe import Recipe


def check_module_paths(
    recipe: Recipe, config: Mapping[str, Any], built: Mapping[str, nn.Module]
) -> None:
    """Check the module paths of pairs, hooks and frozen modules against the models.

    Args:
        recipe: names the file in errors.
        config: the built recipe.
        built: the plain model of each role.

    Raises:
        RecipeError: on a path that a model lacks.
    """
    for path, stage in sections.stages(config):
        # Of a model that the host redesigns it resolves the paths itself, in its own one.
        plain = [
            role
            for role, section in sections.stage_sections(config).items()
            if not sections.is_redesigned(stage[section])
        ]
        for where, term in sections.terms(stage, path):
            if sections.get(term, "criterion.key") == "ACMLoss":
                for name, pair in term["criterion"]["kwargs"]["pairs"].items():
                    for side in (side for side in SIDES if side in plain):
                        key = f"{where}.criterion.kwargs.pairs.{name}"
                        _check_path(recipe, f"{key}", side, built[side], pair[side]["path"])
        for role, section in sections.stage_sections(config).items():
            part = stage[section]
            _check_not_cut(recipe, part, f"{path}.{section}", built[role])
            if role not in plain:
                continue
            hooks = part.get("forward_hook") or {}
            lists = {f"forward_hook.{io}": hooks.get(io) or [] for io in IO}
            lists["frozen_modules"] = part.get("frozen_modules") or []
            for name, module_paths in lists.items():
                for module_path in module_paths:
                    if not module_path.startswith("instance("):
                        key = f"{path}.{section}.{name}"
                        _check_path(recipe, key, role, built[role], module_path)


def _check_not_cut(recipe: Recipe, part: Mapping[str, Any], where: str, model: nn.Module) -> None:
    wrapper = "auxiliary_model_wrapper"
    for key in ("sequential", f"{wrapper}.sequential", f"{wrapper}.kwargs.minimal.sequential"):
        if sections.get(part, key) and hasattr(model, "normalization_mean"):
            raise recipe.error(
                f"{where}.{key}",
                f"{type(model).__name__} normalises its input itself, and its modules in a row "
                "wouldn't; remove this and hook the whole model",
            )


def _check_path(recipe: Recipe, where: str, role: str, model: nn.Module, path: str) -> None:
    module, seen = model, ""
    for name in path.split("."):
        children = dict(module.named_children())
        if name not in children and not isinstance(getattr(module, name, None), nn.Parameter):
            inside = f"{seen} of {type(model).__name__}" if seen else type(model).__name__
            candidates = [p for p, _ in model.named_modules() if p]
            hint = nearest(path, candidates) + _blocks(model)
            has = ", ".join(children) or "no modules"
            raise recipe.error(
                where, f"{role} module {path!r} not found in {inside}; it has {has}.{hint}"
            )
        module, seen = getattr(module, name), f"{seen}.{name}".lstrip(".")


def _blocks(model: nn.Module) -> str:
    try:
        points = hook_points(model).activated
    except ValueError:
        return ""
    return f" Its blocks, activated: {', '.join(f'{path} ({io})' for path, io in points)}"
