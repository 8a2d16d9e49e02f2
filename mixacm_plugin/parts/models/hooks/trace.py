"""A pass of a model, taken down: which tensor is made of which, and where modules see it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ....common.modules import alone, find_module
from ....common.outputs import logits_of
from ....common.state import eval_mode, preserved_modules, preserved_rng
from ..layouts import told_layout
from .operations import Made, formula_of, is_activated, told_channels, told_prefix


@dataclass(eq=False)
class Node(Made):
    """A tensor made of the images, or what an in-place operation has made of one.

    Args:
        index: in the order of the pass.
        parents: the tensors made of the images that it is made of.
        children: what is made of it.
        ends: path and ``input`` or ``output`` of each module that takes or returns it alone.
        overwritten: whether an in-place operation has changed it since.
    """

    index: int = 0
    parents: "tuple[Node, ...]" = ()
    children: "list[Node]" = field(default_factory=list)
    ends: list[tuple[str, str]] = field(default_factory=list)
    overwritten: bool = False


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Takes down the operations on what is made of some images, while it is active.

    A tensor is known by its memory, not by its Python object: views have several. All tensors are
    kept, so that no memory is used twice.

    Args:
        images: that the pass begins with.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: list[Node] = []
        self._kept: list[Tensor] = []
        self._at: dict[tuple[Any, ...], Node] = {}
        self._written: dict[int, Node] = {}  # by storage, what wrote it last
        self._add(images, Node("images", tuple(images.shape)))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and take it down."""
        kwargs = kwargs or {}
        found = (self.node(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        parents = tuple(dict.fromkeys(node for node in found if node is not None))
        out = func(*args, **kwargs)
        if parents:
            written = list(_written(func, args, kwargs))
            for tensor in tree_leaves(out):
                if isinstance(tensor, Tensor) and not any(tensor is other for other in written):
                    self._made(func, args, parents, tensor)
            for tensor in written:
                self._made(func, args, parents, tensor, in_place=True)
        return out

    def node(self, tensor: Tensor) -> Node | None:
        """Return what a tensor is now; ``None`` if it isn't made of the images."""
        key = _key(tensor)
        node, writer = self._at.get(key), self._written.get(key[0])
        if writer is not None and (node is None or node.index < writer.index):
            # Another view of what was written in place.
            parents = (writer,) if node is None else (writer, node)
            made = Made("view", tuple(tensor.shape), writer.activated)
            made.channel = node.channel if node else told_channels("view", (), [writer], made)
            node = self._add(tensor, Node(**vars(made), parents=parents))
        return node

    def _made(
        self,
        func: Any,
        args: Sequence[Any],
        parents: tuple[Node, ...],
        tensor: Tensor,
        in_place: bool = False,
    ) -> None:
        if not in_place and self.node(tensor) is not None:
            return  # the same memory in the same shape: the same tensor
        operation = func.overloadpacket.__name__.rstrip("_")
        activated = formula_of(operation, parents)
        parents = parents if activated is None else (activated,)
        made = Node(operation, tuple(tensor.shape), parents=parents)
        made.channel = told_channels(operation, args, parents, made)
        made.prefix = told_prefix(operation, self._known(args), parents, made)
        made.activated = activated is not None or is_activated(operation, parents, made)
        if in_place:
            storage = tensor.untyped_storage().data_ptr()
            for key, node in self._at.items():
                node.overwritten |= key[0] == storage
            self._written[storage] = made
        self._add(tensor, made)

    def _known(self, arg: Any) -> Any:
        if isinstance(arg, Tensor):
            return self.node(arg) or arg
        return [self._known(a) for a in arg] if isinstance(arg, list | tuple) else arg

    def _add(self, tensor: Tensor, node: Node) -> Node:
        node.index = len(self.nodes)
        for parent in node.parents:
            parent.children.append(node)
        self.nodes.append(node)
        self._kept.append(tensor)
        self._at[_key(tensor)] = node
        return node


def _key(tensor: Tensor) -> tuple[Any, ...]:
    place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
    return (*place, tuple(tensor.shape), tensor.stride())


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield the tensors that an operation changes in place."""
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[position] if position < len(args) else kwargs.get(argument.name)
            yield from (t for t in tree_leaves(given) if isinstance(t, Tensor))


def random_image(model: nn.Module, input_shape: Sequence[int]) -> Tensor:
    """Draw an image, ``(1, C, H, W)`` in [0, 1), where a model is and of its precision."""
    weights = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.rand(1, *input_shape, device=weights.device, dtype=weights.dtype)


@torch.no_grad()
def traced(model: nn.Module, input_shape: Sequence[int]) -> tuple[Trace, Node]:
    """Run a model on a random image and take it down.

    Args:
        model: image classifier, on any device but ``meta``; left as it was.
        input_shape: ``(C, H, W)`` of an image.

    Returns:
        The pass, and its logits.

    Raises:
        ValueError: if the model doesn't take such images or doesn't return logits.
    """
    with preserved_rng(), preserved_modules(model), eval_mode(model):
        images = random_image(model, input_shape)
        trace = Trace(images)
        with trace, _noted_ends(model, trace):
            output = run(model, images)
        try:
            logits = trace.node(logits_of(output))
        except TypeError as error:
            raise ValueError(f"{type(model).__name__}: {error}") from error
    if logits is None:
        raise ValueError(f"the logits of {type(model).__name__} don't come from its images")
    return trace, logits


def ends_seen(model: nn.Module, input_shape: Sequence[int]) -> dict[tuple[str, str], Node]:
    """Tell what is at each module's ``input`` and ``output`` from what a pass does with it.

    Args:
        model: see ``traced``.
        input_shape: likewise.

    Returns:
        By path and end, of modules that are called once, what has a layout; nothing if the model
        can't be run.
    """
    try:
        trace, logits = traced(model, input_shape)
    except ValueError:
        return {}
    tell_prefixes(trace.nodes, main_path(logits))
    return {end: node for node in trace.nodes for end in node.ends if node.layout is not None}


def tell_prefixes(nodes: Sequence[Node], path: Sequence[Node]) -> None:
    """Tell class tokens inside blocks, behind linear layers, by the number of tokens on a path."""
    known = {node.shape[1]: node.prefix for node in path if node.layout == "tokens"}
    for node in nodes:
        if node.layout == "tokens":
            node.prefix = known.get(node.shape[1], node.prefix)


def reached(node: Node, by: str) -> set[Node]:
    """Return a tensor and all that it is made of (``parents``), or is made of it (``children``)."""
    found, waiting = {node}, [node]
    while waiting:
        new = set(getattr(waiting.pop(), by)) - found
        found |= new
        waiting += new
    return found


def main_path(logits: Node) -> list[Node]:
    """Return, in their order, the tensors that every path from the images to the logits crosses."""
    needed = reached(logits, "parents")
    crossed, furthest = [], 0
    for node in sorted(needed, key=lambda node: node.index):
        if furthest <= node.index:  # nothing made before it is used after it
            crossed.append(node)
        furthest = max([furthest, *(c.index for c in node.children if c in needed)])
    return crossed


def run(model: nn.Module, images: Tensor) -> Any:
    """Run a model, and say in a line if it doesn't take the images.

    Raises:
        ValueError: with the model's own error.
    """
    try:
        return model(images)
    except Exception as error:
        shape = ",".join(map(str, images.shape[1:]))
        message = f"{type(error).__name__}: {str(error).rstrip('.!')}"
        raise ValueError(
            f"{type(model).__name__} doesn't take images of {shape}: {message}. Give the shape it "
            "takes by input_shape (--input-shape C,H,W)"
        ) from error


@contextmanager
def _noted_ends(model: nn.Module, trace: Trace) -> Iterator[None]:
    """Note which module takes and returns what; of those that are called once, by one tensor."""
    calls: dict[str, int] = {}
    noted: list[tuple[Node, str, str]] = []

    def note(path: str, io: str, value: Any) -> None:
        value = alone(value)
        node = trace.node(value) if isinstance(value, Tensor) else None
        if node is not None:
            noted.append((node, path, io))

    def before(path: str, args: Any) -> None:
        calls[path] = calls.get(path, 0) + 1
        note(path, "input", args)

    # Those that the host finds too, in its own way.
    named = model.named_modules()
    modules = {path: m for path, m in named if path and find_module(model, path) == m}
    with ExitStack() as stack:
        for path, module in modules.items():
            first = module.register_forward_pre_hook(lambda _, args, p=path: before(p, args))
            stack.callback(first.remove)
            last = module.register_forward_hook(lambda _, a, out, p=path: note(p, "output", out))
            stack.callback(last.remove)
        yield
    for node, path, io in noted:
        told = told_layout(modules[path], node.shape)
        if calls[path] == 1 and told in (None, node.layout):
            node.ends.append((path, io))
