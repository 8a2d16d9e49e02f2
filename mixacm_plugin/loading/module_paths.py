"""Checks of the module paths that a recipe names, against its models."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ..common.errors import nearest
from ..common.modules import find_module
from ..parts.acm.pairs import IO, SIDES
from ..parts.models.hook_points import hook_points
from ..reading import sections
from ..reading.recipe import Recipe

FREEZABLE = (nn.Module, nn.Parameter)


def check_module_paths(
    recipe: Recipe, config: Mapping[str, Any], built: Mapping[str, nn.Module]
) -> None:
    """Check the paths of modules that pairs, hooks and the like name, against the models.

    Args:
        recipe: names the file in errors.
        config: the built recipe.
        built: the plain model of each role.

    Raises:
        RecipeError: on a path that a model lacks.
    """
    for path, stage in sections.stages(config):
        names = sections.stage_sections(config)
        for role, section in names.items():
            _check_not_cut(recipe, stage[section], f"{path}.{section}", built[role])
        # Of a model in a wrapper of its own the host resolves the paths itself.
        plain = {
            role: built[role]
            for role, section in names.items()
            if not sections.is_wrapped(stage[section])
        }
        for where, role, module_path, kind in _named(stage, path, names):
            if role in plain:
                _check_path(recipe, where, role, plain[role], module_path, kind)


def _named(
    stage: Mapping[str, Any], path: str, names: Mapping[str, str]
) -> Iterator[tuple[str, str, str, Any]]:
    """Yield key path, role, module path and the types that will do, of all that a stage names."""
    hooked = {role for role, section in names.items() if not sections.is_redesigned(stage[section])}
    for where, kwargs in sections.acm_losses(stage, path):
        for name, pair in kwargs["pairs"].items():
            for role in (side for side in SIDES if side in hooked):
                yield f"{where}.pairs.{name}", role, pair[role]["path"], nn.Module
    for role, section in names.items():
        part, where = stage[section], f"{path}.{section}"
        for io in IO if role in hooked else ():
            for module_path in sections.get(part, f"forward_hook.{io}") or []:
                yield f"{where}.forward_hook.{io}", role, module_path, nn.Module
        for module_path in part.get("frozen_modules") or []:
            yield f"{where}.frozen_modules", role, module_path, FREEZABLE
        for module_path in part.get("sequential") or []:
            if not module_path.startswith("+"):
                yield f"{where}.sequential", role, module_path, nn.Module
    for key in ("module_wise_kwargs", "module_wise_configs"):
        for index, part in enumerate(sections.get(stage, f"optimizer.{key}") or []):
            role = "teacher" if part.get("is_teacher") else "student"
            yield f"{path}.optimizer.{key}.{index}.module", role, part["module"], FREEZABLE


def _check_not_cut(recipe: Recipe, part: Mapping[str, Any], where: str, model: nn.Module) -> None:
    wrapper = "auxiliary_model_wrapper"
    for key in ("sequential", f"{wrapper}.sequential", f"{wrapper}.kwargs.minimal.sequential"):
        if sections.get(part, key) and hasattr(model, "normalization_mean"):
            raise recipe.error(
                f"{where}.{key}",
                f"{type(model).__name__} normalises its input itself, and its modules in a row "
                "wouldn't; remove this and hook the whole model",
            )


def _check_path(
    recipe: Recipe, where: str, role: str, model: nn.Module, path: str, kind: Any
) -> None:
    if kind is FREEZABLE and path.startswith("instance("):
        _check_class(recipe, where, role, model, path[len("instance(") : -1])
        return
    if isinstance(find_module(model, path), kind):
        return
    seen, parent, names = "", model, path.removeprefix("+").split(".")
    for length in range(1, len(names)):
        module = find_module(model, ".".join(names[:length]))
        if not isinstance(module, nn.Module):
            break
        seen, parent = ".".join(names[:length]), module
    inside = f"{seen} of {type(model).__name__}" if seen else type(model).__name__
    has = ", ".join(dict(parent.named_children())) or "no modules"
    hint = nearest(path, [p for p, _ in model.named_modules() if p]) + _blocks(model)
    raise recipe.error(where, f"{role} module {path!r} not found in {inside}; it has {has}.{hint}")


def _check_class(recipe: Recipe, where: str, role: str, model: nn.Module, name: str) -> None:
    """Check what ``instance(CLASS)`` names: the host freezes the model's modules of a class."""
    wanted = getattr(nn, name, None)
    if not isinstance(wanted, type) or not any(isinstance(m, wanted) for m in model.modules()):
        classes = {type(m).__name__ for m in model.modules() if hasattr(nn, type(m).__name__)}
        has = ", ".join(sorted(classes))
        message = f"the {role} has no module of a class torch.nn.{name}; it has {has}."
        raise recipe.error(where, message + nearest(name, classes))


def _blocks(model: nn.Module) -> str:
    try:
        points = hook_points(model).activated
    except ValueError:
        return ""
    return f" Its blocks, activated: {', '.join(f'{path} ({io})' for path, io, *_ in points)}"
