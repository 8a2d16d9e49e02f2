"""Small images kept in memory and made into training data a batch at a time."""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchdistill.datasets.registry import register_dataset_wrapper
from torchdistill.datasets.wrapper import BaseDatasetWrapper
from torchvision import transforms as v1
from torchvision.transforms import functional as F
from torchvision.transforms import v2

from ..common.images import count
from ..common.state import preserved_rng, rng_state
from ..common.values import POSITIVE, check_kind

logger = logging.getLogger("mixacm")

COMPARED = 8  # images that are also taken from the dataset, to see that they are the same
KNOWN = "[RandomCrop, RandomHorizontalFlip, ToTensor], of which the first two may be missing"


@register_dataset_wrapper
class ImagesInMemory(BaseDatasetWrapper):
    """Images decoded once and kept as bytes; crop and flip are drawn for each, done for a batch.

    A ``dataset_wrapper`` of a loader. The same images as without it, bit for bit, for the same
    state of torch's generator: each draws its crop and its flip as torchvision does, in the same
    order. The dataset's own transform says which; it has to be ``RandomCrop``,
    ``RandomHorizontalFlip`` (either may be missing) and ``ToTensor``, of torchvision's v1 or v2,
    where ``ToImage`` and ``ToDtype`` with ``scale=True`` are a ``ToTensor``.

    Args:
        org_dataset: given by the host; images of one size, and a ``transform``. A subset of such
            too; only its images are kept.
        at_most_gib: memory of the images with their padding, in GiB; in each process of several.

    Raises:
        ValueError: on another transform, images of several sizes, more memory than ``at_most_gib``,
            or a dataset that changes its images by itself.
    """

    def __init__(self, org_dataset: Dataset[Any], at_most_gib: float = 2.0) -> None:
        check_kind("ImagesInMemory: at_most_gib", at_most_gib, POSITIVE)
        super().__init__(org_dataset)
        bare, transform = _without_transform(org_dataset)
        self.crop, self.flip, self.scaled = _parts_of(transform)
        self.images, self.labels = self._read(bare, at_most_gib)
        self.windows = self.images
        if self.crop is not None:
            height, width = self.crop.size
            if height > self.images.shape[2] or width > self.images.shape[3]:
                raise _refused(f"its images are smaller than RandomCrop's {height}×{width}")
            self.windows = self.images.unfold(2, height, 1).unfold(3, width, 1)
        self._compare()

    def _read(self, bare: Dataset[Any], at_most_gib: float) -> tuple[Tensor, list[Any]]:
        """Decode all images, padded as the crop asks, ``(N, C, H, W)``, and take their labels."""
        total, images, labels = count(bare), torch.empty(0, dtype=torch.uint8), []
        for index in range(total):
            sample = bare[index]
            if not isinstance(sample, tuple | list) or len(sample) != 2:
                raise _refused("its samples aren't pairs of an image and a label")
            image, label = sample
            if not isinstance(image, Tensor) or image.dtype != torch.uint8:
                kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
                raise _refused(f"its images are {kind} before the transform, not PIL images")
            if self.crop is not None and self.crop.padding is not None:
                image = _padded(image, self.crop)
            if index == 0:
                size = total * image.numel() / 2**30
                shape = "×".join(map(str, image.shape))
                if size > at_most_gib:
                    raise _refused(
                        f"{total:,} images of {shape} take {size:.1f} GiB of memory; at_most_gib "
                        f"is {at_most_gib:g}. Give more, or leave the wrapper out"
                    )
                logger.info(
                    f"keeping {total:,} images of {shape} in memory: {1024 * size:,.0f} MiB"
                )
                images = torch.empty(total, *image.shape, dtype=torch.uint8)
            if image.shape != images.shape[1:]:
                raise _refused(
                    f"image {index} is {'×'.join(map(str, image.shape))}, image 0 is {shape}; it "
                    "takes images of one size"
                )
            images[index] = image
            labels.append(label)
        return images, labels

    def _compare(self) -> None:
        """Raise unless a few images are as the dataset gives them from the same seed.

        They are from all over it, where classes may lie one after the other. What it does to some
        images alone shows by the generators, of which it takes more than its transform does.
        """
        few = torch.linspace(0, len(self) - 1, min(COMPARED, len(self))).long().tolist()
        given, theirs = _from_a_seed(lambda: [self.org_dataset[index] for index in few])
        own, ours = _from_a_seed(lambda: self.__getitems__(few))
        if not all(_same(theirs[name], ours[name]) for name in ours):
            raise _refused(
                "the dataset draws at random what its transform doesn't, so it would be lost"
            )
        for (image, label), (mine, my_label) in zip(given, own, strict=True):
            if not torch.equal(torch.as_tensor(image), mine) or not _same(label, my_label):
                raise _refused(
                    "the dataset gives other images than its transform makes of them, so it does "
                    "something that would be lost"
                )

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        """Image ``(C, H, W)`` in [0, 1] and label."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Any]]:
        """Samples of a whole batch: what torch's loader asks for and collate functions take."""
        chosen = torch.tensor(list(indices))
        top, left, flipped = self._drawn(len(chosen))
        windows = self.windows
        images = windows[chosen] if self.crop is None else windows[chosen, :, top, left]
        images[flipped] = images[flipped].flip(3)
        return list(
            zip(self.scaled(images).unbind(), [self.labels[i] for i in indices], strict=True)
        )

    def _drawn(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw for one image after the other, as its transform would: top, left, whether to flip.

        A draw for all at once would be as random, but give other images.
        """
        top, left, chance = torch.zeros(n).long(), torch.zeros(n).long(), torch.ones(n)
        draws: list[tuple[Tensor, Callable[[Tensor], Any]]] = []

        def below(high: int) -> Callable[[Tensor], Any]:
            return lambda value: value.random_(0, high)

        if self.crop is not None:
            heights, widths = self.windows.shape[2:4]
            always = isinstance(self.crop, v1.RandomCrop) and heights * widths > 1
            for values, high in ((top, heights), (left, widths)):
                if always or high > 1:  # v2 draws only where there is a choice
                    draws.append((values, below(high)))
        if self.flip is not None:
            draws.append((chance, Tensor.uniform_))
        for each in zip(*(values.unbind() for values, _ in draws), strict=True):
            for value, (_, draw) in zip(each, draws, strict=True):
                draw(value)
        return top, left, chance < (0 if self.flip is None else self.flip.p)


def _refused(message: str) -> ValueError:
    return ValueError(f"ImagesInMemory: {message}")


def _without_transform(dataset: Any) -> tuple[Any, Any]:
    """Return a dataset of its images as bytes, and the transform that it had."""
    if isinstance(dataset, Subset):
        inner, transform = _without_transform(dataset.dataset)
        return Subset(inner, dataset.indices), transform
    transform = getattr(dataset, "transform", None)
    if transform is None:
        raise _refused(f"{type(dataset).__name__} has no transform; expected {KNOWN}")
    bare = copy.copy(dataset)
    bare.transform = _to_bytes
    return bare, transform


def _from_a_seed(take: Callable[[], list[Any]]) -> tuple[list[Any], dict[str, Any]]:
    """Return what is taken, always from the same seed, and the generators' states after it."""
    with preserved_rng():
        torch.manual_seed(0)
        return take(), rng_state()


def _padded(image: Tensor, crop: Any) -> Tensor:
    """Pad an image as a crop does before it cuts."""
    if isinstance(crop.fill, dict):
        raise _refused(f"RandomCrop's fill has to be a number or one a channel; found {crop.fill}")
    padding = crop.padding
    if isinstance(crop, v2.RandomCrop):  # which keeps it in an order of its own
        left, right, top, bottom = padding
        padding = [left, top, right, bottom]
    padded: Tensor = v2.functional.pad(image, padding, crop.fill, crop.padding_mode)
    return padded


def _same(one: Any, other: Any) -> bool:
    """Whether two labels are the same, or two states of a generator; also of several numbers."""
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(np.array_equal(one, other))


def _to_bytes(image: Any) -> Any:
    return image if isinstance(image, Tensor) else F.pil_to_tensor(image)


def _parts_of(transform: Any) -> tuple[Any, Any, Callable[[Tensor], Tensor]]:
    """Return the crop and the flip of a transform, if it has them, and what makes floats of bytes.

    Raises:
        ValueError: if it does anything else.
    """
    parts = list(transform.transforms) if hasattr(transform, "transforms") else [transform]
    rest = [part for part in parts if not isinstance(part, v1.PILToTensor | v2.ToImage)]
    found: list[Any] = [None, None]
    for number, kinds in enumerate(
        ((v1.RandomCrop, v2.RandomCrop), (v1.RandomHorizontalFlip, v2.RandomHorizontalFlip))
    ):
        if rest and isinstance(rest[0], kinds):
            found[number] = rest.pop(0)
    if len(rest) == 1 and isinstance(rest[0], v1.ToTensor):
        return *found, _in_unit_range
    if len(rest) == 1 and isinstance(rest[0], v1.ConvertImageDtype | v2.ToDtype):
        return *found, rest[0]
    names = ", ".join(type(part).__name__ for part in parts)
    raise _refused(f"it can do {KNOWN}, in this order; the dataset's transform is [{names}]")


def _in_unit_range(images: Tensor) -> Tensor:
    return images.to(torch.get_default_dtype()).div_(255)
