"""A recipe as YAML nodes: objects built from it on demand, errors that name its key paths."""

import copy
from dataclasses import dataclass
from typing import Any

import yaml

from ..common.errors import RecipeError, nearest
from ..common.values import Kind
from .nodes import children_of, join, walk


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
        own = Recipe(self.path, copy.deepcopy(self.root))  # constructing flattens merges in place
        node: yaml.Node = own.root
        here = ""
        for key in keys:
            children = children_of(node)
            if key not in children:
                message = f"missing; there is {', '.join(children)}.{nearest(key, children)}"
                raise self.error(join(here, key), message)
            node, here = children[key], join(here, key)
        try:
            return _Loader(own).construct_document(node)
        except yaml.MarkedYAMLError as error:  # what is merged by << is looked at last
            mark = error.problem_mark
            where = next((path for path, n in walk(own.root) if n.start_mark is mark), "")
            raise self.error(where, str(error.problem)) from error

    def text(self) -> str:
        """Return the recipe, with its overrides, as YAML that the host reads too."""
        return str(yaml.serialize(self.root))

    def error(self, where: str, message: str) -> RecipeError:
        """Return an error that names this recipe."""
        return RecipeError(self.path, where, message)

    def expect(self, where: str, value: Any, kind: Kind) -> None:
        """Raise ``RecipeError`` unless a value is of a kind."""
        if not kind.holds(value):
            raise self.error(where, f"expected {kind.words}; found {value!r}")


class _Loader(yaml.FullLoader):
    """The host's YAML dialect, with errors that name the key path."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__("")
        self.recipe = recipe
        self.paths: dict[int, str] = {}
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
