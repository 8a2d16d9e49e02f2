"""Where a model's blocks are, as module paths that a recipe can hook."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn
from torchdistill.models.classification.densenet import DenseNet4Cifar
from torchdistill.models.classification.resnet import ResNet4Cifar
from torchdistill.models.classification.wide_resnet import WideResNet4Cifar
from torchvision.models.resnet import ResNet

from . import HendrycksWideResNet, WideResNet


class HookPoint(NamedTuple):
    """A module's path, and whether its ``input`` or its ``output`` is meant."""

    path: str
    io: str


@dataclass(frozen=True)
class HookPoints:
    """The blocks of a model: block 1 is its first layer, then come its stages.

    Args:
        family: what the model is, in words.
        raw: what each block returns.
        activated: the same after the next activation. Where a block ends in an activation of its
            own, that is the same point.
    """

    family: str
    raw: tuple[HookPoint, ...]
    activated: tuple[HookPoint, ...]

    def blocks(self, *, activated: bool = True) -> tuple[HookPoint, ...]:
        """Return the points of either kind."""
        return self.activated if activated else self.raw


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


def hook_points(model: nn.Module) -> HookPoints:
    """Name the modules that are a model's blocks, raw and activated.

    Args:
        model: of a family in ``FAMILIES``; ``normalized`` and ``normalize_inside`` change no path.

    Raises:
        ValueError: if its family isn't known.

    Source: MixACM, supplement A.4.2 (block 1 is the first layer's output, blocks 2 to 4 the low,
    mid and high level); A.2 speaks of activated channel maps.

    Example:
        >>> from mixacm_plugin import dm_wide_resnet
        >>> hook_points(dm_wide_resnet(10, 1)).raw[0]
        HookPoint(path='init_conv', io='output')
    """
    for kind, points in FAMILIES.items():
        if isinstance(model, kind):
            return points
    known = ", ".join(points.family for points in FAMILIES.values())
    raise ValueError(
        f"no hook points are known for {type(model).__module__}.{type(model).__name__}; they are "
        f"for {known}. For another model, hook the inputs of the modules that follow its stages"
    )


def pair_points(
    teacher: nn.Module, student: nn.Module, *, activated: bool = True
) -> list[tuple[str, HookPoint, HookPoint]]:
    """Pair the blocks of two models, from the last one backwards.

    Args:
        teacher: see ``hook_points``.
        student: likewise; it may have fewer or more blocks.
        activated: after the activation (default) or as the blocks return them.

    Returns:
        Name, teacher's point and student's point of each pair, shallow to deep.

    Raises:
        ValueError: if a model's family isn't known.
    """
    sides = [hook_points(model).blocks(activated=activated) for model in (teacher, student)]
    count = min(map(len, sides))
    paired = zip(sides[0][-count:], sides[1][-count:], strict=True)
    return [(f"block{index}", *points) for index, points in enumerate(paired, start=1)]


def hook_lines(
    teacher: nn.Module, student: nn.Module, *, activated: bool = True, weight: float | None = None
) -> list[tuple[str, bool]]:
    """Return the lines of ``hook_snippet``, each with whether MixACM adds it to a KD recipe."""
    if weight is None:
        channels = [m.out_channels for m in student.modules() if isinstance(m, nn.Conv2d)]
        weight = 2000.0 if max(channels) > 128 else 200.0
    pairs = pair_points(teacher, student, activated=activated)
    lines: list[tuple[str, bool]] = [("pre_epoch_process: keep_teacher_in_eval", True)]
    for side, points in (("teacher", [p[1] for p in pairs]), ("student", [p[2] for p in pairs])):
        lines += [(f"{side}:", False), ("  forward_hook:", True)]
        lines += [(f"    {line}", True) for line in _hook_lists(points)]
    where = ("criterion", "kwargs", "sub_terms")
    lines += [(f"{'  ' * depth}{name}:", False) for depth, name in enumerate(where)]
    term = [
        "acm:",
        "  criterion:",
        "    key: ACMLoss",
        "    kwargs:",
        "      transform: {side: teacher, kind: adaptive_max_pool}  # where channel counts differ",
        "      pairs:",
        *(f"        {name}: {{teacher: {_flow(t)}, student: {_flow(s)}}}" for name, t, s in pairs),
        f"  weight: {weight}  # alpha_acm: about 200 for up to 128 channels, 2000 for 160",
    ]
    return lines + [(f"      {line}", True) for line in term]


def hook_snippet(
    teacher: nn.Module, student: nn.Module, *, activated: bool = True, weight: float | None = None
) -> str:
    """Return the YAML of hooks and ``ACMLoss`` for two models, as it is under ``train``.

    Args:
        teacher: see ``hook_points``.
        student: likewise.
        activated: after the activation (default) or as the blocks return them.
        weight: α_acm; by default 200 for a student of at most 128 channels, else 2000.

    Raises:
        ValueError: if a model's family isn't known.
    """
    lines = hook_lines(teacher, student, activated=activated, weight=weight)
    return "\n".join(line for line, _ in lines) + "\n"


def _hook_lists(points: Iterable[HookPoint]) -> Sequence[str]:
    by_io: dict[str, list[str]] = {}
    for path, io in points:
        by_io.setdefault(io, []).append(path)
    return [f"{io}: [{', '.join(paths)}]" for io, paths in sorted(by_io.items())]


def _flow(point: HookPoint) -> str:
    return f"{{path: {point.path}, io: {point.io}}}"
