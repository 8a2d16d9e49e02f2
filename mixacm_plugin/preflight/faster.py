"""Settings that are likely to make training faster on this machine."""

import math
import time
from collections.abc import Iterator
from typing import Any

import torch

from ..common.distributed import available_cpus
from ..common.images import unpack
from ..parts.computed import emulates_bfloat16
from ..training.compute import Compute, computed
from ..training.prepare import Prepared
from ..training.unset_gradients import refused_unset_gradients

WAITED = 0.2  # share of a step from which the loader is worth a word
GAIN = 1.2  # how many times as fast another setting has to be
MOST_ROUNDS = 5


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


def faster_computing(prepared: Prepared, device: torch.device, seconds: float) -> Iterator[str]:
    """Yield a line where steps are faster in another precision or memory format, measured.

    What a device says of itself doesn't tell: some CPUs with AVX512-BF16 are slower in it.

    Args:
        prepared: with the box in a stage that has made a step; weights are trained on.
        device: of the images.
        seconds: to spend on each setting, a step at least.
    """
    given = Compute(**(prepared.config.get("compute") or {}))
    if given.compile:  # others would be compiled anew, for minutes
        return
    batch = unpack(next(iter(prepared.box.train_data_loader)), device)
    spent = {setting: math.inf for setting in (given, *_others(given, device))}
    begun = time.perf_counter()
    for _ in range(MOST_ROUNDS):
        for setting in spent:  # by turns, since machines are noisy; the fastest of each counts
            spent[setting] = min(spent[setting], _step(prepared, setting, batch, device))
        if time.perf_counter() - begun > seconds * len(spent):
            break
    best = min(spent, key=spent.__getitem__)
    if spent[given] > GAIN * spent[best]:
        yield (
            f"--precision {best.precision} --channels_last makes steps "
            f"{spent[given] / spent[best]:.1f} times as fast here"
        )


def _others(given: Compute, device: torch.device) -> list[Compute]:
    bfloat16 = given.precision != "fp32" and not (device.type == "cpu" and emulates_bfloat16())
    precisions = ("fp32", "bf16") if bfloat16 else ("fp32",)
    return [s for s in (Compute(name, channels_last=True) for name in precisions) if s != given]


def _step(
    prepared: Prepared, setting: Compute, batch: tuple[Any, ...], device: torch.device
) -> float:
    """Return the seconds of a step; infinite of one that this setting doesn't suit."""
    box, models = prepared.box, prepared.models
    with computed(box, models, setting), refused_unset_gradients(models["student"]):
        started = time.perf_counter()
        try:
            loss = box.forward_process(*batch)
            box.post_forward_process(loss=loss)
            finite = math.isfinite(loss.item())  # waits for the device
        except (RuntimeError, ValueError):
            return math.inf
        return time.perf_counter() - started if finite else math.inf
