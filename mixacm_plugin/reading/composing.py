"""From text to YAML nodes, and what YAML lets through that nobody can have meant."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from ..common.errors import RecipeError, nearest
from ..common.files import recipe_file
from .library import how_to_use, kind_by_keys, kind_of_name
from .nodes import MERGE_TAG, STRING_TAG, Problem, children_of, walk_once

EXPONENT_WITHOUT_POINT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
# Octal and sexagesimal numbers of YAML 1.1, which nobody expects who writes 010 or 1:30.
SURPRISING_NUMBER = re.compile(r"[-+]?0[0-7_]*[1-7][0-7_]*|[-+]?\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?")
NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
DEEPEST = 100  # levels of nesting
LARGEST = 100_000  # nodes, where each alias counts as all that it stands for


def compose(path: str, kind: str, shipped: list[str]) -> yaml.Node | None:
    """Read a YAML file, or a shipped one by its name, into nodes; nothing is constructed.

    Args:
        path: file, or a name in ``shipped``.
        kind: what it should be, for errors: ``recipe``, ``study``, ``override file``.
        shipped: names of shipped files of that kind.

    Raises:
        RecipeError: if it can't be read, isn't YAML, or is of another kind.
    """
    try:
        file = path if os.path.exists(path) or path not in shipped else recipe_file(path)
        root = compose_text(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = f"{getattr(error, 'strerror', None) or error}.{nearest(path, shipped)}"
        other = kind_of_name(path)
        message = f"can't read the {kind}: {reason}" if other is None else how_to_use(path, other)
        raise RecipeError(path, "", message) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(path, where, f"YAML syntax: {error.problem}") from error
    except yaml.YAMLError as error:
        raise RecipeError(path, "", f"YAML syntax: {error}") from error
    other = kind_by_keys(children_of(root)) if isinstance(root, yaml.MappingNode) else None
    if other not in (None, kind):
        raise RecipeError(path, "", how_to_use(path, other))
    return root


def compose_text(text: str) -> yaml.Node | None:
    """Compose YAML of a size and depth that can be walked.

    Raises:
        yaml.YAMLError: if it isn't YAML, an anchor contains itself, it is nested too deeply, or
            aliases repeat too much.
    """
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.FullLoader)
        if root is not None and _size(root, {}, {}) > LARGEST:
            raise yaml.YAMLError(f"aliases make more than {LARGEST:,} values of it")
    except RecursionError:
        raise yaml.YAMLError(f"nested deeper than {DEEPEST} levels") from None
    return root


def _size(node: yaml.Node, sizes: dict[int, int], above: dict[int, None]) -> int:
    """Number of nodes from here on, where each alias counts as all that it stands for.

    Args:
        node: to be counted.
        sizes: of the nodes counted already, by id.
        above: ids of the nodes that contain this one.
    """
    if id(node) in above:
        raise yaml.MarkedYAMLError(None, None, "an anchor contains itself", node.start_mark)
    if len(above) > DEEPEST:
        problem = f"nested deeper than {DEEPEST} levels"
        raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
    if id(node) not in sizes:
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        above[id(node)] = None
        sizes[id(node)] = 1 + sum(
            _size(part, sizes, above)
            for child in children
            for part in (child if isinstance(child, tuple) else (child,))
        )
        del above[id(node)]
    return sizes[id(node)]


def _can_be_merged(node: yaml.Node) -> bool:
    parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return all(isinstance(part, yaml.MappingNode) for part in parts)


def yaml_mistakes(root: yaml.Node) -> Iterator[Problem]:
    """Yield what composing lets through: keys given twice, numbers that YAML reads as others."""
    for path, node in walk_once(root):
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.tag == MERGE_TAG and not _can_be_merged(value):
                    yield path, "expected a mapping or list of mappings for merging"
            names = [key.value for key, _ in node.value if key.tag != MERGE_TAG]
            line = node.start_mark.line + 1
            for name in {str(n): n for n in names if names.count(n) > 1 and n == n}.values():
                yield path, f"key {name!r} is given twice (from line {line})"
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            problem = _misread(node)
            if problem:
                yield path, problem


def _misread(node: yaml.ScalarNode) -> str | None:
    """Say what is surprising about a plain scalar that YAML 1.1 reads as it does, if anything."""
    text = node.value
    if node.tag == STRING_TAG and EXPONENT_WITHOUT_POINT.fullmatch(text):
        mantissa, exponent = re.split("[eE]", text)
        if "." not in mantissa:
            mantissa += ".0"
        sign = "" if exponent[0] in "+-" else "+"
        right = f"{mantissa}e{sign}{exponent}"
        return f"YAML reads {text} as text, not as a number; write {right}"
    if node.tag in NUMBER_TAGS and SURPRISING_NUMBER.fullmatch(text):
        return f"YAML 1.1 reads {text} as {yaml.safe_load(text)}; write that, or '{text}' for text"
    return None
