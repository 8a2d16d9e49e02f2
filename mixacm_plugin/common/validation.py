"""Plain YAML and JSON held against pydantic models, with errors as the rest of the package has."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from .errors import RecipeError, nearest, raise_all
from .values import Kind

# pydantic's kind of error -> what was expected
EXPECTED = {
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "True or False",
}
TAG = "<"  # begins the name of a union's member, which is no part of a key path


class Spec(BaseModel):
    """A mapping with known keys and no others; values are taken as they are, not converted."""

    model_config = ConfigDict(
        extra="forbid", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )


def of_kind(kind: Kind) -> BeforeValidator:
    """Return what a field's annotation says of its kind: ``Annotated[str, of_kind(NAME)]``."""

    def check(value: Any) -> Any:
        if not kind.holds(value):
            raise ValueError(f"expected {kind.words}; found {value!r}")
        return value

    return BeforeValidator(check)


Model = TypeVar("Model", bound=BaseModel)


def validated(
    model: type[Model], content: Any, error: Callable[[str, str], RecipeError], where: str = ""
) -> Model:
    """Return plain values as a model.

    Args:
        model: to hold them against.
        content: mappings, lists and values, as YAML and JSON have them.
        error: makes an error of a key path and a message.
        where: key path of the content.

    Raises:
        RecipeError: on every mistake at once.
    """
    try:
        return model.model_validate(content)
    except ValidationError as problem:
        raise_all([error(*_told(e, model, where)) for e in problem.errors(include_url=False)])
        raise AssertionError from problem  # there is at least one


def _told(problem: Any, model: type[BaseModel], where: str) -> tuple[str, str]:
    location = [part for part in problem["loc"] if not str(part).startswith(TAG)]
    path = ".".join(map(str, [*([where] if where else []), *location]))
    kind, found = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        hint = nearest(str(location[-1]), known)
        return path, f"unknown key; expected {', '.join(known)}.{hint}"
    if kind == "missing":
        return path, "missing"
    if kind == "value_error":
        return path, str(problem["ctx"]["error"])
    expected = EXPECTED.get(kind) or problem["msg"].removeprefix("Input should be ")
    return path, f"expected {expected}; found {found!r}"


def _keys_at(model: Any, location: Iterable[Any]) -> list[str]:
    """Return the keys of the model that lies at a place inside another one."""
    for part in location:
        if hasattr(model, "model_fields"):
            model = model.model_fields[str(part)].annotation
            if get_origin(model) not in (list, dict):  # an optional part: what it is where it is
                model = next((a for a in get_args(model) if hasattr(a, "model_fields")), model)
        else:  # an item of a list or a mapping
            model = next(iter(_models_in(model)), model)
    return list(getattr(model, "model_fields", ()))


def _models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    for argument in get_args(annotation):
        yield from [argument] if hasattr(argument, "model_fields") else _models_in(argument)
