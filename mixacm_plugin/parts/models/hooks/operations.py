"""What torch's operations do to a tensor's channels, and whether they activate it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CHANNELS_FIRST = {
    *("convolution", "native_batch_norm", "_native_batch_norm_legit_no_training"),
    *("cudnn_batch_norm", "_native_batch_norm_legit", "batch_norm_with_update"),
    *("native_group_norm", "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d"),
}
# Those that mix channels or positions by weights; what they return is something new.
WEIGHTED = {"convolution", "addmm", "mm", "bmm", "baddbmm", "linear", "_softmax"}
SATURATING = {"sigmoid", "tanh"}  # activations, or gates
ACTIVATIONS = {
    *("relu", "gelu", "silu", "mish", "hardswish", "hardtanh", "leaky_relu", "elu", "celu"),
    *("_prelu_kernel", "softplus", "threshold", "clamp_min", "clamp", "relu6"),
    *SATURATING,
}
GLOBAL_POOLS = {"mean", "amax", "_adaptive_avg_pool2d", "adaptive_max_pool2d"}
POOLS = {*GLOBAL_POOLS, "max_pool2d_with_indices", "avg_pool2d"}
# What they return of an activated tensor is activated.
KEEP = {
    *POOLS,
    *("view", "_unsafe_view", "permute", "transpose", "clone", "slice", "select", "index"),
    *("expand", "squeeze", "unsqueeze", "roll", "constant_pad_nd", "native_dropout", "cat"),
    *("mul", "div", "pow", "_to_copy", "unfold", "split", "split_with_sizes", "unbind"),
}
PARTS_OF_CHANNELS = {"cat", "split", "split_with_sizes", "slice"}
STEPS = 5  # of a formula for an activation


@dataclass(eq=False)
class Made:
    """What an operation returned.

    Args:
        operation: its name in torch, without the underscore of what works in place.
        shape: of the tensor.
        activated: whether it comes out of an activation function.
        channel: which dimension its channels are; ``None`` if unknown.
        prefix: tokens at its beginning that are no positions.
    """

    operation: str
    shape: tuple[int, ...]
    activated: bool = False
    channel: int | None = None
    prefix: int = 0

    @property
    def positions(self) -> int:
        """Return the number of positions, of a tensor whose channels are known."""
        return math.prod(self.shape[1:]) // self.shape[self.channel or 1] - self.prefix

    @property
    def layout(self) -> str | None:
        """Return its layout by name, if it is one of ``channel_map``'s."""
        names = {(4, 1): "nchw", (4, 3): "nhwc", (3, 2): "tokens"}
        return names.get((len(self.shape), self.channel if self.channel is not None else -1))


def told_channels(
    operation: str, args: Sequence[Any], parents: Sequence[Made], made: Made
) -> int | None:
    """Tell which dimension of what an operation returned its channels are.

    Args:
        operation: its name.
        args: of it.
        parents: the tensors among them, as they are known.
        made: with the shape of what was returned.
    """
    if operation in CHANNELS_FIRST:
        return 1
    if operation == "native_layer_norm":
        return len(made.shape) - 1 if len(args[1]) == 1 else None
    if operation in WEIGHTED:  # a linear layer, if it mixes channels
        linear = operation in ("addmm", "mm", "linear")
        known = any(p.channel == len(p.shape) - 1 for p in parents)
        return len(made.shape) - 1 if linear and known else None
    for parent in parents:
        if parent.channel is not None:
            found = _moved(operation, args, parent.shape, parent.channel, made.shape)
            if found is not None:
                return found
    return _back_in_shape(parents, made)


def _back_in_shape(parents: Sequence[Any], made: Made) -> int | None:
    """Of channels that were shuffled, or positions that were windows for a while."""
    for _ in range(STEPS):
        if len(parents) != 1 or parents[0].operation in WEIGHTED:
            return None
        if parents[0].shape == made.shape:
            channel: int | None = parents[0].channel
            return channel
        parents = parents[0].parents
    return None


def _moved(
    operation: str, args: Sequence[Any], old: tuple[int, ...], channel: int, new: tuple[int, ...]
) -> int | None:
    if operation == "permute":
        return [d % len(old) for d in args[1]].index(channel)
    if operation in ("transpose", "t"):
        swapped = [d % len(old) for d in (args[1:3] if operation == "transpose" else (0, 1))]
        return swapped[1 - swapped.index(channel)] if channel in swapped else channel
    if len(new) == len(old):
        same = new[channel] == old[channel] or operation in PARTS_OF_CHANNELS
        return channel if same else None
    if new[: channel + 1] == old[: channel + 1]:
        return channel
    tail = len(old) - channel
    return len(new) - tail if len(new) >= tail and new[-tail:] == old[channel:] else None


def told_prefix(operation: str, args: Sequence[Any], parents: Sequence[Made], made: Made) -> int:
    """Tell how many tokens at the beginning of what an operation returned are no positions.

    Args:
        operation: its name.
        args: of it, the tensors made of the images as they are known.
        parents: these.
        made: what was returned, with its channels.
    """
    if made.layout != "tokens":
        return 0
    tokens = [parent for parent in parents if parent.layout == "tokens"]
    if operation == "cat" and tokens and (args[1] if len(args) > 1 else 0) in (1, -2):
        before = args[0][: list(args[0]).index(tokens[0])]
        return sum(int(part.shape[1]) for part in before) + tokens[0].prefix
    if operation == "slice" and tokens and len(args) > 2 and args[1] == 1:
        return max(0, tokens[0].prefix - int(args[2]))
    same = (parent.prefix for parent in tokens if parent.shape[1] == made.shape[1])
    return max(same, default=0)


def is_activated(operation: str, parents: Sequence[Any], made: Made) -> bool:
    """Tell whether what an operation returned comes out of an activation function.

    Args:
        operation: its name.
        parents: the tensors that it took, with their own ``parents``.
        made: what was returned.
    """
    if operation in ACTIVATIONS:
        return True
    if operation == "mul":  # times a number for each channel, or position, as gates have
        same = [parent.activated for parent in parents if parent.shape == made.shape]
        return same == [True]
    return operation in KEEP and all(parent.activated for parent in parents)


def formula_of(operation: str, parents: Sequence[Any]) -> Any:
    """Return the x of x · sigmoid(x) and the like, an activation in several operations.

    Args:
        operation: the last of them.
        parents: the tensors that it took.

    Returns:
        The tensor that is activated; ``None`` where it is no such formula.
    """
    if operation != "mul" or len(parents) != 2 or parents[0].shape != parents[1].shape:
        return None
    common = _formula(parents[0]) & _formula(parents[1])
    return max(common, key=lambda node: node.index, default=None)


def _formula(node: Any) -> set[Any]:
    """What a tensor is made of by a few operations on each of its values."""
    found = {node}
    for _ in range(STEPS):
        same = [parent for parent in node.parents if parent.shape == node.shape]
        if len(same) != 1 or node.operation in WEIGHTED:
            break
        node = same[0]
        found.add(node)
    return found
