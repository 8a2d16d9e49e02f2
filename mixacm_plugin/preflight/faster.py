"""Settings that are likely to make training faster on this machine."""

import time
from collections.abc import Iterator

import torch
from torch.nn.functional import conv2d

from ..common.distributed import available_cpus

WAITED = 0.2  # share of a step from which the loader is worth a word
GAIN = 1.2  # and how much faster another precision has to be
ROUNDS = 5  # of which the fastest counts, since the machine may be busy


def faster_loading(waited: float, workers: int) -> Iterator[str]:
    """Yield a line where steps wait for their images.

    Args:
        waited: share of a step that they wait.
        workers: processes that load images.
    """
    if waited > WAITED:
        cores = available_cpus()
        more = f"num_workers: {min(8, cores)} ({cores} cores here)" if not workers else ""
        memory = "dataset_wrapper: {key: ImagesInMemory} for small images"
        yield f"to wait less for the loader: {' or '.join(filter(None, (more, memory)))}"


def faster_precision(device: torch.device, bfloat16: bool) -> Iterator[str]:
    """Yield a line where the other precision is faster on this device.

    What a CPU says of itself doesn't tell: with AVX512-BF16 alone some are slower in bfloat16.

    Args:
        device: of the training.
        bfloat16: whether most of a step runs in it now.
    """
    if device.type == "cuda":
        if not bfloat16 and torch.cuda.is_bf16_supported(including_emulation=False):
            yield "this device computes in bfloat16: try --precision bf16 --channels_last"
        return
    gain = bfloat16_gain(device)
    if bfloat16 and 1 / gain > GAIN:
        yield (
            f"convolutions in float32 are {1 / gain:.1f} times as fast as in bfloat16 here: try "
            "--precision fp32 --channels_last"
        )
    if not bfloat16 and gain > GAIN:
        yield (
            f"convolutions in bfloat16 are {gain:.1f} times as fast as in float32 here: try "
            "--precision bf16 --channels_last"
        )


def bfloat16_gain(device: torch.device) -> float:
    """Return how many times as fast as in float32 a convolution in bfloat16 is, measured."""
    images, weights = torch.ones(16, 64, 16, 16), torch.ones(64, 64, 3, 3)
    spent: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(ROUNDS):
        for dtype, seconds in spent.items():
            x, w = (
                value.to(device, dtype, memory_format=torch.channels_last)
                for value in (images, weights)
            )
            started = time.perf_counter()
            conv2d(x, w, padding=1)
            seconds.append(time.perf_counter() - started)
    return min(spent[torch.float32]) / min(spent[torch.bfloat16])
