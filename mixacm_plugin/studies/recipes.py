"""Recipes and override files behind a study's results, as texts.

Nothing that they name is imported or built: results may be someone else's.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from ..common.files import recipe_file
from ..reading.composing import compose_text
from ..reading.library import override_names
from ..reading.nodes import plain
from ..reading.read import parse_recipe
from ..reading.sections import model_sections
from .changes import Change, sets


def resolved_text(base: str, changes: Iterable[Change]) -> str:
    """Return a base recipe with changes, as it is now.

    Raises:
        RecipeError: if one can't be read, or they don't fit.
    """
    return parse_recipe(base, sets(changes)).text()


def student_path(recipe: str) -> str:
    """Key path of the student in a recipe's text; nothing where the text is none."""
    try:
        root = compose_text(recipe)
        return "" if root is None else model_sections(plain(root))["student"]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return ""


def override_texts(names: Sequence[str]) -> list[tuple[str, str]]:
    """Names and contents of the override files that are there and YAML by their names."""
    files = [(name, _file(name)) for name in names]
    return [
        (name, file.read_text(encoding="utf-8", errors="replace"))
        for name, file in files
        if file.suffix in (".yaml", ".yml") and file.is_file()
    ]


def _file(name: str) -> Path:
    """Where an override file lies, or a shipped one by its name."""
    shipped = name in override_names() and not Path(name).exists()
    return Path(recipe_file(name) if shipped else name)
