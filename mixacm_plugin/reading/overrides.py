"""Overrides: values of a recipe's YAML replaced before anything is built."""

import copy
import os
from dataclasses import dataclass

import yaml

from ..common.errors import RecipeError, UnknownKeyError, nearest, raise_all
from .composing import compose, compose_text, yaml_mistakes
from .keys import Keys
from .library import override_names
from .nodes import (
    MAP_TAG,
    MERGE_TAG,
    STRING_TAG,
    children_of,
    join,
    places_of,
    plain,
    put,
    walk,
)
from .recipe import Recipe
from .schema import recipe_keys
from .sections import stage_names

OPTIONAL = ("validate", "ema", "compute")  # blocks of this package's, which may be added
WRAPPER = "_data_loader.dataset_wrapper"  # of torchdistill's, which few recipes have


def apply_override(recipe: Recipe, override: str) -> None:
    """Change a recipe's nodes as ``--set`` says.

    Where a value is defined by an anchor, its aliases follow; through an alias, only that place
    changes.

    Args:
        recipe: changed in place.
        override: ``key.path=value``, the value in YAML; or an override file, also by the name of a
            shipped one, such as ``compare/at``: a mapping of key paths to values, which may add a
            key where an override by itself must find it.

    Raises:
        RecipeError: on a file that can't be read, a key path that isn't there, or a section that
            would lack what a recipe needs.
    """
    if "=" in override:
        _override_by_text(recipe, override)
    else:
        _override_by_file(recipe, override)


def _override_by_text(recipe: Recipe, override: str) -> None:
    path, _, text = override.partition("=")
    where = f"--set {override}"
    if not path:
        raise recipe.error(where, "expected key.path=value")
    block, _, key = path.partition(".")
    optional = block in OPTIONAL or path.endswith(WRAPPER)
    if block in OPTIONAL and key and block not in children_of(recipe.root):
        path, text = block, f"{{{key}: {text}}}"
    try:
        new = compose_text(text) or yaml.ScalarNode(STRING_TAG, "")
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise recipe.error(where, f"YAML syntax: {problem}") from error
    _override(recipe, path, new, where, added=compose_text(path) if optional else None)


def _override_by_file(recipe: Recipe, file: str) -> None:
    if not os.path.exists(file) and "/" not in file and not file.endswith((".yaml", ".yml")):
        raise recipe.error(f"--set {file}", "expected key.path=value, or an override file")
    root = compose(file, "override file", override_names())
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(file, "", "expected a mapping of key paths to values")
    changes = Recipe(file, root)
    for key, _ in root.value:
        if key.tag != STRING_TAG or not key.value:
            found = key.value if isinstance(key, yaml.ScalarNode) else "no text"
            raise changes.error("", f"expected a key path; found {found!r}")
    raise_all([changes.error(*problem) for problem in yaml_mistakes(root)])
    for key, value in root.value:
        _override(recipe, key.value, value, f"--set {file}: {key.value}", added=key)


@dataclass(frozen=True)
class _Place:
    """Where a key path leads: a parent, the child's name, and the child if there is one.

    Args:
        aliased: whether the path goes through an alias, so that no other place may change.
    """

    parent: yaml.Node
    name: str
    child: yaml.Node | None
    aliased: bool


def _override(
    recipe: Recipe, path: str, new: yaml.Node, where: str, added: yaml.Node | None = None
) -> None:
    place = _find(recipe, path, where, may_add=added is not None)
    lacking = None if place.child is None else _lacking(path, place.child, new)
    if lacking:
        example = _first_change(path, place.child, new, "=" if added is None else ": ")
        message = f"replaces all of {path}, without {lacking}; write what is to change: {example}"
        raise recipe.error(where, message)
    if place.child is None or place.aliased:
        put(place.parent, place.name, new, added)
        return
    if added:  # also in the place itself, where the key is known to be the file's
        put(place.parent, place.name, new, added)
    _replace_everywhere(recipe.root, place.child, new)


def _lacking(path: str, old: yaml.Node, new: yaml.Node) -> str | None:
    """Return what a recipe needs of a section at its top, if the new one has it no more.

    A nested override, as in ``train: {num_epochs: 3}``, is hardly ever meant to leave out the rest.
    """
    section = recipe_keys(stage_names(plain(new))).get(path)
    return None if section is None else _lacking_key(section.keys or {}, path, old, new)


def _lacking_key(keys: Keys, path: str, old: yaml.Node, new: yaml.Node) -> str | None:
    if old.tag != MAP_TAG or new.tag != MAP_TAG:
        return None
    before, now = children_of(old), children_of(new)
    for name, key in keys.items():
        where = join(path, name)
        if key.required and name in before and name not in now:
            return where
        below = name in before and name in now and key.keys
        found = _lacking_key(below, where, before[name], now[name]) if below else None
        if found:
            return found
    return None


def _first_change(path: str, old: yaml.Node | None, new: yaml.Node, sign: str) -> str:
    """Write the first value of a nested override by its key path."""
    while old is not None and new.tag == MAP_TAG and (children := children_of(new)):
        name, new = next(iter(children.items()))
        path, old = join(path, name), children_of(old).get(name)
    return f"{path}{sign}{new.value if isinstance(new, yaml.ScalarNode) else '...'}"


def _find(recipe: Recipe, path: str, where: str, *, may_add: bool) -> _Place:
    """Follow a key path; what lies behind an alias becomes a copy of its own on the way."""
    node: yaml.Node = recipe.root
    here, rest, aliased = "", path, False
    written = places_of(recipe.root)
    while True:
        children = children_of(node)
        name = _first_key(rest, children)
        if name is None:
            last = "." not in rest
            if may_add and last and isinstance(node, yaml.MappingNode):
                return _Place(node, rest, None, aliased)
            raise _unknown_key(recipe, rest, children, here, where, hint=last and not may_add)
        here, rest = join(here, name), rest[len(name) + 1 :]
        child = children[name]
        aliased = aliased or written[id(child)] != here
        if not rest:
            return _Place(node, name, child, aliased)
        if aliased:
            child = _shallow_copy(child)
            put(node, name, child)
        node = child


def _first_key(path: str, children: dict[str, yaml.Node]) -> str | None:
    """Return the key that a path begins with, which may itself contain dots."""
    parts = path.split(".")
    names = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return next((name for name in names if name in children), None)


def _unknown_key(
    recipe: Recipe, rest: str, children: dict[str, yaml.Node], here: str, where: str, *, hint: bool
) -> UnknownKeyError:
    first = rest.split(".")[0]
    there = f"it has {', '.join(children)}" if children else "it has no keys"
    message = f"no {first!r} in {here or 'the recipe'}; {there}.{nearest(first, children)}"
    if hint:
        message += " An override file may add a key"
    return UnknownKeyError(recipe.path, where, message)


def _shallow_copy(node: yaml.Node) -> yaml.Node:
    copied = copy.copy(node)
    copied.value = [
        (copy.copy(item[0]), item[1]) if isinstance(item, tuple) else item for item in node.value
    ]
    return copied


def _replace_everywhere(root: yaml.Node, old: yaml.Node, new: yaml.Node) -> None:
    for _, parent in list(walk(root)):
        for key, child in children_of(parent, merged=False).items():
            if child is old:
                put(parent, key, new)
        if isinstance(parent, yaml.MappingNode):  # also where the value is merged by <<
            parent.value = [
                (key, new if child is old and key.tag == MERGE_TAG else child)
                for key, child in parent.value
            ]
