"""YAML nodes by key path: walking them, and where each is written."""

from collections.abc import Iterable, Iterator

import yaml

STRING_TAG = "tag:yaml.org,2002:str"
MERGE_TAG = "tag:yaml.org,2002:merge"


def walk(node: yaml.Node, path: str = "") -> Iterator[tuple[str, yaml.Node]]:
    """Yield every node below (and with) ``node``, with its key path."""
    yield path, node
    children: Iterable[tuple[str, yaml.Node]] = ()
    if isinstance(node, yaml.MappingNode):
        children = [(key.value if isinstance(key.value, str) else "?", v) for key, v in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(str(index), value) for index, value in enumerate(node.value)]
    for name, child in children:
        yield from walk(child, f"{path}.{name}" if path else name)


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
    """Key path of each node by its id: where it is written, or else the first place that has it.

    Overrides from a file may put an alias before what it stands for.
    """
    first: dict[int, str] = {}
    written: dict[int, str] = {}
    for path, node in walk(root):
        first.setdefault(id(node), path)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                one, other = key.end_mark, value.start_mark
                if one and other and one.buffer is other.buffer and one.index <= other.index:
                    written.setdefault(id(value), f"{path}.{key.value}".lstrip("."))
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
