"""Data: the quickstart's digits, and a held-out part of any training data."""

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import Dataset, Subset
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


def hold_out(dataset: Dataset, part: str, size: int, seed: int = 0) -> Subset:
    """Split a training set into ``train`` and a held-out ``val``, for validation.

    Args:
        dataset: the whole training set; for each part one with that part's transform.
        part: ``train`` or ``val``.
        size: number of images held out.
        seed: of the random choice, the same for both parts.

    Raises:
        ValueError: on another part, or a size that leaves one of them empty.
    """
    total = len(dataset)
    if part not in ("train", "val"):
        raise ValueError(f"hold_out: part must be train or val; found {part!r}")
    if not 0 < size < total:
        raise ValueError(f"hold_out: size must be between 1 and {total - 1}; found {size}")
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed)).tolist()
    return Subset(dataset, sorted(order[:size] if part == "val" else order[size:]))
