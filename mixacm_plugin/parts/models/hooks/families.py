"""Families of models whose hook points are known."""

from torch import nn
from torchdistill.models.classification.densenet import DenseNet4Cifar
from torchdistill.models.classification.resnet import ResNet4Cifar
from torchdistill.models.classification.wide_resnet import WideResNet4Cifar
from torchvision.models.resnet import ResNet

from .. import HendrycksWideResNet, WideResNet
from .points import HookPoint, HookPoints


def _outputs(*paths: str) -> tuple[HookPoint, ...]:
    return tuple(HookPoint(path, "output") for path in paths)


def _inputs(*paths: str) -> tuple[HookPoint, ...]:
    return tuple(HookPoint(path, "input") for path in paths)


# A new family of models goes here. None of these tensors is changed in place afterwards; where the
# activation works in place, what it changes is another one.
FAMILIES: dict[type[nn.Module], HookPoints] = {
    WideResNet: HookPoints(
        "dm_wide_resnet",
        _outputs("init_conv", "layer.0", "layer.1", "layer.2"),
        # Its convolutions get padded inputs, so the activations themselves are hooked.
        _outputs(
            "layer.0.block.0.relu_0", "layer.1.block.0.relu_0", "layer.2.block.0.relu_0", "relu"
        ),
    ),
    HendrycksWideResNet: HookPoints(
        "hendrycks_wide_resnet",
        _outputs("conv1", "block1", "block2", "block3"),
        _outputs("block1.layer.0.relu1", "block2.layer.0.relu1", "block3.layer.0.relu1", "relu"),
    ),
    WideResNet4Cifar: HookPoints(
        "torchdistill's wide_resnet",
        _outputs("conv1", "layer1", "layer2", "layer3"),
        # Its activations work in place on the BatchNorm's output.
        _inputs("layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1", "avgpool"),
    ),
    ResNet4Cifar: HookPoints(
        "torchdistill's resnet for CIFAR",
        _outputs("conv1", "layer1", "layer2", "layer3"),
        _outputs("relu", "layer1", "layer2", "layer3"),
    ),
    DenseNet4Cifar: HookPoints(
        "torchdistill's densenet for CIFAR",
        _outputs(
            "features.conv0",
            "features.denseblock1",
            "features.denseblock2",
            "features.denseblock3",
        ),
        # The last activation is a function, in place, and so is the pooling after it: the first
        # module to see it is the classifier, whose input is the channel map (mapping: mean).
        _inputs(
            "features.denseblock1.denselayer1.conv1",
            "features.transition1.conv",
            "features.transition2.conv",
            "classifier",
        ),
    ),
    ResNet: HookPoints(
        "torchvision's resnet",
        _outputs("conv1", "layer1", "layer2", "layer3", "layer4"),
        _outputs("relu", "layer1", "layer2", "layer3", "layer4"),
    ),
}
