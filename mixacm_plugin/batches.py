"""Batches as the host's loaders yield them, and the loader of a recipe's test images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchdistill.datasets.util import build_data_loader

from .checks import check_loader
from .recipe import Recipe


def unpack(batch: Any, device: torch.device) -> tuple[Tensor, Tensor, Any]:
    """Images, targets and the host's supplementary dict of a batch, on the device."""
    images, targets, *rest = batch
    return images.to(device), targets.to(device), rest[0] if rest else None


def drawn(dataset: Dataset, n: int | None, seed: int) -> Subset:
    """Return ``n`` images of a dataset, drawn with ``seed``: the same for every model.

    Args:
        dataset: of any size.
        n: how many; None takes all, in an order of the seed's.
        seed: of the choice.

    Raises:
        ValueError: if there are fewer.
    """
    size = len(dataset)
    n = size if n is None else n
    if not 1 <= n <= size:
        raise ValueError(f"n must be between 1 and the {size} images of the dataset; found {n}")
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return Subset(dataset, order[:n].tolist())


def first_batch(loader: DataLoader) -> Any:
    """Collate the first images of a loader and, where the dataset tells, one of its last class.

    Raises:
        ValueError: if the loader makes no batches.
    """
    if loader.batch_sampler is None:
        raise ValueError("expected a batch_size; found None")
    dataset = loader.dataset
    indices = list(range(min(4, len(dataset))))
    targets = getattr(getattr(dataset, "org_dataset", dataset), "targets", None)
    if targets is not None:
        indices.append(max(range(len(targets)), key=lambda i: int(targets[i])))
    return loader.collate_fn([dataset[i] for i in indices])


def test_loader(recipe: Recipe, config: Mapping[str, Any]) -> DataLoader:
    """Build the loader of a recipe's test images, and try it on a few.

    Raises:
        RecipeError: if it can't be built or yields no batches of images.
    """
    path = "test.test_data_loader"
    check_loader(recipe, config, path)
    section = config["test"]["test_data_loader"]
    try:
        dataset = config["datasets"][section["dataset_id"]]
        loader = build_data_loader(dataset, section, distributed=False)
        unpack(first_batch(loader), torch.device("cpu"))
    except Exception as error:
        raise recipe.error(path, f"{type(error).__name__}: {error}") from error
    return loader


def check_images(images: Tensor) -> None:
    """Raise ``ValueError`` unless images are finite floats in [0, 1]."""
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; expected floats in [0, 1]")
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images range from {low:.3g} to {high:.3g}; expected [0, 1], so that ε means pixels. "
            "Normalise inside the model (dm_wide_resnet, normalized), not in the dataset"
        )
