"""What kind of value each part of a recipe must be, so that whatever reads it later may rely on it.

A missing part is none of this module's business, and neither is a ``null``.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .recipe import Recipe
from .sections import Config, get

MAPPING, NAME, FILE = "a mapping", "a name", "a path or URL"
NAMES, CALLABLE = "a list of module paths", "a class or function"
NUMBER, NATURAL, COUNT = "a number", "a whole number", "a whole number of at least 1"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


KINDS: dict[str, Callable[[Any], bool]] = {
    MAPPING: lambda value: isinstance(value, Mapping),
    NAME: lambda value: isinstance(value, str),
    FILE: lambda value: isinstance(value, str),
    NAMES: lambda v: isinstance(v, list | tuple) and all(isinstance(name, str) for name in v),
    CALLABLE: callable,
    NUMBER: lambda value: _is_whole(value) or isinstance(value, float),
    NATURAL: lambda value: _is_whole(value) and value >= 0,
    COUNT: lambda value: _is_whole(value) and value >= 1,
}

# Key path below a part of the recipe -> its kind; what lies inside another one comes after it.
RECIPE_KINDS = dict.fromkeys(("datasets", "models", "train", "test"), MAPPING)
MODEL_KINDS = {"key": NAME, "kwargs": MAPPING, "src_ckpt": FILE, "dst_ckpt": FILE}
LOADER_KINDS = {
    "sampler": MAPPING,
    "sampler.class_or_func": CALLABLE,
    "kwargs": MAPPING,
    "batch_sampler": MAPPING,
    "dataset_wrapper": MAPPING,
}
STAGE_KINDS = {
    "num_epochs": COUNT,
    "train_data_loader": MAPPING,
    "val_data_loader": MAPPING,
    "criterion": MAPPING,
    "criterion.kwargs": MAPPING,
    "criterion.kwargs.sub_terms": MAPPING,
    "optimizer": MAPPING,
    "optimizer.kwargs": MAPPING,
    "optimizer.max_grad_norm": NUMBER,
    "scheduler": MAPPING,
    "scheduler.kwargs": MAPPING,
}
ROLE_KINDS = {  # teacher, student or model of a stage
    "src_ckpt": FILE,
    "dst_ckpt": FILE,
    "sequential": NAMES,
    "frozen_modules": NAMES,
    "forward_hook": MAPPING,
    "forward_hook.input": NAMES,
    "forward_hook.output": NAMES,
    "auxiliary_model_wrapper": MAPPING,
}


def expect(recipe: Recipe, where: str, value: Any, kind: str) -> None:
    """Raise ``RecipeError`` unless a value is of one of the ``KINDS``."""
    if not KINDS[kind](value):
        raise recipe.error(where, f"expected {kind}; found {value!r}")


def check_kinds(recipe: Recipe, part: Config, path: str, kinds: Mapping[str, str]) -> None:
    """Raise ``RecipeError`` for the first value of a part that is of another kind."""
    for name, kind in kinds.items():
        value = get(part, name)
        if value is not None:
            expect(recipe, f"{path}.{name}".lstrip("."), value, kind)
