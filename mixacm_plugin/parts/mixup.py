"""Mixup as a collate function that a recipe can configure."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import default_collate
from torchdistill.datasets.registry import register_collate_func
from torchvision.transforms.v2 import MixUp

from ..common.images import check_images, parts_of
from ..common.values import COUNT, WEIGHT, Kind, check_kind
from .processes import key_of

CLASSES = Kind("a whole number of at least 2", lambda value: COUNT.holds(value) and value > 1)


class MixupCollate:
    """Collate samples, then mix them: ``collate_fn`` of a plain ``DataLoader``.

    Picklable, for spawned workers.

    Args:
        alpha: see ``mixup_collate``, which names it in a recipe.
        num_classes: likewise.
        noise: likewise.

    Raises:
        ValueError: on other values.
    """

    def __init__(
        self, alpha: float, num_classes: int, noise: float | Sequence[float] = 0.0
    ) -> None:
        check_kind("mixup_collate: alpha", alpha, WEIGHT)
        self.sigmas = _range(noise)
        check_kind("mixup_collate: num_classes", num_classes, CLASSES)
        self.num_classes = num_classes
        self.mixup = MixUp(alpha=float(alpha), num_classes=num_classes) if alpha > 0 else None

    def __call__(self, samples: list[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Collate and mix a batch."""
        images, labels, *rest = parts_of(default_collate(samples))
        if not images.is_floating_point():
            raise ValueError(
                f"mixup_collate: images are {images.dtype}, not floats in [0, 1]; end the "
                "dataset's transform with ToTensor() or ToDtype(torch.float32, scale=True)"
            )
        if labels.ndim != 1 or labels.is_floating_point():
            raise ValueError(
                f"mixup_collate: labels are {labels.dtype} of shape {tuple(labels.shape)}, not "
                "whole numbers (N,); give the dataset a target_transform"
            )
        labels = labels.long()
        if not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(
                f"mixup_collate: labels range from {int(labels.min())} to {int(labels.max())}; "
                f"expected 0 to {self.num_classes - 1}, as num_classes is {self.num_classes}"
            )
        if self.sigmas[1] > 0:
            try:
                check_images(images)
            except ValueError as error:
                raise ValueError(f"mixup_collate: noise is in pixels, and {error}") from None
        if self.mixup is not None:
            images, labels = self.mixup(images, labels)
        else:
            labels = F.one_hot(labels, self.num_classes).to(torch.get_default_dtype())
        if self.sigmas[1] > 0:
            images = _with_noise(images, *self.sigmas)
        return images, labels, *rest


def _range(noise: Any) -> tuple[float, float]:
    """Smallest and largest standard deviation."""
    low, high = noise if isinstance(noise, list | tuple) and len(noise) == 2 else (noise, noise)
    if not (WEIGHT.holds(low) and WEIGHT.holds(high) and low <= high <= 1):
        raise ValueError(
            "mixup_collate: noise must be a number from 0 to 1, or two in ascending order; found "
            f"{noise!r}"
        )
    return float(low), float(high)


def _with_noise(images: Tensor, low: float, high: float) -> Tensor:
    sigma: float | Tensor = low
    if low < high:
        sigma = images.new_empty(len(images), *[1] * (images.ndim - 1)).uniform_(low, high)
    return (images + sigma * torch.randn_like(images)).clamp(0, 1)


def mixup_collate(alpha: float, num_classes: int, noise: float | Sequence[float] = 0.0) -> str:
    r"""Register a mixup collate function and return its key, for ``collate_fn`` in a recipe.

    One :math:`\lambda \sim Beta(a, a)` a batch; each image is mixed with its neighbour, so the
    loader has to shuffle. Samples ``(image, label)`` give a pair of ``(N, C, H, W)`` and soft
    labels ``(N, num_classes)``; samples with the host's supplementary dict give a triple.

    Args:
        alpha: :math:`a`, at least 0; the paper uses 1 for CIFAR and 0.2 for ImageNet. 0 leaves
            images unmixed and labels one-hot.
        num_classes: number of classes.
        noise: standard deviation of Gaussian noise on the mixed images, in pixels of [0, 1]; they
            are clamped to that range. Of two, ``[0, 0.3]``, one in between is drawn for each image,
            uniformly. The paper has none.

    Raises:
        ValueError: on other values; on samples that are no pairs, labels that aren't whole
            numbers below ``num_classes``, and with noise on images outside of [0, 1].

    Source: MixACM, supplement A.1; ``torchvision.transforms.v2``'s ``MixUp``. Matching outputs
    under noise matches gradients in expectation: Srinivas & Fleuret 2018.
    """
    key = key_of("mixup_collate", alpha=alpha, num_classes=num_classes, noise=noise)
    register_collate_func(key=key)(MixupCollate(alpha, num_classes, noise))
    return key
