"""A recipe held against the schema: every mistake at once, in its YAML or in what it has built."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import yaml

from ..common.errors import nearest
from ..common.values import MAPPING
from .arguments import Arguments, arguments_of
from .composing import NUMBER_TAGS
from .keys import ANY, Key, Keys
from .nodes import (
    MAP_TAG,
    MERGE_TAG,
    STRING_TAG,
    Problem,
    Unbuilt,
    children_of,
    items_of,
    join,
    places_of,
    plain,
    walk_once,
)
from .recipe import Recipe
from .schema import STAGE, TAGS, not_registered, recipe_keys
from .sections import stage_names

UNKNOWN = Unbuilt("", None)  # in place of what is wrong: nothing else is to be said about it


class Validation:
    """What was found in a recipe.

    Attributes:
        problems: a key path and a message each.
        warnings: a line for each key that nothing reads and that is unlike any known one.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[str] = []


def validate(recipe: Recipe, found: Validation) -> dict[str, Any]:
    """Hold a recipe's YAML against the schema, with nothing constructed.

    A key of one's own that defines an anchor is read by its aliases elsewhere; but none may be like
    a known key that is missing, nor be a stage under another name: the host reads optional keys
    with ``.get``, so it ignores a mistyped one and trains something else.

    Args:
        recipe: as read.
        found: gets what is wrong, each once, although aliases bring it to several places.

    Returns:
        The recipe as plain values, with ``UNKNOWN`` in place of what is wrong.
    """
    check = _NodeCheck(recipe, found)
    root = plain(recipe.root)
    keys = recipe_keys(stage_names(root.get("train")))
    sound = check.section(root, keys, "", recipe.root)
    for path, node in walk_once(recipe.root):
        if node.tag in TAGS and isinstance(node, yaml.MappingNode):
            check.section(plain(node).content, TAGS[node.tag], path, node)
    return sound


def validate_built(config: Mapping[str, Any], found: Validation) -> dict[str, Any]:
    """Hold parts of a built recipe against the schema, now that its tags have made their values.

    Args:
        config: the recipe, or some of its top-level sections.
        found: gets what is wrong.
    """
    keys = recipe_keys(stage_names(config.get("train")))
    return _Check(found).section(config, keys, "", None)


class _Check:
    """Kinds, registered names and required keys of values; unknown keys are no business of its."""

    def __init__(self, found: Validation) -> None:
        self.found = found

    def value(self, value: Any, key: Key, path: str, node: yaml.Node | None) -> Any:
        """Return a value as it is, or ``UNKNOWN`` where it is wrong."""
        if value is None or isinstance(value, Unbuilt):
            return value
        message = _wrong(value, key)
        if message:
            self.add(path, message, node)
            return UNKNOWN
        if key.keys is None or not isinstance(value, Mapping | list):
            return value
        if isinstance(value, list):
            items = {str(index): item for index, item in enumerate(value)}
            return list(self.section(items, key.keys, path, node).values())
        return self.section(value, key.keys, path, node)

    def section(
        self, section: Mapping[str, Any], keys: Keys, path: str, node: yaml.Node | None
    ) -> dict[str, Any]:
        """Return a mapping with ``UNKNOWN`` in place of what is wrong in it."""
        children = {} if node is None else children_of(node)
        sound: dict[str, Any] = {}
        keys = _with_arguments(section, keys)
        for name, value in section.items():
            key = keys.get(name, keys.get(ANY))
            child = children.get(name)
            if value is None and name not in keys and key is not None and key.kind is not None:
                self.add(join(path, name), f"expected {key.kind.words}; found None", child)
                sound[name] = UNKNOWN
            elif key is None:
                meant = self.unknown_key(name, section, keys, path, child)
                sound.update({meant: UNKNOWN} if meant else {name: value})
            else:
                sound[name] = self.value(value, key, join(path, name), child)
        for name, key in keys.items():
            if key.required and sound.get(name) is None:
                has = f"; it has {', '.join(map(str, section))}" if section else ""
                message = f"missing from {path or 'the recipe'}{has}"
                if name in section and key.kind is not None:
                    message = f"expected {key.kind.words}; found None"
                self.add(join(path, name), message, node)
                sound[name] = UNKNOWN
        return sound

    def unknown_key(
        self, name: str, section: Mapping[str, Any], keys: Keys, path: str, node: yaml.Node | None
    ) -> str | None:
        """Return the known key that an unknown one is meant to be, if it is like one."""
        return None

    def add(self, path: str, message: str, node: yaml.Node | None) -> None:
        """Note a problem."""
        self.found.problems.append((path, message))


