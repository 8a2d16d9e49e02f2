"""Reading a recipe: its file, its overrides, and the packages that register what it names."""

import importlib.metadata
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from torchdistill.common import yaml_util
from torchdistill.common.main_util import import_dependencies

from ..common.errors import RecipeError, raise_all
from ..common.files import recipe_file
from .composing import compose, yaml_mistakes
from .library import recipe_names
from .nodes import children_of
from .overrides import apply_override
from .recipe import Recipe


def read_recipe(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe, apply overrides to it and import its dependencies; build nothing yet.

    A dependency may be a file in the working folder, or beside the recipe.

    Args:
        path: YAML file, or the name of a shipped recipe, such as ``quickstart/mixacm``.
        overrides: what ``--set`` takes, see ``apply_override``.

    Raises:
        RecipeError: see ``parse_recipe``, or if a dependency can't be imported.
    """
    recipe = parse_recipe(path, overrides)
    has_some = "dependencies" in children_of(recipe.root)
    dependencies = recipe.build("dependencies") if has_some else None
    make_importable(Path.cwd(), folder_of(recipe.path))
    _import(recipe, dependencies)
    return recipe


def parse_recipe(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply overrides to it; nothing that it names is imported or run.

    Args:
        path: see ``read_recipe``.
        overrides: likewise.

    Raises:
        RecipeError: on a missing file, a syntax error, a key given twice, a number that YAML
            reads as text, or an override of a path that isn't there.
    """
    path = os.fspath(path)
    yaml_util.load_yaml_file(os.devnull)  # registers the host's tags with yaml.FullLoader
    root = compose(path, "recipe", recipe_names())
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(path, "", "expected a mapping with datasets, models, train and test")
    recipe = Recipe(path, root)
    for override in overrides:
        apply_override(recipe, override)
    raise_all([recipe.error(*problem) for problem in yaml_mistakes(root)])
    return recipe


def _import(recipe: Recipe, dependencies: Any) -> None:
    each = {"dependencies": dependencies}
    several = isinstance(dependencies, list | tuple)
    if several:
        each = {f"dependencies.{index}": part for index, part in enumerate(dependencies)}
    for where, dependency in each.items():
        try:
            import_dependencies([dependency] if several else dependency)
        except (Exception, SystemExit) as error:  # a script may end the process
            reason = str(error) if isinstance(error, ImportError) else repr(error)
            raise recipe.error(where, f"can't import {dependency}: {reason}") from error


def dependencies_of(given: Any) -> Iterator[tuple[str, Any]]:
    """Yield key path and module of each dependency, in all the ways in which the host takes them.

    Args:
        given: a name, or a list of names, ``{name, package}`` or ``[name, package]``; or None.
    """
    several = isinstance(given, list | tuple)
    for index, one in enumerate(given if several else [] if given is None else [given]):
        name, package = one, None
        if isinstance(one, Mapping):
            name, package = one.get("name"), one.get("package")
        elif isinstance(one, list | tuple):
            name, package = (*one, None, None)[:2]
        if isinstance(name, str) and name.startswith("."):
            name = f"{package}{name}"
        yield (f"dependencies.{index}" if several else "dependencies"), name


def folder_of(path: str) -> Path:
    """Return the folder of a recipe's file, or of a shipped one, by its name."""
    return Path(path if os.path.exists(path) else recipe_file(path)).resolve().parent


def make_importable(*folders: Path) -> None:
    """Let dependencies lie in folders, behind everything that is installed."""
    for folder in map(str, folders):
        if folder not in sys.path:
            sys.path.append(folder)


def load_plugins() -> None:
    """Import every installed package under the entry-point group ``torchdistill.plugins``."""
    for plugin in importlib.metadata.entry_points(group="torchdistill.plugins"):
        plugin.load()
