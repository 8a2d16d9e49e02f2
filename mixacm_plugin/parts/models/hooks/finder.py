"""Hook points of any image classifier, found by running it once and looking."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch import nn

from .operations import GLOBAL_POOLS, KEEP, POOLS, SATURATING, WEIGHTED
from .points import HookPoint, HookPoints
from .trace import Node, main_path, reached, tell_prefixes, traced

STAGE, BLOCK = PER = ("stage", "block")  # what one hook point is for
JOINS = {"add", "cat"}  # how a block's branches meet
SHRINKS = 0.6  # of the positions: no unpadded convolution does, any stride does
PARTS = 4  # of a model that keeps its resolution


def find_hook_points(
    model: nn.Module, input_shape: Sequence[int] = (3, 32, 32), *, per: str = STAGE
) -> HookPoints:
    """Find a model's stem and stages by running it once, in eval mode.

    A block is a tensor that every path from the images to the logits crosses: the first one that a
    layer makes, and the last one of each resolution. Where there is one resolution only, blocks are
    the last ones of each number of channels, or stand at even depth. Auxiliary heads, modules that
    are called several times, and what is changed in place later are passed over.

    Args:
        model: image classifier; it is left as it was.
        input_shape: ``(C, H, W)`` of an image that it takes.
        per: ``stage``, or ``block`` for what every residual block returns, too: such a tensor where
            branches meet.

    Raises:
        ValueError: if it doesn't take such images, doesn't return logits, or has no such tensor.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        ...     nn.Linear(7200, 10))
        >>> [point.path for point in find_hook_points(net).activated]
        ['2']
    """
    name = type(model).__name__
    trace, logits = traced(model, input_shape)
    path = _features(main_path(logits))
    tell_prefixes(trace.nodes, path)
    ends = _blocks(path, dict(model.named_modules()))
    found = _raw_and_activated(ends if per == STAGE else _with_joins(path, ends))
    if not found:
        raise ValueError(
            f"no hook points found in {name}: no feature map of a module is crossed by every path "
            "from its images to its logits. Hook modules of your choice"
        )
    raw, activated = zip(*((_point(one), _point(other)) for _, one, other in found), strict=True)
    # A block is of the stage that ends with it or after it.
    stages = tuple(sum(end.index < block.index for end in ends) for block, _, _ in found)
    return HookPoints(name, raw, activated, stages)


def _raw_and_activated(blocks: Sequence[Node]) -> list[tuple[Node, Node, Node]]:
    """Each block, what it returns, and the same activated; one that is seen twice counts once."""
    found: list[tuple[Node, Node, Node]] = []
    for number, block in enumerate(blocks):
        before = blocks[number - 1].index if number else -1
        later = blocks[number + 1].index if number + 1 < len(blocks) else math.inf
        active = _activated(block, before, later) or block
        raw = _returned(block) if number else block
        # A stem of several layers, which is a module of its own.
        whole_stem = (
            number == 1
            and block.positions == blocks[0].positions
            and _path(blocks[0]).startswith(f"{_path(raw)}.")
        )
        if whole_stem or (found and found[-1][2] is active):
            found.pop()
        found.append((block, raw, active))
    return found


def _features(path: Sequence[Node]) -> list[Node]:
    """Cut a main path where positions end: behind are the head's layers."""
    found = []
    for node in path[1:]:
        if node.layout is None:
            continue
        if node.positions <= 1 and (node.operation in GLOBAL_POOLS or node.layout == "tokens"):
            break
        found.append(node)
    return found


def _blocks(path: Sequence[Node], modules: Mapping[str, nn.Module]) -> list[Node]:
    """Stem and last block of each stage, of those that can be hooked."""
    path = [node for node in path if _end(node) is not None]
    if not path:
        return []
    stem = path[0]
    rest = [n for n in path if n.operation not in POOLS and _origin(n) is not _origin(stem)]
    stages: list[list[Node]] = []
    for node in rest:
        if not stages or node.positions <= SHRINKS * stages[-1][0].positions:
            stages.append([])
        stages[-1].append(node)
    if len(stages) == 1:
        return [stem, *_parts(stages[0], modules)]
    return [stem, *(_last(stage) for stage in stages)]