class _NodeCheck(_Check):
    """The same of values in the YAML, and the keys that nothing reads."""

    def __init__(self, recipe: Recipe, found: Validation) -> None:
        super().__init__(found)
        self.noted: set[tuple[int, str]] = set()
        self.written = places_of(recipe.root)
        self.uses: dict[str, list[str]] = {}  # where a node is written: where it is used
        for _, parent in walk_once(recipe.root):
            for name, child in items_of(parent):
                use = join(self.written[id(parent)], name)
                self.uses.setdefault(self.written[id(child)], []).append(use)

    def value(self, value: Any, key: Key, path: str, node: yaml.Node | None) -> Any:
        if node is not None and node.tag != MAP_TAG and isinstance(value, Mapping):
            return value
        return super().value(value, key, path, node)

    def section(
        self, section: Mapping[str, Any], keys: Keys, path: str, node: yaml.Node | None
    ) -> dict[str, Any]:
        before: yaml.Node | None = None
        for key, child in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag not in (STRING_TAG, MERGE_TAG):
                text = key.value if isinstance(key, yaml.ScalarNode) else "no text"
                hint = f", which YAML reads as {plain(key)!r}; write '{text}'"
                if before and before.tag in NUMBER_TAGS and text.isdecimal() and child.value == "":
                    hint = f" after a comma; if it belongs to {before.value}, "  # {lr: 0,2}
                    hint += f"write {before.value}.{text}"
                message = f"expected a name; found {text}{hint}"
                self.add(join(path, text), message, child)
            before = child
        return super().section(section, keys, path, node)

    def unknown_key(
        self, name: str, section: Mapping[str, Any], keys: Keys, path: str, node: yaml.Node | None
    ) -> str | None:
        where = join(path, name)
        if isinstance(keys, Arguments):
            takes = ", ".join(keys) or "nothing"
            others = keys.keys() - section.keys()
            hint = nearest(name, others)
            self.add(where, f"{keys.of} doesn't read it here; it takes {takes}.{hint}", node)
            return _like(name, others)
        if name.startswith("_"):  # as the host's own configs name what only anchors are for
            return None
        own = node is not None and self._defines_an_anchor(name, node)
        free = own or not path  # at the top level, which isn't the host's alone, in doubt as well
        meant = _like(name, keys.keys() - section.keys())
        meant = meant or _like(name, keys, 0.85 if free else 0.7)
        if meant:
            hint = " A name of your own may begin with _" if free and meant in section else ""
            self.add(where, f"unknown key. Did you mean {meant!r}?{hint}", node)
            return meant
        if path == "train" and node is not None and self._is_a_stage(node, where):
            message = "not a stage, so it isn't trained; stages are named stage1, stage2, ..."
            self.add(where, f"{message}. A block of your own may begin with _", node)
        elif not own:
            readers = [join(other, name) for other, key in keys.items() if name in (key.keys or ())]
            hint = f". Did you mean {readers[0]!r}?" if len(readers) == 1 else ""
            self.found.warnings.append(
                f"{where}: unknown key, which neither torchdistill 1.1 nor this package reads{hint}"
            )
        return None

    def _defines_an_anchor(self, name: str, node: yaml.Node) -> bool:
        """Whether something that is written in a block is used outside of it."""
        here = self.written[id(node)]
        inside = (place for place in self.uses if _is_in(place, here))
        uses = (use for place in inside for use in self.uses[place])
        return f".{here}".endswith(f".{name}") and not all(_is_in(use, here) for use in uses)

    def _is_a_stage(self, node: yaml.Node, path: str) -> bool:
        """Whether a block has what a stage needs, some of it for no use elsewhere."""
        children = children_of(node)
        whole = all(name in children for name, key in STAGE.items() if key.required)
        used = self.written[id(node)] == path and len(self.uses[path]) > 1
        return (
            whole
            and not used
            and not all(self._defines_an_anchor(name, child) for name, child in children.items())
        )

    def add(self, path: str, message: str, node: yaml.Node | None) -> None:
        if (id(node), message) not in self.noted:
            self.noted.add((id(node), message))
            super().add(path, message, node)


def _is_in(place: str, block: str) -> bool:
    return f"{place}.".startswith(f"{block}.")


def _wrong(value: Any, key: Key) -> str | None:
    if isinstance(value, list) and any(isinstance(v, Unbuilt) for v in value):
        return None  # said when it is built
    if key.kind is not None and not key.kind.holds(value):
        point = _with_point(value)
        hint = f"; write {point}" if point and key.kind.holds(float(point)) else ""
        return f"expected {key.kind.words}; found {value!r}{hint}"
    if key.registry is not None and value not in (names := key.registry.parts()):
        return not_registered(key.registry.what, value, names)
    return None


def _with_point(value: Any) -> str | None:
    """Return a number that is written with a comma as YAML would read it."""
    decimal = isinstance(value, str) and re.fullmatch(r"[-+]?\d+,\d+", value)
    return value.replace(",", ".") if decimal else None


def _with_arguments(section: Mapping[str, Any], keys: Keys) -> Keys:
    """Return keys with what stands under ``kwargs``: the arguments of the part that is named."""
    key, kwargs = keys.get("key"), keys.get("kwargs")
    if key is None or key.registry is None or kwargs is None:
        return keys
    name = section.get("key")
    part = key.registry.parts().get(name) if isinstance(name, str) else None
    arguments = arguments_of(part, positional=bool(section.get("args"))) if part else None
    if arguments is None:
        return keys
    if kwargs.keys is not None:
        arguments = Arguments(arguments.of, {**arguments, **kwargs.keys})
    own = {name: replace(inner, required=False) for name, inner in arguments.items()}
    of_groups = Key(MAPPING, keys=Arguments(arguments.of, own))
    return {
        **{name: _in_groups(inner, of_groups) for name, inner in keys.items()},
        "kwargs": Key(kwargs.kind, keys=arguments, required=kwargs.required),
    }


def _in_groups(key: Key, kwargs: Key) -> Key:
    """Return a key for a list of mappings with arguments of the part that is named beside it."""
    group = (key.keys or {}).get(ANY)
    if group is None or group.keys is None or "kwargs" not in group.keys:
        return key
    return replace(key, keys={ANY: replace(group, keys={**group.keys, "kwargs": kwargs})})


def _like(name: str, known: Iterable[str], cutoff: float = 0.7) -> str | None:
    # Stricter than nearest, which only suggests, where here it may refuse a recipe.
    name, known = str(name), list(known)
    swapped = [key for key in known if sorted(key.casefold()) == sorted(name.casefold())]
    return next(iter(swapped or difflib.get_close_matches(name, known, 1, cutoff)), None)
