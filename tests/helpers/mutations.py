"""Changes of a recipe: integers, which are cheap to draw, choose what is changed and where."""

import copy
import os
from collections.abc import Callable, Iterable

import yaml
from torchdistill.common import yaml_util

from mixacm_plugin.reading.nodes import MERGE_TAG, STRING_TAG

yaml_util.load_yaml_file(os.devnull)  # registers the host's tags
VALUES = (
    *("null", "x", "7", "0", "-1", "0.5", "true", "[]", "{}", "[1]", "{a: 1}", "''", "'.'", "'3'"),
    *("1.0e+300", ".nan", "-.inf", "8/255", "1:30", "1e-3", "[x, y]", "2020-01-01", "~/x"),
    *("!import_get {key: torch.nn.ReLU}", "!import_call {key: torch.nn.ReLU}", "!import_get x"),
    *("!!python/tuple [1, 2]", "!!python/name:os.getcwd ''", "!!binary aGk=", "!unknown 1"),
)
TAGS = ("!import_call", "!import_get", "!import_call_method", "!join", "!!x", MERGE_TAG, STRING_TAG)

Mutation = tuple[int, int, int]
Slot = tuple[yaml.CollectionNode, int]  # a place under a node


def slots(root: yaml.Node) -> list[Slot]:
    """Return all places of a recipe, each node's once; from the top down."""
    found: list[Slot] = []
    todo, seen = [root], {id(root)}
    for node in todo:
        for index in range(len(node.value) if isinstance(node, yaml.CollectionNode) else 0):
            found.append((node, index))
            child = value_of((node, index))
            if id(child) not in seen:
                seen.add(id(child))
                todo.append(child)
    return found


def value_of(slot: Slot) -> yaml.Node:
    node, index = slot
    return node.value[index][1] if isinstance(node, yaml.MappingNode) else node.value[index]


def put(slot: Slot, value: yaml.Node) -> None:
    node, index = slot
    node.value[index] = (
        (node.value[index][0], value) if isinstance(node, yaml.MappingNode) else value
    )


def drop(slot: Slot, _: Slot, which: int) -> None:
    node, index = slot
    del node.value[index]


def replace(slot: Slot, _: Slot, which: int) -> None:
    put(slot, yaml.compose(VALUES[which % len(VALUES)], Loader=yaml.FullLoader))


def repeat(slot: Slot, other: Slot, which: int) -> None:
    """Give a key twice, or a list's item."""
    node, index = slot
    node.value.append(copy.copy(node.value[index]))
    put((node, len(node.value) - 1), value_of(other))


def swap(slot: Slot, other: Slot, which: int) -> None:
    one, two = value_of(slot), value_of(other)
    put(slot, two)
    put(other, one)


def alias(slot: Slot, other: Slot, which: int) -> None:
    """Let an alias stand here for what stands there; around this place, too."""
    put(slot, value_of(other))


def merge(slot: Slot, other: Slot, which: int) -> None:
    node, _ = slot
    if isinstance(node, yaml.MappingNode):
        node.value.append((yaml.ScalarNode(MERGE_TAG, "<<"), value_of(other)))


def rename(slot: Slot, other: Slot, which: int) -> None:
    """Give a key another's name, or misspell it."""
    node, index = slot
    if not isinstance(node, yaml.MappingNode):
        return
    key, value = node.value[index]
    if not isinstance(key, yaml.ScalarNode):  # by an earlier change
        return
    name = key.value
    names = [name[1:], name[:-1], name + "s", name.upper(), name[1:2] + name[:1] + name[2:]]
    keys = [yaml.ScalarNode(STRING_TAG, name) for name in names]
    if isinstance(other[0], yaml.MappingNode):
        keys += [other[0].value[other[1]][0]] * len(names)
    keys.append(yaml.compose(VALUES[which % len(VALUES)], Loader=yaml.FullLoader))
    node.value[index] = (keys[which % len(keys)], value)


def move(slot: Slot, other: Slot, which: int) -> None:
    """Take a key or an item away, and put it somewhere else."""
    (node, index), (target, _) = slot, other
    item = node.value[index]
    if isinstance(node, yaml.MappingNode) is isinstance(target, yaml.MappingNode):
        del node.value[index]
        target.value.append(item)


def tag(slot: Slot, _: Slot, which: int) -> None:
    value_of(slot).tag = TAGS[which % len(TAGS)]


def wrap(slot: Slot, _: Slot, which: int) -> None:
    put(slot, yaml.SequenceNode("tag:yaml.org,2002:seq", [value_of(slot)]))


CHANGES: tuple[Callable[[Slot, Slot, int], None], ...] = (
    *(drop, replace, repeat, swap, alias, rename, move, merge, tag, wrap),
)


def mutated(text: str, mutations: Iterable[Mutation]) -> str:
    """Return a recipe's text with some things changed, one after the other.

    Args:
        text: of a recipe.
        mutations: for each its place, another place or a value, and the kind of change.
    """
    root = yaml.compose(text, Loader=yaml.FullLoader)
    for place, other, kind in mutations:
        places = slots(root)
        if places:
            change = CHANGES[kind % len(CHANGES)]
            change(places[place % len(places)], places[other % len(places)], other)
    return yaml.serialize(root)


def flipped(text: str, flips: Iterable[tuple[int, int]]) -> bytes:
    """Return a recipe's bytes with some set to another value, or taken away.

    Args:
        text: of a recipe.
        flips: for each its place, and the byte; one above 255 is put in front.
    """
    content = bytearray(text.encode())
    for place, byte in flips:
        place %= len(content)
        content[place : place + (byte < 256)] = bytes([byte % 256])
    return bytes(content)