def _with_joins(path: Sequence[Node], ends: Sequence[Node]) -> list[Node]:
    """Ends of stages, and what modules return where a residual block's branches have met."""
    blocks = {_origin(end): end for end in ends}
    for node in path:
        origin = _origin(node)
        returned = not node.overwritten and any(io == "output" for _, io in node.ends)
        if returned and origin.operation in JOINS and len(origin.parents) > 1:
            blocks.setdefault(origin, node)
    return sorted(blocks.values(), key=lambda node: node.index)


def _last(nodes: Sequence[Node]) -> Node:
    """Last of the nodes that are seen at the top: what is inside blocks isn't their end."""
    top = min(_depth(node) for node in nodes)
    return [node for node in nodes if _depth(node) == top][-1]


def _parts(nodes: Sequence[Node], modules: Mapping[str, nn.Module]) -> list[Node]:
    """Blocks of a stage that is the whole model: by channels, or at even depth."""
    siblings: dict[tuple[str, type], dict[Node, None]] = defaultdict(dict)
    for node in nodes:
        for path, io in node.ends:
            if io == "output":
                siblings[path.rpartition(".")[0], type(modules[path])][node] = None
    # A model of functions has no blocks: whatever can be hooked will do.
    blocks = max((list(found) for found in siblings.values()), key=len, default=list(nodes))
    widths = [_point(node).channels for node in blocks]
    if len(set(widths)) > 1:
        return [blocks[len(widths) - 1 - widths[::-1].index(w)] for w in dict.fromkeys(widths)]
    count = min(PARTS, len(blocks))
    return [blocks[math.ceil(part * len(blocks) / count) - 1] for part in range(1, count + 1)]


def _activated(block: Node, before: float, later: float) -> Node | None:
    """What a block is after its activation, or its own last one, or the next one; if any."""
    if block.activated:
        return block
    found = _next_activation(block)
    if found is not None:
        return found
    own = [n for n in reached(block, "parents") if n.index > before and _usable(n)]
    own = [node for node in own if node.positions == block.positions]
    if own:
        return max(own, key=lambda node: node.index)
    after = [n for n in reached(block, "children") if n.index <= later and _usable(n)]
    return min(after, key=lambda node: node.index, default=None)


def _origin(node: Node) -> Node:
    """What a tensor was before normalisation and activation."""
    while len(node.parents) == 1 and node.operation not in WEIGHTED:
        if _size(node.parents[0]) != _size(node):
            break
        node = node.parents[0]
    return node


def _next_activation(node: Node) -> Node | None:
    """First activation that follows after nothing but normalisation."""
    for child in node.children:
        if len(child.parents) != 1 or child.operation in WEIGHTED or _size(child) != _size(node):
            continue
        found = child if child.activated else _next_activation(child)
        found = _shown(found) if found is not None else None
        if found is not None:
            return found
    return None


def _shown(node: Node) -> Node | None:
    """Return a tensor that can be hooked, or what pooling and the like make of it."""
    if _end(node) is not None and (node.layout or len(node.shape) == 2):
        return node
    for child in node.children:
        if child.operation in KEEP - {"mul", "cat"}:
            found = _shown(child)
            if found is not None:
                return found
    return None


def _usable(node: Node) -> bool:
    hooked = node.layout is not None and node.shape[0] == 1 and _end(node) is not None
    return hooked and node.activated and node.operation not in SATURATING


def _returned(block: Node) -> Node:
    """What a block returned before normalisation and activation that follow it."""
    inside, node, found = f"{_path(block)}.", block, block
    while len(node.parents) == 1 and node.operation not in WEIGHTED:
        node = node.parents[0]
        if _size(node) != _size(block):
            break
        end = _end(node)
        if end is not None and end[1] == "output" and node.layout and not end[0].startswith(inside):
            found = node
    return found


def _end(node: Node) -> tuple[str, str] | None:
    """A module's end where a tensor can be hooked: an output rather than an input, at the top."""
    ends = [] if node.overwritten else node.ends
    return min(ends, key=lambda end: (end[1] == "input", end[0].count(".")), default=None)


def _path(node: Node) -> str:
    end = _end(node)
    return end[0] if end else ""


def _depth(node: Node) -> int:
    return _path(node).count(".")


def _size(node: Node) -> int:
    return math.prod(node.shape)


def _point(node: Node) -> HookPoint:
    end = _end(node)
    assert end is not None
    return HookPoint(*end, node.layout or "nchw", node.prefix, node.shape[1:])
