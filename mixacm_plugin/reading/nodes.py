"""YAML nodes: walked by key path, changed, looked at as plain values."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

STRING_TAG = "tag:yaml.org,2002:str"
MERGE_TAG = "tag:yaml.org,2002:merge"
MAP_TAG = "tag:yaml.org,2002:map"
PYTHON_NAME = "tag:yaml.org,2002:python/name:"
MADE: Mapping[str, Callable[..., str]] = {  # the host's tags whose value the YAML tells
    "!join": lambda *parts: "".join(parts),
    "!pathjoin": lambda *parts: os.path.expanduser(os.path.join(*parts)),
    "!expanduser": os.path.expanduser,
    "!abspath": os.path.abspath,
}
IMPORTS = ("!import_get", "!import_call", "!import_call_method")

Problem: TypeAlias = tuple[str, str]  # key path and message


@dataclass(frozen=True, eq=False)
class Unbuilt:
    """A value that the YAML doesn't tell, since a tag such as !import_call will make it.

    Args:
        tag: the YAML tag.
        content: what stands under it, as plain values.
    """

    tag: str
    content: Any


def join(path: str, name: object) -> str:
    """Append a name to a key path."""
    return f"{path}.{name}" if path else str(name)


def walk(node: yaml.Node, path: str = "") -> Iterator[tuple[str, yaml.Node]]:
    """Yield every node below (and with) ``node``, with its key path."""
    yield path, node
    for name, child in items_of(node):
        yield from walk(child, join(path, name))


def items_of(node: yaml.Node) -> list[tuple[str, yaml.Node]]:
    """Return the names and nodes right below a node, as they are written: ``<<`` is one of them."""
    if isinstance(node, yaml.MappingNode):
        return [(key.value if isinstance(key.value, str) else "?", v) for key, v in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(str(index), value) for index, value in enumerate(node.value)]
    return []


def walk_once(root: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    """Yield every node once, at the first of the places to which aliases bring it."""
    seen: set[int] = set()
    for path, node in walk(root):
        if id(node) not in seen:
            seen.add(id(node))
            yield path, node


def children_of(node: yaml.Node, merged: bool = True) -> dict[str, yaml.Node]:
    """Return a node's children by name, with or without those that ``<<`` brings."""
    if isinstance(node, yaml.SequenceNode):
        return {str(index): child for index, child in enumerate(node.value)}
    children: dict[str, yaml.Node] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag == MERGE_TAG and merged:
                for mapping in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    children = {**children_of(mapping), **children}
        children.update({str(k.value): v for k, v in node.value if k.tag != MERGE_TAG})
    return children


def places_of(root: yaml.Node) -> dict[int, str]:
    """Key path of each node by its id: where its anchor is, and not where an alias repeats it.

    In ``a: &x 1`` and ``b: *x`` both names have the same node, written at ``a``. An override file
    may put an alias before what it stands for, as in ``{b: *x, a: &x 1}``; then marks in the text
    tell: where a node is written, it begins after its key, and in the same file.
    """
    first: dict[int, str] = {}
    written: dict[int, str] = {}
    for path, node in walk(root):
        first.setdefault(id(node), path)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                one, other = key.end_mark, value.start_mark
                if one and other and one.buffer is other.buffer and one.index <= other.index:
                    written.setdefault(id(value), join(path, key.value))
    return {**first, **written}


def put(node: yaml.Node, name: str, child: yaml.Node, added: yaml.Node | None = None) -> None:
    """Put a child in its place; ``added`` is the override file's key, whose marks say where."""
    if isinstance(node, yaml.SequenceNode):
        node.value[int(name)] = child
        return
    marks = (added.start_mark, added.end_mark) if added else ()
    new = (yaml.ScalarNode(STRING_TAG, name, *marks), child)
    for index, (key, _) in enumerate(node.value):
        if key.value == name and key.tag != MERGE_TAG:
            node.value[index] = new if added else (key, child)
            return
    node.value.append(new)


def plain(node: yaml.Node, seen: dict[int, Any] | None = None) -> Any:
    """Return a node as mappings, lists and values, with ``Unbuilt`` where a tag makes something.

    What an alias repeats is the same object again.
    """
    seen = {} if seen is None else seen
    if id(node) not in seen:
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = {name: plain(child, seen) for name, child in children_of(node).items()}
        elif isinstance(node, yaml.SequenceNode):
            value = [plain(child, seen) for child in node.value]
        else:
            value = _scalar(node)
        own = node.tag.startswith("!")
        seen[id(node)] = Unbuilt(node.tag, value) if own else value
    return seen[id(node)]


def _scalar(node: yaml.Node) -> Any:
    if node.tag.startswith("!"):
        return node.value
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError):  # said when it is built
        return Unbuilt(node.tag, node.value)
    finally:
        loader.dispose()


def told(value: Any) -> Any:
    """Return plain values with those tags made whose value the YAML tells; ``*`` is a random name.

    Example:
        >>> told({"a": Unbuilt("!join", ["po", "six"])})
        {'a': 'posix'}
    """
    if isinstance(value, Mapping):
        return {name: told(item) for name, item in value.items()}
    if isinstance(value, list):
        return [told(item) for item in value]
    if not isinstance(value, Unbuilt):
        return value
    content = told(value.content)
    if value.tag == "!import_call" and content in ({"key": "uuid.uuid4"}, {"key": "uuid.uuid1"}):
        return "*"
    parts = content if isinstance(content, list) else [content]
    if value.tag in MADE and parts and all(isinstance(part, str | int | float) for part in parts):
        return MADE[value.tag](*map(str, parts))
    return Unbuilt(value.tag, content)


def path_of(tag: str, entry: Mapping[str, Any]) -> list[Any]:
    """Return the module that an import tag names and the names in it, as the host takes them."""
    if tag == "!import_call_method":
        names = [entry.get(name) for name in ("package", "class_name", "method_name")]
        split = names[1] is None or names[2] is None
        if split and isinstance(names[0], str):
            return [*names[0].rsplit(".", 2), None, None][:3]
        return names
    key, package = entry.get("key"), entry.get("package")
    if package is None and isinstance(key, str):
        package, _, key = key.rpartition(".")
    return [package, key]
