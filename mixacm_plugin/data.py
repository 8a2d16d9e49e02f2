"""The quickstart's data."""

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import Dataset
from torchdistill.datasets.registry import register_dataset

SPLITS = ("train", "val", "test")


@register_dataset
class Digits(Dataset):
    """Scikit-learn's handwritten digits: 1,797 images of 8×8, in a fixed stratified split.

    Args:
        split: ``train`` (1,097 images), ``val`` (200) or ``test`` (500).
        transform: applied to an image, ``(3, 8, 8)`` in [0, 1].

    Raises:
        ValueError: on another split.

    Source: Alpaydin & Kaynak 1998 (UCI); ``sklearn.datasets.load_digits``.
    """

    classes = tuple("0123456789")

    def __init__(self, split: str, transform: Callable[[Tensor], Tensor] | None = None) -> None:
        if split not in SPLITS:
            raise ValueError(f"Digits: split must be one of {', '.join(SPLITS)}; found {split!r}")
        pixels, labels = load_digits(return_X_y=True)
        rest, test = train_test_split(
            range(len(labels)), test_size=500, stratify=labels, random_state=0
        )
        train, val = train_test_split(rest, test_size=200, stratify=labels[rest], random_state=0)
        chosen = {"train": train, "val": val, "test": test}[split]
        grey = torch.from_numpy(pixels[chosen] / 16).float().view(-1, 1, 8, 8)
        self.images = grey.repeat(1, 3, 1, 1)
        self.targets = labels[chosen].tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        return (image if self.transform is None else self.transform(image)), self.targets[index]
