"""Kinds of value that a recipe or a study may hold, and numbers as people write them."""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from numbers import Integral, Real
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What a value has to be: in words, for an error, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)  # also one of numpy's


MAPPING = Kind("a mapping", lambda value: isinstance(value, Mapping))
NAME = Kind("a name", lambda value: isinstance(value, str))
FILE = Kind("a path or URL", lambda value: isinstance(value, str) and "\0" not in value)
NAMES = Kind(
    "a list of module paths",
    lambda value: isinstance(value, list | tuple) and all(isinstance(v, str) for v in value),
)
CALLABLE = Kind("a class or function", callable)
NUMBER = Kind("a number", lambda v: isinstance(v, Real) and not isinstance(v, bool))
FINITE = Kind("a finite number", lambda value: NUMBER.holds(value) and math.isfinite(value))
POSITIVE = Kind("a number above 0", lambda value: FINITE.holds(value) and value > 0)
WEIGHT = Kind("a number of at least 0", lambda value: FINITE.holds(value) and value >= 0)
FRACTION = Kind("a number from 0 to below 1", lambda v: FINITE.holds(v) and 0 <= v < 1)
DECAY = Kind("a number above 0 and below 1", lambda v: POSITIVE.holds(v) and v < 1)
SWITCH = Kind("True or False", lambda value: isinstance(value, bool))
NATURAL = Kind("a whole number", lambda value: _is_whole(value) and value >= 0)
SEED = Kind(  # as random generators take them
    "a whole number from 0 to 4294967295", lambda value: _is_whole(value) and 0 <= value < 2**32
)
COUNT = Kind("a whole number of at least 1", lambda value: _is_whole(value) and value >= 1)


def check_kind(what: str, value: Any, kind: Kind) -> None:
    """Raise ``ValueError``, which names ``what`` it is, unless a value is of a kind."""
    if not kind.holds(value):
        raise ValueError(f"{what} must be {kind.words}; found {value!r}")


def whole_seed(seed: Any) -> int:
    """Return a seed as a number of Python's own, also one of numpy's.

    Raises:
        ValueError: if it is none.

    Example:
        >>> import numpy as np
        >>> [whole_seed(seed) for seed in np.arange(2)]
        [0, 1]
    """
    check_kind("seed", seed, SEED)
    return int(seed)


def parse_count(text: str) -> int:
    """Read a whole number of at least 1.

    Raises:
        ValueError: if it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"expected {COUNT.words}; found {text!r}")
    return int(text)


def of_python(number: Any) -> Any:
    """Return a number or a text, one of numpy's kinds as the number of Python's own."""
    if isinstance(number, Integral):
        return int(number)
    return number if isinstance(number, str | float) else float(number)


def parse_number(text: str | float) -> float:
    """Read a non-negative number, also one written as a fraction of pixels.

    Raises:
        ValueError: if it is no finite number of at least 0.

    Example:
        >>> parse_number("8/255") == 8 / 255
        True
    """
    try:
        if isinstance(text, bool):
            raise ValueError
        value = float(Fraction(text)) if isinstance(text, str) else float(text)
    except (ValueError, TypeError, ArithmeticError):
        raise ValueError(f"expected a number such as 8/255 or 0.03; found {text!r}") from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"expected a finite number of at least 0; found {text!r}")
    return value


def written_number(text: str) -> str:
    """Check a flag's number, such as 8/255, and keep it as it was written."""
    parse_number(text)
    return text


def written_positive(text: str) -> str:
    """Check a flag's number above 0, and keep it as it was written."""
    if parse_number(text) == 0:
        raise ValueError(f"expected {POSITIVE.words}; found {text!r}")
    return text
