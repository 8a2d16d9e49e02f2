"""Digits of which one can't be used."""

import torch.nn.functional as F
from torch.utils.data import Dataset

from recipes import Few

AT = 20


class Damaged(Dataset):
    """The first digits of a split, of which one behind the first few is damaged.

    Args:
        split: of the digits.
        n: how many.
        fault: ``size``, ``file`` or ``stop``, or its label.
        told: whether labels are told without reading an image.
    """

    def __init__(self, split: str, n: int, fault: str | int, told: bool = False) -> None:
        self.digits, self.fault = Few(split, n), fault
        if told:
            self.targets = [label for _, label in self.digits]
            self.targets[AT] = fault

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, index):
        image, label = self.digits[index]
        if index != AT:
            return image, label
        if self.fault == "file":
            raise OSError("image file is truncated")
        if self.fault == "stop":
            next(iter(()))  # StopIteration, by which a loop would end
        if self.fault == "size":
            return F.interpolate(image[None], size=(9, 9))[0], label
        return image, self.fault
