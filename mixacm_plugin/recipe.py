"""Recipes: read, override and build a torchdistill YAML config; say where one is wrong."""

import copy
import difflib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torchdistill.common import yaml_util
from torchdistill.common.main_util import import_dependencies

from .library import how_to_use, override_names, recipe_file, recipe_names
from .nodes import MERGE_TAG, STRING_TAG, children_of, places_of, put, walk

EXPONENT_WITHOUT_POINT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class RecipeError(Exception):
    """A recipe that can't be run: the file, the key path and, in one line, what to change."""

    def __init__(self, file: str | os.PathLike[str], where: str, message: str) -> None:
        self.file, self.where = os.fspath(file), where
        self.message = " ".join(str(message).split())
        super().__init__(": ".join(part for part in (self.file, where, self.message) if part))

    def __reduce__(self) -> tuple[Any, ...]:
        # From another process; by default exceptions are made anew from their message alone.
        return type(self), (self.file, self.where, self.message)


class UnknownKeyError(RecipeError):
    """An override of a key path that a recipe doesn't have."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest names close to a misspelt one: a sentence to append, or nothing."""
    matches = difflib.get_close_matches(str(name), map(str, known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(m) for m in matches)}?" if matches else ""


@dataclass(frozen=True)
class Recipe:
    """A recipe as YAML nodes, from which objects are built on demand."""

    path: str
    root: yaml.MappingNode

    def build(self, *keys: str) -> Any:
        """Build the object at a key path, or all of the recipe where none is given.

        Raises:
            RecipeError: if the key path is missing or an object can't be built.
        """
        node, here = self.root, []
        for key in keys:
            children = children_of(node)
            if key not in children:
                raise self.error(
                    ".".join([*here, key]),
                    f"missing; there is {', '.join(children)}.{nearest(key, children)}",
                )
            node = children[key]
            here.append(key)
        try:
            return _Loader(self).construct_document(node)
        except yaml.MarkedYAMLError as error:  # what is merged by << is looked at last
            mark = error.problem_mark
            where = next((path for path, n in walk(self.root) if n.start_mark is mark), "")
            raise self.error(where, str(error.problem)) from error

    def text(self) -> str:
        """Return the recipe, with its overrides, as YAML that the host reads too."""
        return yaml.serialize(self.root)

    def error(self, where: str, message: str) -> RecipeError:
        """Return an error that names this recipe."""
        return RecipeError(self.path, where, message)


class _Loader(yaml.FullLoader):
    """The host's YAML dialect, with errors that name the key path."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__("")
        self.recipe = recipe
        self.paths = {}
        for path, node in walk(recipe.root):
            self.paths.setdefault(id(node), path)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except RecipeError:
            raise
        except Exception as error:
            problem = getattr(error, "problem", None) or f"{type(error).__name__}: {error}"
            where = self.paths.get(id(node), "")
            raise self.recipe.error(where, f"{node.tag} failed: {problem}") from error


def read_recipe(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe, apply overrides to it and import its dependencies; build nothing yet.

    Args:
        path: YAML file, or the name of a shipped recipe, such as ``quickstart/mixacm``.
        overrides: ``key.path=value`` each, the value in YAML; or an override file, also by the
            name of a shipped one, such as ``compare/at``: a mapping of key paths to values, which
            may add a key where an override by itself must find it.

    Raises:
        RecipeError: on a missing file, a syntax error, a key given twice, a number that YAML
            reads as text, an override of a path that isn't there, or a dependency that can't be
            imported.
    """
    path = os.fspath(path)
    yaml_util.load_yaml_file(os.devnull)  # registers the host's tags with yaml.FullLoader
    root = _compose(path, "recipe", recipe_names())
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(path, "", "expected a mapping with datasets, models, train and test")
    recipe = Recipe(path, root)
    for override in overrides:
        if "=" in override:
            _override_by_text(recipe, override)
        else:
            _override_by_file(recipe, override)
    check_nodes(recipe.root, recipe.error)
    dependencies = recipe.build("dependencies") if "dependencies" in children_of(root) else None
    try:
        import_dependencies(dependencies)
    except Exception as error:
        raise recipe.error("dependencies", f"can't import: {error}") from error
    return recipe


