"""Random images in place of a dataset, for checks that need its shape only."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchdistill.datasets.registry import register_dataset


@register_dataset
class RandomImages(Dataset):
    """Uniform noise in [0, 1] with random labels, the same for an index every time.

    Args:
        n: number of images.
        shape: of an image, ``(C, H, W)``.
        num_classes: labels are below it.

    Raises:
        ValueError: if a number isn't positive, or ``shape`` hasn't three.

    Example:
        >>> image, label = RandomImages(4, (3, 8, 8), 10)[0]
        >>> image.shape, 0 <= label < 10
        (torch.Size([3, 8, 8]), True)
    """

    def __init__(self, n: int, shape: Sequence[int], num_classes: int) -> None:
        if len(shape) != 3 or min(n, num_classes, *shape) < 1:
            raise ValueError(
                f"RandomImages: expected positive numbers and a shape (C, H, W); "
                f"found n={n}, shape={tuple(shape)}, num_classes={num_classes}"
            )
        self.shape = tuple(shape)
        self.classes = [str(label) for label in range(num_classes)]
        generator = torch.Generator().manual_seed(0)
        self.targets = torch.randint(num_classes, (n,), generator=generator).tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        return torch.rand(self.shape, generator=generator), self.targets[index]
