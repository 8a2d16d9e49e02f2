"""Images/s of a training loader with ``ImagesInMemory`` and without, by turns, in one process.

    python tests/benchmarks/loader.py
    python tests/benchmarks/loader.py --imagenet

Noise of CIFAR's size as PIL images in memory, as CIFAR10 holds them, and as JPEG files in memory;
or smooth pictures of ImageNet's size as JPEG files, decoded by PIL and by torchvision. Machines are
noisy: what counts is the median of ratios in the same round.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import (
    Compose,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    ToTensor,
    v2,
)

from mixacm_plugin import ImagesInMemory, MixupCollate

CROPPED = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip(), ToTensor()])


class Noise(Dataset):
    """Images as ``read`` makes them of what is held."""

    def __init__(self, held: list, read: Callable, transform: Callable = CROPPED) -> None:
        self.held, self.read, self.transform = held, read, transform

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int) -> tuple:
        return self.transform(self.read(self.held[index])), index % 10


def jpeg(pixels: np.ndarray) -> bytes:
    """Encode an image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def cifar() -> dict[str, Dataset]:
    """Noise of CIFAR's size; what rates are relative to comes first."""
    pixels = list(np.random.default_rng(0).integers(0, 256, (2048, 32, 32, 3), "uint8"))
    arrays = Noise(pixels, Image.fromarray)
    return {
        "PIL images": arrays,
        "JPEG files": Noise(list(map(jpeg, pixels)), lambda held: Image.open(io.BytesIO(held))),
        "ImagesInMemory": ImagesInMemory(arrays),
    }


def imagenet() -> dict[str, Dataset]:
    """Smooth pictures of ImageNet's usual size, which take about as many bytes."""
    coarse = np.random.default_rng(0).integers(0, 256, (128, 24, 32, 3), "uint8")
    big = [np.asarray(Image.fromarray(one).resize((500, 375), Image.BICUBIC)) for one in coarse]
    files = list(map(jpeg, big))
    floats = [v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
    return {
        "JPEG files by PIL": Noise(
            files,
            lambda held: Image.open(io.BytesIO(held)).convert("RGB"),
            Compose([RandomResizedCrop(224), RandomHorizontalFlip(), ToTensor()]),
        ),
        "JPEG files by decode_image": Noise(
            [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files],
            lambda held: decode_image(held, ImageReadMode.RGB),
            Compose([v2.RandomResizedCrop(224), *floats]),
        ),
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imagenet", action="store_true", help="images of ImageNet's size")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = imagenet() if given.imagenet else cifar()
    times: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(given.rounds + 1):
        for name, dataset in rows.items():
            loader = DataLoader(dataset, 128, shuffle=True, collate_fn=MixupCollate(1.0, 10))
            started = time.perf_counter()
            for _ in loader:
                pass
            if number:  # the first warms up
                times[name].append(time.perf_counter() - started)
    first = next(iter(rows))
    print(f"| loader | images/s | ratio to {first} |\n|---|---:|---:|")
    for name, spent in times.items():
        ratio = statistics.median(b / a for a, b in zip(spent, times[first], strict=True))
        print(f"| {name} | {len(rows[name]) / statistics.median(spent):,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
