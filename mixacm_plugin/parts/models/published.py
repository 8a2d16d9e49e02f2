"""Published checkpoints of robust models, read into a plain state dict."""

import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...common.checkpoints import CheckpointError, load_checkpoint
from ...common.state_dicts import LayoutError, load_state, plain_weights


@dataclass(frozen=True)
class Architecture:
    """A published architecture that its parameters' names give away.

    Args:
        name: in words, with the key that builds it.
        marks: keys that it has.
        absent: keys that it doesn't have.
        block: pattern of a convolution in its first stage's blocks, to tell depth and width.
    """

    name: str
    marks: tuple[str, ...]
    absent: tuple[str, ...] = ()
    block: str | None = None

    def describe(self, state: Mapping[str, Tensor]) -> str | None:
        """Describe a state dict of this architecture; ``None`` if it is of another one."""
        if any(key not in state for key in self.marks) or any(key in state for key in self.absent):
            return None
        blocks = [key for key in state if self.block and re.fullmatch(self.block, key)]
        size = f"-{6 * len(blocks) + 4}-{len(state[blocks[0]]) // 16}" if blocks else ""
        return self.name.replace("*", size, 1)


ARCHITECTURES = (
    Architecture(
        "Gowal et al.'s WideResNet* (dm_wide_resnet)",
        marks=("init_conv.weight", "logits.weight"),
        block=r"layer\.0\.block\.\d+\.conv_0\.weight",
    ),
    Architecture(
        "Hendrycks et al.'s WideResNet* (hendrycks_wide_resnet)",
        marks=("conv1.weight", "block1.layer.0.conv1.weight", "fc.weight"),
        block=r"block1\.layer\.\d+\.conv1\.weight",
    ),
    Architecture(
        "torchvision's ResNet",
        marks=("conv1.weight", "layer4.0.conv1.weight", "fc.weight"),
    ),
    Architecture(
        "torchdistill's WideResNet* for CIFAR (wide_resnet)",
        marks=("conv1.weight", "layer2.0.shortcut.0.weight", "fc.weight"),
        absent=("layer4.0.conv1.weight",),
        block=r"layer1\.\d+\.conv1\.weight",
    ),
    Architecture(
        "torchdistill's ResNet for CIFAR (resnet)",
        marks=("conv1.weight", "layer3.0.conv1.weight", "fc.weight"),
        absent=("layer4.0.conv1.weight", "layer2.0.shortcut.0.weight"),
    ),
    Architecture("torchdistill's DenseNet for CIFAR (densenet)", marks=("features.conv0.weight",)),
)


def architecture_of(state: Mapping[str, Tensor]) -> str | None:
    """Name the known architecture of a state dict, with depth and width where they show.

    Example:
        >>> from mixacm_plugin import dm_wide_resnet
        >>> architecture_of(dm_wide_resnet(16, 2).state_dict())
        "Gowal et al.'s WideResNet-16-2 (dm_wide_resnet)"
    """
    return next((found for known in ARCHITECTURES if (found := known.describe(state))), None)


def load_published(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a published file's weights into a plain model; no code of the file is run.

    Args:
        model: plain, such as ``dm_wide_resnet``, ``hendrycks_wide_resnet`` or ``normalized``.
        path: file, as downloaded.

    Raises:
        CheckpointError: if the file is missing, unreadable, carries objects other than weights, is
            of another architecture or normalises in another way than the model.
    """
    path = os.fspath(path)
    expected = model.state_dict()
    try:
        found, normaliser = plain_weights(_read(path), expected)
        load_state(model, found, normaliser)
    except LayoutError as error:
        other, own = architecture_of(found), architecture_of(expected)
        hint = f"; the file is in the layout of {other}" if other and other != own else ""
        fits = f"{path} doesn't fit {own or type(model).__name__}"
        raise CheckpointError(f"{fits}: {error}{hint}") from error
    except CheckpointError as error:
        message = str(error)
        raise CheckpointError(message if path in message else f"{path}: {message}") from error


def _read(path: str) -> Any:
    try:
        return load_checkpoint(path)
    except CheckpointError as error:
        if not isinstance(error.__cause__, pickle.UnpicklingError):
            raise
        named = re.search(r"GLOBAL (\S+)", str(error.__cause__))
        if named is None:
            raise
        raise CheckpointError(
            f"{path} holds Python objects beside weights (first {named[1]}), and reading them "
            "could run code. If you trust the file, convert it once where the library that wrote "
            f"it is installed: c = torch.load({path!r}, map_location='cpu', weights_only=False); "
            "torch.save(c['model'], 'weights.pt')  (or c['state_dict'])"
        ) from error
