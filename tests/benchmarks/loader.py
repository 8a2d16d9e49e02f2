"""Images/s of a training loader with ``ImagesInMemory`` and without, by turns, in one process.

    python tests/benchmarks/loader.py

Noise of CIFAR's size as PIL images in memory, as CIFAR10 holds them, and as JPEG files in memory.
Machines are noisy: what counts is the median of ratios in the same round.
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
from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip, ToTensor

from mixacm_plugin import ImagesInMemory, MixupCollate


class Noise(Dataset):
    """Images as ``read`` makes them of what is held."""

    def __init__(self, held: list, read: Callable) -> None:
        self.held, self.read = held, read
        self.transform = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip(), ToTensor()])

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int) -> tuple:
        return self.transform(self.read(self.held[index])), index % 10


def jpeg(pixels: np.ndarray) -> bytes:
    """Encode an image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    pixels = list(np.random.default_rng(0).integers(0, 256, (2048, 32, 32, 3), "uint8"))
    arrays = Noise(pixels, Image.fromarray)
    rows = {
        "JPEG files": Noise(list(map(jpeg, pixels)), lambda held: Image.open(io.BytesIO(held))),
        "PIL images": arrays,
        "ImagesInMemory": ImagesInMemory(arrays),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(given.rounds + 1):
        for name, dataset in rows.items():
            loader = DataLoader(dataset, 128, shuffle=True, collate_fn=MixupCollate(1.0, 10))
            started = time.perf_counter()
            for _ in loader:
                pass
            if number:  # the first warms up
                times[name].append(time.perf_counter() - started)
    print("| loader | images/s | ratio to PIL images |\n|---|---:|---:|")
    for name, spent in times.items():
        ratio = statistics.median(b / a for a, b in zip(spent, times["PIL images"], strict=True))
        print(f"| {name} | {len(pixels) / statistics.median(spent):,.0f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
