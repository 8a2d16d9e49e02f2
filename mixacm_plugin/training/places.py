"""Where in a recipe a failing step is told, and what may mend it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torchdistill.common.constant import SELF_MODULE_PATH

from ..common.errors import RecipeError, place_of
from ..evaluation.logits import UnsuitedModelError
from ..parts.acm.pairs import PairError
from ..reading import sections
from ..reading.nodes import plain
from ..reading.recipe import Recipe


@contextmanager
def said_at(
    recipe: Recipe, where: str, running: list[tuple[str, Any]] | None = None
) -> Iterator[None]:
    """Say what fails in the block at a key path, or at that of the term which was running."""
    try:
        yield
    except PairError as error:
        key = f"{where}.kwargs.sub_terms.{running[-1][0]}.criterion.kwargs" if running else where
        raise recipe.error(f"{key}.{error.where}", error.message) from error
    except RecipeError:
        raise
    except Exception as error:  # of any kind, by which a collate function or a loss refuses
        message = f"{type(error).__name__}: {error}{place_of(error)}"
        if isinstance(error, UnsuitedModelError):
            message = str(error)
        if running:
            name, io_dicts = running[-1]
            where = f"{where}.kwargs.sub_terms.{name}"
            if isinstance(error, KeyError):
                where += _where_named(sections.get(plain(recipe.root), where), error.args[0])
                message = f"{error} isn't hooked; list it under forward_hook{_hooked(io_dicts)}"
            elif isinstance(error, TypeError | AttributeError):
                message += _hint_at_parts(io_dicts)
        raise recipe.error(where, message) from error


def _where_named(config: Any, name: str) -> str:
    """Key path, from a part of a recipe on, of the first value that is a name; empty without."""
    for key, value in config.items() if isinstance(config, Mapping) else ():
        below = _where_named(value, name)
        if below or value == name:
            return f".{key}{below}"
    return ""


def _hooked(io_dicts: Any) -> str:
    sides = zip(("student", "teacher"), io_dicts, strict=False)
    return "".join(
        f"; the {side} has {', '.join(map(repr, sorted(io_dict)))}" for side, io_dict in sides
    )


def _hint_at_parts(io_dicts: Any) -> str:
    for side, io_dict in zip(("student", "teacher"), io_dicts, strict=False):
        output = io_dict.get(SELF_MODULE_PATH, {}).get("output")
        if parts := getattr(output, "_fields", ()):
            return (
                f"; the {side}'s output has parts ({', '.join(parts)}): name one by "
                f"criterion_wrapper: {{key: OutputPart, kwargs: {{{side}: {parts[0]}}}}}"
            )
        if output is not None and not isinstance(output, Tensor):
            return (
                f"; the {side} returns no tensor: hook the layer whose output its logits are, and "
                "name that in place of '.'"
            )
    return ""
