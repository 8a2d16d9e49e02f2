"""What a schema is made of: keys, what may stand under them, and where names are looked up."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..common.values import MAPPING, NAME, Kind


class Registry(NamedTuple):
    """Where a name is looked up: what it names, and the parts that have names at the moment."""

    what: str
    parts: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Key:
    """What may stand under a key.

    Args:
        kind: of the value; ``None`` for any.
        registry: where the value is looked up.
        keys: that the value, a mapping, may have; ``None`` where nothing looks at them by name.
            ``kwargs`` beside the name of a registered part have its arguments.
        required: whether it has to be there, if what it belongs to is.
    """

    kind: Kind | None = None
    registry: Registry | None = None
    keys: "Keys | None" = None
    required: bool = False


Keys = Mapping[str, Key]
ANY = "*"  # every other name


def section(required: bool = False, kind: Kind = MAPPING, /, **keys: Key) -> Key:
    """Return a key for a mapping with these keys."""
    return Key(kind, keys=keys, required=required)


def name_of(what: str, parts: Callable[[], Mapping[str, Any]], *, required: bool = False) -> Key:
    """Return a key for the name of a registered part."""
    return Key(NAME, Registry(what, parts), required=required)


def registries(keys: Keys) -> Iterator[tuple[str, Registry]]:
    """Yield each key, at any depth, whose value is looked up: its name and where."""
    for name, key in keys.items():
        if key.registry is not None:
            yield name, key.registry
        yield from registries(key.keys or {})


def any_of(names: str) -> dict[str, Key]:
    """Return keys that may hold anything, by their names."""
    return dict.fromkeys(names.split(), Key())
