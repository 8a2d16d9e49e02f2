"""The keys of a study's file, and what may stand under them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Tag

from ..common.validation import TAG, Spec, of_kind
from ..common.values import COUNT, SEED, Kind, check_kind
from ..evaluation.attacks import Attack, attack_of

LIST, BY_NAME = f"{TAG}list", f"{TAG}by name"
FILE_NAME = Kind("the name of a file", lambda value: isinstance(value, str))
ROW_NAME = Kind(  # it stands in tables and figures
    "a name, in one line",
    lambda value: isinstance(value, str) and bool(value.strip()) and value.isprintable(),
)
CHANGES = Kind(
    "key paths and values, or an override file",
    lambda value: all(isinstance(part, str | dict) for part in as_list(value)),
)


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, one thing as a list of it, nothing as an empty one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def attack_in(spec: Mapping[str, Any]) -> Attack:
    """Return the attack of a measurement: ``{attack: ..., norm: ..., eps: ..., n: ...}``."""
    settings = {key: value for key, value in spec.items() if key not in ("attack", "n")}
    return attack_of({"name": spec["attack"], **settings})


def _measurement(spec: dict[str, Any]) -> dict[str, Any]:
    if "attack" not in spec:
        raise ValueError(f"expected {{attack: ..., norm: ..., eps: ..., n: ...}}; found {spec!r}")
    attack_in(spec)
    if spec.get("n") is not None:
        check_kind("n", spec["n"], COUNT)
    return spec


FileName: TypeAlias = Annotated[str, of_kind(FILE_NAME)]
Changes: TypeAlias = Annotated[Any, of_kind(CHANGES)]
Seeds: TypeAlias = list[Annotated[int, of_kind(SEED)]]
Measurements: TypeAlias = list[Annotated[dict[str, Any], AfterValidator(_measurement)]]


class ReferenceSpec(Spec):
    """Published figures beside a study's own: where they are from, and a title for each column."""

    label: str
    columns: list[str]


class RowChanges(Spec):
    """What a scale may change of a row."""

    base: FileName | None = None
    set: Changes = None
    reference: Any = None
    measure: Literal["student", "ema", "teacher"] | None = None


class RowSpec(RowChanges):
    """A row of a study's file."""

    name: Annotated[str, of_kind(ROW_NAME)]


def _rows_are(value: Any) -> str:
    return BY_NAME if isinstance(value, Mapping) else LIST


class ScaleSpec(Spec):
    """What a scale puts in place of the study's own."""

    base: FileName | None = None
    seeds: Seeds | None = None
    evaluate: Measurements | None = None
    set: Changes = None
    rows: (
        Annotated[
            Annotated[list[RowSpec], Tag(LIST)] | Annotated[dict[Any, RowChanges], Tag(BY_NAME)],
            Discriminator(_rows_are),
        ]
        | None
    ) = None
    reference: ReferenceSpec | None = None
    plots: list[Any] | None = None
    sanity: bool | None = None


class StudySpec(Spec):
    """A study's file."""

    title: str | None = None
    base: FileName | None = None
    seeds: Seeds | None = None
    evaluate: Measurements | None = None
    set: Changes = None
    rows: list[RowSpec] | None = None
    reference: ReferenceSpec | None = None
    scales: dict[Any, ScaleSpec] | None = None
    plots: list[Any] | None = None
    sanity: bool | None = None
