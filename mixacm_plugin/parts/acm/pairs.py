"""Pairs of ``ACMLoss`` as a recipe gives them: what each side is, and what is refused."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from ...common.errors import nearest
from ...common.values import NATURAL, WEIGHT
from .positions import GRID, LAYOUTS
from .transforms import POOLINGS

SIDES = ("teacher", "student")
IO = ("input", "output")
LAYOUT_KEYS = ("layout", "prefix_tokens")  # of a pair, or of one of its sides
LAST = "last"


class PairError(ValueError):
    """A misconfigured argument of ``ACMLoss``; ``where`` is its key path inside the kwargs."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.where, self.message = where, message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.where, self.message)  # from another process, see RecipeError


class PairEnd(NamedTuple):
    """One side of a pair: what is hooked there, and how its channels lie in it."""

    path: str
    io: str
    layout: str = "nchw"
    prefix_tokens: int = 0


def end_of(pair: Mapping[str, Any], side: str) -> PairEnd:
    """Return one side of a pair, with the layout that both sides have."""
    own = {name: pair[name] for name in LAYOUT_KEYS if name in pair}
    return PairEnd(**{**own, **pair[side]})


def check_pair(pair: Any, where: str) -> None:
    """Raise ``PairError`` unless a pair is well-formed; ``where`` is its key path."""
    if not isinstance(pair, Mapping):
        raise PairError(where, f"expected {{teacher: ..., student: ...}}; found {pair!r}")
    for side in SIDES:
        end = pair.get(side)
        if (
            not isinstance(end, Mapping)
            or not {"path", "io"} <= set(end) <= {"path", "io", *LAYOUT_KEYS}
            or not isinstance(end["path"], str)
            or end["io"] not in IO
        ):
            raise PairError(
                f"{where}.{side}", f"expected {{path: ..., io: input|output}}; found {end!r}"
            )
        _check_layout(end, f"{where}.{side}")
    _check_layout(pair, where)
    known = (*SIDES, "weight", "transform", "call", "grid", *LAYOUT_KEYS)
    unknown = next((key for key in pair if key not in known), None)
    if unknown is not None:
        raise PairError(where, f"unknown key {unknown!r}.{nearest(unknown, known)}")
    weight = pair.get("weight", 1.0)
    if not WEIGHT.holds(weight):
        raise PairError(f"{where}.weight", f"expected {WEIGHT.words}; found {weight!r}")
    if pair.get("call", LAST) != LAST:
        raise PairError(f"{where}.call", f"expected {LAST}; found {pair['call']!r}")
    check_transform(pair.get("transform"), f"{where}.transform")
    check_grid(pair.get("grid", 1), f"{where}.grid")


def _check_layout(part: Mapping[str, Any], where: str) -> None:
    layout, prefix = part.get("layout", "nchw"), part.get("prefix_tokens", 0)
    if layout not in list(LAYOUTS):
        known = ", ".join(LAYOUTS)
        raise PairError(f"{where}.layout", f"expected one of {known}; found {layout!r}")
    if not NATURAL.holds(prefix):
        message = f"expected {NATURAL.words}; found {prefix!r}"
        raise PairError(f"{where}.prefix_tokens", message)


def check_grid(grid: Any, where: str) -> None:
    """Raise ``PairError`` unless it is a grid; ``where`` is its key path."""
    if not GRID.holds(grid):
        raise PairError(where, f"expected {GRID.words}; found {grid!r}")


def check_transform(transform: Any, where: str) -> None:
    """Raise ``PairError`` unless a transform is well-formed; ``where`` is its key path."""
    if transform is None:
        return
    if not isinstance(transform, Mapping) or set(transform) not in (
        {"side", "kind"},
        {"side", "module"},
    ):
        raise PairError(where, f"expected {{side, kind}} or {{side, module}}; found {transform!r}")
    if transform["side"] not in SIDES:
        raise PairError(
            f"{where}.side", f"expected teacher or student; found {transform['side']!r}"
        )
    if "kind" in transform and transform["kind"] not in list(POOLINGS):
        raise PairError(
            f"{where}.kind", f"expected one of {', '.join(POOLINGS)}; found {transform['kind']!r}"
        )
    module = transform.get("module")
    if "module" in transform and not (
        isinstance(module, nn.Module) and next(module.parameters(), None) is not None
    ):
        raise PairError(
            f"{where}.module",
            f"expected an alias of an affine that the teacher's wrapper owns; "
            f"found {transform['module']!r}",
        )
