"""What a sample of images tells: their size, mean and standard deviation, and the transforms."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch.utils.data import Dataset, Subset
from torchvision import transforms

from ..common.images import count

LARGEST = 224
Step = tuple[str, dict[str, Any]]  # a transform of torchvision, and its arguments


@dataclass(frozen=True)
class Look:
    """How images are read.

    Args:
        size: height and width that the models get.
        train: steps of the training images' transform; the last one gives a tensor in [0, 1].
        plain: likewise of validation and test images.
    """

    size: int
    train: Sequence[Step]
    plain: Sequence[Step]


def sample(dataset: Dataset[Any], n: int = 300) -> Subset[Any]:
    """Return at most ``n`` images, evenly spaced, so that all classes of a sorted set are there."""
    total = count(dataset)
    n = min(n, total)
    return Subset(dataset, [index * total // n for index in range(n)])


def _images(dataset: Dataset[Any]) -> list[Any]:
    chosen = sample(dataset)
    return [chosen[index][0] for index in range(len(chosen))]


def look_at(dataset: Dataset[Any], size: int | None = None) -> Look:
    """Choose the size of images, and transforms that make it.

    Args:
        dataset: yields PIL images and labels.
        size: in place of the images' own, or of the multiple of 32 below the median of their
            shorter sides.
    """
    images = _images(dataset)
    sides = {image.size for image in images}
    if size is None:
        size = int(median(min(image.size) for image in images))
        if len(sides) > 1 or size > LARGEST:
            size = max(32, min(size, LARGEST) // 32 * 32)
    flip: Step = ("RandomHorizontalFlip", {})
    tensor: Step = ("ToTensor", {})
    if sides == {(size, size)}:
        train: list[Step] = [("RandomCrop", {"size": size, "padding": max(1, size // 8)}), flip]
        plain: list[Step] = []
    else:
        train = [("RandomResizedCrop", {"size": size, "scale": [0.5, 1.0]}), flip]
        plain = [("Resize", {"size": size}), ("CenterCrop", {"size": size})]
    grey: list[Step] = [] if images[0].mode == "RGB" else [_to_three(images[0].mode)]
    return Look(size, [*grey, *train, tensor], [*grey, *plain, tensor])


def _to_three(mode: str) -> Step:
    if mode not in ("L", "1"):
        raise ValueError(f"images are of mode {mode}; expected RGB or grey ones")
    return "Grayscale", {"num_output_channels": 3}


def built(steps: Sequence[Step]) -> transforms.Compose:
    """Build a transform."""
    return transforms.Compose([getattr(transforms, name)(**kwargs) for name, kwargs in steps])


def mean_and_std(dataset: Dataset[Any]) -> tuple[list[float], list[float]]:
    """Return channel means and standard deviations of a sample's pixels, to four digits.

    Args:
        dataset: yields tensors ``(C, H, W)`` in [0, 1] and labels.
    """
    pixels = torch.stack(_images(dataset)).double()
    std, mean = torch.std_mean(pixels, dim=(0, 2, 3))
    return (
        [round(value, 4) for value in mean.tolist()],
        [max(0.0001, round(value, 4)) for value in std.tolist()],
    )
