"""WideResNet in the layout of the robust checkpoints that Gowal et al. published."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchdistill.models.registry import register_model

from .normalization import CIFAR10_MEAN, CIFAR10_STD, normalize_inside

ACTIVATIONS = {"swish": nn.SiLU, "relu": nn.ReLU}


def _pad_same(x: Tensor, stride: int) -> Tensor:
    """Pad for a 3×3 convolution as TensorFlow does: at stride 2, even sizes at one end only."""
    if stride == 1:
        return F.pad(x, (1, 1, 1, 1))
    height, width = x.shape[2:]
    return F.pad(x, (width % 2, 1, height % 2, 1))


class _Block(nn.Module):
    """Pre-activation block; a widening block takes its shortcut from the activated input."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, activation: type[nn.Module]
    ) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(in_channels)
        self.relu_0 = activation()
        self.conv_0 = nn.Conv2d(in_channels, channels, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(channels)
        self.relu_1 = activation()
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = None
        if in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu_0(self.batchnorm_0(x))
        out = self.conv_0(_pad_same(activated, self.stride))
        out = self.conv_1(self.relu_1(self.batchnorm_1(out)))
        summed: Tensor = out + (x if self.shortcut is None else self.shortcut(activated))
        return summed


class _BlockGroup(nn.Module):
    def __init__(
        self,
        blocks: int,
        in_channels: int,
        channels: int,
        stride: int,
        activation: type[nn.Module],
    ) -> None:
        super().__init__()
        self.block = nn.Sequential(
            _Block(in_channels, channels, stride, activation),
            *(_Block(channels, channels, 1, activation) for _ in range(blocks - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class WideResNet(nn.Module):
    """See ``dm_wide_resnet``; this class takes normalised images."""

    def __init__(
        self, depth: int, width: int, num_classes: int, activation: type[nn.Module]
    ) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        channels = (16, 16 * width, 32 * width, 64 * width)
        self.init_conv = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.layer = nn.Sequential(
            _BlockGroup(blocks, channels[0], channels[1], 1, activation),
            _BlockGroup(blocks, channels[1], channels[2], 2, activation),
            _BlockGroup(blocks, channels[2], channels[3], 2, activation),
        )
        self.batchnorm = nn.BatchNorm2d(channels[3])
        self.relu = activation()
        self.logits = nn.Linear(channels[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, 3, H, W)``."""
        features = self.relu(self.batchnorm(self.layer(self.init_conv(images))))
        logits: Tensor = self.logits(features.mean((2, 3)))
        return logits


@register_model
def dm_wide_resnet(
    depth: int = 28,
    width: int = 10,
    num_classes: int = 10,
    activation: str = "swish",
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
) -> WideResNet:
    """WideResNet with the module names and layout of Gowal et al.'s published checkpoints.

    Takes images ``(N, 3, H, W)`` in [0, 1] of any size from 4 pixels. The activated outputs of
    the paper's blocks 1 to 4 are the outputs of ``layer.0.block.0.relu_0``,
    ``layer.1.block.0.relu_0``, ``layer.2.block.0.relu_0`` and ``relu``.

    Args:
        depth: 6n + 4: 10, 16, 22, 28, 34, 40, ...
        width: multiplier of the 16, 32 and 64 channels.
        num_classes: number of logits.
        activation: ``swish`` (as published) or ``relu``.
        mean: channel means, subtracted inside the model.
        std: channel standard deviations, divided by inside the model.

    Raises:
        ValueError: on another depth, width or activation.

    Source: Gowal et al. 2020, "Uncovering the limits of adversarial training"; layout of the
    PyTorch release, file ``model_zoo.py``.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"dm_wide_resnet: depth must be 6n + 4, at least 10; found {depth}")
    if width < 1:
        raise ValueError(f"dm_wide_resnet: width must be at least 1; found {width}")
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"dm_wide_resnet: activation must be one of {', '.join(ACTIVATIONS)}; "
            f"found {activation!r}"
        )
    model = WideResNet(depth, width, num_classes, ACTIVATIONS[activation])
    return normalize_inside(model, mean, std)
