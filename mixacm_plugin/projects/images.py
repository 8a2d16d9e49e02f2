"""What a sample of images tells: their size, mean and standard deviation, and the transforms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset, Subset
from torchvision import transforms
from torchvision.datasets import DatasetFolder

from ..common.images import count
from ..loading.image_files import NamingReader

LARGEST = 224
Sides = tuple[int, int]  # width and height
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


def _images(dataset: Dataset[Any]) -> Iterator[Any]:
    """Yield a sample's images, one at a time: photographs by the hundred don't fit the memory."""
    chosen = sample(dataset)
    return (chosen[index][0] for index in range(len(chosen)))


def look_at(
    dataset: Dataset[Any], size: int | None = None, others: Sequence[Dataset[Any]] = ()
) -> Look:
    """Choose the size of images, and transforms that make it.

    Args:
        dataset: yields PIL images and labels; trained on.
        size: in place of the images' own, or of the multiple of 32 below the median of their
            shorter sides.
        others: likewise; only measured on.

    Raises:
        ValueError: if images are neither grey nor of three colours of 8 bits.
    """
    (seen, mode), measured = _seen(dataset), [_seen(other)[0] for other in others]
    sides = set(seen)
    if size is None:
        size = int(median(min(side) for side in seen))
        if len(sides) > 1 or size > LARGEST:
            size = max(32, min(size, LARGEST) // 32 * 32)
    flip: Step = ("RandomHorizontalFlip", {})
    tensor: Step = ("ToTensor", {})
    train: list[Step] = [("RandomResizedCrop", {"size": size, "scale": [0.5, 1.0]}), flip]
    plain: list[Step] = [("Resize", {"size": size}), ("CenterCrop", {"size": size})]
    if sides == {(size, size)}:
        train = [("RandomCrop", {"size": size, "padding": max(1, size // 8)}), flip]
        if all(set(other) == sides for other in measured):
            plain = []
    grey: list[Step] = [] if mode == "RGB" else [_to_three(mode)]
    return Look(size, [*grey, *train, tensor], [*grey, *plain, tensor])


def _seen(dataset: Dataset[Any]) -> tuple[list[Sides], str]:
    """Return sizes and mode of images: of a sample, or if those agree of all files in folders.

    Raises:
        ValueError: for files of more than 8 bits, which PIL's ``convert`` cuts at 255.
    """
    if not isinstance(dataset, DatasetFolder):
        images = [(image.size, image.mode) for image in _images(dataset)]
        return [size for size, _ in images], images[0][1]
    files, read = [path for path, _ in dataset.samples], NamingReader(_header)
    sizes = []
    for path in files[:: max(1, len(files) // 300)]:
        size, mode = read(path)
        if mode.startswith(("I", "F")):
            raise ValueError(
                f"{path} has grey values of more than 8 bits (mode {mode}), and ImageFolder would "
                "make all above 255 white; save the images with 8 bits"
            )
        sizes.append(size)
    if len(set(sizes)) == 1:
        sizes = [read(path)[0] for path in files]
    return sizes, "RGB"  # to which ImageFolder converts


def _header(path: str) -> tuple[Sides, str]:
    """Return a file's size and mode, without its pixels."""
    with Image.open(path) as image:
        return image.size, image.mode


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
    pixels = torch.stack(list(_images(dataset))).double()
    std, mean = torch.std_mean(pixels, dim=(0, 2, 3))
    return (
        [round(value, 4) for value in mean.tolist()],
        [max(0.0001, round(value, 4)) for value in std.tolist()],
    )
