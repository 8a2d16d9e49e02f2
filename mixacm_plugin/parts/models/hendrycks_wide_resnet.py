"""WideResNet in the layout of the checkpoints that Hendrycks et al. published."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchdistill.models.registry import register_model

from .normalization import normalize_inside


class _Block(nn.Module):
    """Pre-activation block; a widening block takes its shortcut from the activated input."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        # Not in place, so that a hooked activation stays what it was.
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.convShortcut = None
        if in_channels != channels:
            self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu1(self.bn1(x))
        residual = self.conv2(self.relu2(self.bn2(self.conv1(activated))))
        summed: Tensor = residual + (
            x if self.convShortcut is None else self.convShortcut(activated)
        )
        return summed


def _stage(blocks: int, in_channels: int, channels: int, stride: int) -> nn.Sequential:
    first = _Block(in_channels, channels, stride)
    rest = (_Block(channels, channels, 1) for _ in range(blocks - 1))
    return nn.Sequential(OrderedDict(layer=nn.Sequential(first, *rest)))


class HendrycksWideResNet(nn.Module):
    """See ``hendrycks_wide_resnet``; this class takes normalised images."""

    def __init__(self, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = _stage(blocks, 16, 16 * width, 1)
        self.block2 = _stage(blocks, 16 * width, 32 * width, 2)
        self.block3 = _stage(blocks, 32 * width, 64 * width, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(64 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, 3, H, W)``."""
        features = self.block3(self.block2(self.block1(self.conv1(images))))
        logits: Tensor = self.fc(self.relu(self.bn1(features)).mean((2, 3)))
        return logits


@register_model
def hendrycks_wide_resnet(
    depth: int = 28,
    width: int = 10,
    num_classes: int = 10,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
) -> HendrycksWideResNet:
    """WideResNet with ReLU and the module names of Hendrycks et al.'s published checkpoints.

    Differs from ``dm_wide_resnet`` in its names, in padding evenly at stride 2, and in scaling
    images to [-1, 1]. Takes images ``(N, 3, H, W)`` in [0, 1] of any size: it averages over all
    positions, where the published code averages over the 8×8 that 32×32 images leave.

    Args:
        depth: 6n + 4: 10, 16, 22, 28, 34, 40, ...
        width: multiplier of the 16, 32 and 64 channels.
        num_classes: number of logits: 10 or 100 for CIFAR, 1000 for ImageNet at 32×32, 200 for
            tiny ImageNet.
        mean: channel means, subtracted inside the model.
        std: channel standard deviations, divided by inside the model.

    Raises:
        ValueError: on another depth or width.

    Source: Hendrycks, Lee & Mazeika 2019, "Using pre-training can improve model robustness and
    uncertainty"; layout of github.com/hendrycks/pre-training, robustness/adversarial/models/wrn.py,
    scaling of robustness/adversarial/test.py there.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"hendrycks_wide_resnet: depth must be 6n + 4, at least 10; found {depth}")
    if width < 1:
        raise ValueError(f"hendrycks_wide_resnet: width must be at least 1; found {width}")
    return normalize_inside(HendrycksWideResNet(depth, width, num_classes), mean, std)
