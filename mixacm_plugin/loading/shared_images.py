"""Which images two datasets share, told by what they hold, without loading an image."""

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import (
    Dataset,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from ..common.images import count
from ..reading import sections

PIXELS = ("data", "images")  # attributes in which a dataset keeps all of its images
SAMPLERS = (None, RandomSampler, SequentialSampler, DistributedSampler)  # none picks some images
MOST_SHARED = 0.05  # of images, that two published datasets may share
LARGEST = 2**31  # bytes of pixels that are looked at


def shared(dataset: Dataset[Any], other: Dataset[Any]) -> int:
    """Return how many images of a dataset are in another one, too.

    Example:
        >>> digits = range(10)
        >>> shared(Subset(digits, [0, 1, 2]), Subset(digits, [2, 3]))
        1
    """
    there = set(_identities(other))
    return sum(identity in there for identity in _identities(dataset))


def shared_by_loaders(loader: Any, other: Any, config: Mapping[str, Any]) -> str:
    """Tell how many images of one loader's dataset another's has too; nothing of a few.

    Args:
        loader: its section of a recipe.
        other: likewise.
        config: the built recipe.
    """
    samplers = [sections.get(each, "sampler.class_or_func") for each in (loader, other)]
    if not (loader and other) or any(sampler not in SAMPLERS for sampler in samplers):
        return ""
    return shared_by_name(loader["dataset_id"], other["dataset_id"], config)


def shared_by_name(name: str, other: str, config: Mapping[str, Any]) -> str:
    """Tell how many images of one dataset another has too, whoever samples them.

    Args:
        name: of a dataset of a recipe.
        other: likewise.
        config: the built recipe.
    """
    datasets = [config["datasets"][each] for each in (name, other)]
    both, n = shared(*datasets), count(datasets[0])
    return f"{both} of {n} images of {name}" if both > MOST_SHARED * n else ""


def _identities(dataset: Any) -> Sequence[Hashable]:
    """Tell each image by its file, by its pixels, or else by its place in this very object."""
    if isinstance(dataset, Subset):
        whole = _identities(dataset.dataset)
        return [whole[index] for index in dataset.indices]
    if hasattr(dataset, "org_dataset"):  # a wrapper of the host's
        return _identities(dataset.org_dataset)
    n = count(dataset)
    samples = getattr(dataset, "samples", None)
    if isinstance(samples, list) and len(samples) == n and _are_files(samples):
        return _without_links([file for file, _ in samples])
    for name in PIXELS:
        pixels = getattr(dataset, name, None)
        rows = pixels.numpy(force=True) if isinstance(pixels, Tensor) else pixels
        if isinstance(rows, np.ndarray) and len(rows) == n and rows.nbytes <= LARGEST:
            return [hash(row.tobytes()) for row in rows]
    return [(id(dataset), index) for index in range(n)]


def _without_links(files: Sequence[str]) -> list[str]:
    """Return what files are, also behind links: parts are often links to one pool of images."""
    found = []
    links: dict[str, set[str]] = {}  # by folder; a folder is listed once, no file is asked for
    real: dict[str, str] = {}
    for file in files:
        folder, name = os.path.split(file)
        if folder not in real:
            real[folder], links[folder] = os.path.realpath(folder), _links_in(folder)
        is_link = name in links[folder]
        found.append(os.path.realpath(file) if is_link else os.path.join(real[folder], name))
    return found


def _links_in(folder: str) -> set[str]:
    try:
        with os.scandir(folder or ".") as entries:
            return {entry.name for entry in entries if entry.is_symlink()}
    except OSError:  # names that are no files
        return set()


def _are_files(samples: list[Any]) -> bool:
    return all(isinstance(s, tuple) and len(s) == 2 and isinstance(s[0], str) for s in samples)
