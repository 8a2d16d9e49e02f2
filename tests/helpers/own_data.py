"""Datasets and collate functions as people write their own."""

import torch
from torch.utils.data import Dataset, default_collate
from torchdistill.datasets.registry import register_collate_func

from recipes import Few

SAMPLES = {
    "int32": lambda image, label, index: (image, torch.tensor(label, dtype=torch.int32)),
    "int16": lambda image, label, index: (image, torch.tensor(label, dtype=torch.int16)),
    "bool": lambda image, label, index: (image, label > 4),
    "list": lambda image, label, index: [image, label],
    "mapping": lambda image, label, index: {"image": image, "label": label},
    "with index": lambda image, label, index: (image, label, index),
    "label in words": lambda image, label, index: (image, str(label)),
    "no label later": lambda image, label, index: (image, label if index < 20 else -1),
}
TARGETS = {
    "names": lambda labels: list(map(str, labels)),
    "one-hot": lambda labels: torch.eye(10)[labels],
    "boxes": lambda labels: [torch.zeros(label, 4) for label in labels],
    "of a larger set": lambda labels: [*labels, 11],
    "number of classes": lambda labels: labels,
}


class Own(Dataset):
    """The first digits of a split, with samples or ``targets`` of another kind."""

    def __init__(self, split, n, samples="", targets=""):
        self.digits, self.sample = Few(split, n), SAMPLES.get(samples)
        if targets:
            self.targets = TARGETS[targets]([label for _, label in self.digits])
        if targets == "number of classes":
            self.classes = 10

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, index):
        image, label = self.digits[index]
        return self.sample(image, label, index) if self.sample else (image, label)


@register_collate_func
def one_class(samples):
    """Labels all are the first class, whatever the dataset's."""
    images, labels, *rest = default_collate(samples)
    return (images, torch.zeros_like(labels), *rest)