def _compose(path: str, kind: str, shipped: list[str]) -> yaml.Node | None:
    try:
        file = path if os.path.exists(path) or path not in shipped else recipe_file(path)
        return yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=yaml.FullLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = how_to_use(path) or nearest(path, shipped)
        raise RecipeError(path, "", f"can't read the {kind}: {reason}.{hint}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(path, where, f"YAML syntax: {error.problem}") from error
    except yaml.YAMLError as error:
        raise RecipeError(path, "", f"YAML syntax: {error}") from error


def check_nodes(root: yaml.Node, error: Callable[[str, str], RecipeError]) -> None:
    """Check what YAML itself lets through: keys given twice, numbers that it reads as text.

    Args:
        root: of a recipe or a study.
        error: makes an error of a key path and a message.

    Raises:
        RecipeError: at the first of these.
    """
    for path, node in walk(root):
        if isinstance(node, yaml.MappingNode):
            names = [key.value for key, _ in node.value if key.tag != MERGE_TAG]
            for name in names:
                if names.count(name) > 1:
                    line = node.start_mark.line + 1
                    raise error(path, f"key {name!r} is given twice (from line {line})")
        if (
            isinstance(node, yaml.ScalarNode)
            and node.tag == STRING_TAG
            and node.style is None
            and EXPONENT_WITHOUT_POINT.fullmatch(node.value)
        ):
            mantissa, exponent = re.split("[eE]", node.value)
            if "." not in mantissa:
                mantissa += ".0"
            sign = "" if exponent[0] in "+-" else "+"
            raise error(
                path,
                f"YAML reads {node.value} as text, not as a number; "
                f"write {mantissa}e{sign}{exponent}",
            )


def _override_by_text(recipe: Recipe, override: str) -> None:
    path, _, text = override.partition("=")
    where = f"--set {override}"
    if not path:
        raise recipe.error(where, "expected key.path=value")
    try:
        new = yaml.compose(text, Loader=yaml.FullLoader) or yaml.ScalarNode(STRING_TAG, "")
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise recipe.error(where, f"YAML syntax: {problem}") from error
    _override(recipe, path, new, where)


def _override_by_file(recipe: Recipe, file: str) -> None:
    if not os.path.exists(file) and "/" not in file and not file.endswith((".yaml", ".yml")):
        raise recipe.error(f"--set {file}", "expected key.path=value, or an override file")
    root = _compose(file, "override file", override_names())
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(file, "", "expected a mapping of key paths to values")
    changes = Recipe(file, root)
    for key, _ in root.value:
        if key.tag != STRING_TAG or not key.value:
            found = key.value if isinstance(key, yaml.ScalarNode) else "no text"
            raise changes.error("", f"expected a key path; found {found!r}")
    check_nodes(changes.root, changes.error)
    for key, value in root.value:
        _override(recipe, key.value, value, f"--set {file}: {key.value}", added=key)


def _override(
    recipe: Recipe, path: str, new: yaml.Node, where: str, added: yaml.Node | None = None
) -> None:
    node, here, parts, alias = recipe.root, "", path.split("."), False
    places = places_of(recipe.root)
    while True:
        children = children_of(node)
        # A key may itself contain dots.
        names = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
        name = next((n for n in names if n in children), None)
        if name is None and added and len(parts) == 1 and isinstance(node, yaml.MappingNode):
            put(node, parts[0], new, added)
            return
        if name is None:
            there = f"it has {', '.join(children)}" if children else "it has no keys"
            hint = nearest(parts[0], children)
            message = f"no {parts[0]!r} in {here or 'the recipe'}; {there}.{hint}"
            if added is None and len(parts) == 1:
                message += " An override file may add a key"
            raise UnknownKeyError(recipe.path, where, message)
        here, parts = f"{here}.{name}".lstrip("."), parts[name.count(".") + 1 :]
        old = children[name]
        # Where a value is defined, its aliases follow; through an alias, only that place changes.
        alias = alias or places[id(old)] != here
        if not parts:
            break
        if alias:
            copied = copy.copy(old)
            copied.value = [
                (copy.copy(item[0]), item[1]) if isinstance(item, tuple) else item
                for item in old.value
            ]
            put(node, name, copied)
            old = copied
        node = old
    if alias or added:  # also in the place itself, where the key is known to be the file's
        put(node, name, new, added)
    if alias:
        return
    for _, parent in list(walk(recipe.root)):
        for key, child in children_of(parent, merged=False).items():
            if child is old:
                put(parent, key, new)
        if isinstance(parent, yaml.MappingNode):  # also where the value is merged by <<
            parent.value = [
                (key, new if child is old and key.tag == MERGE_TAG else child)
                for key, child in parent.value
            ]
