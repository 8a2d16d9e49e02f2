"""Data of a recipe: the dataset and the loader of its test images, the first batch of a loader."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset
from torchdistill.datasets.util import build_data_loader

from ..common.images import count, unpack
from ..common.values import NAME
from ..reading import sections
from ..reading.checks import check_part, require
from ..reading.recipe import Recipe


def labels_of(dataset: Any) -> Sequence[int] | None:
    """Labels of a dataset's images, where it tells them without reading an image.

    Args:
        dataset: with ``targets``, or a subset or the host's wrapper of such.
    """
    if isinstance(dataset, Subset):
        labels = labels_of(dataset.dataset)
        return None if labels is None else [int(labels[index]) for index in dataset.indices]
    wrapped = getattr(dataset, "org_dataset", None)
    return labels_of(wrapped) if wrapped is not None else getattr(dataset, "targets", None)


def first_batch(loader: DataLoader, size: int) -> Any:
    """Collate the first images of a loader and, where the dataset tells, one of its last class.

    Args:
        loader: in whose order nothing is drawn.
        size: number of images; fewer where there are fewer.

    Raises:
        ValueError: if the loader makes no batches.
    """
    if loader.batch_sampler is None:
        raise ValueError("expected a batch_size; found None")
    dataset = loader.dataset
    indices = list(range(min(size, count(dataset))))
    labels = labels_of(dataset)
    if labels is not None:
        indices[-1] = max(range(len(labels)), key=lambda index: int(labels[index]))
    return loader.collate_fn([dataset[index] for index in indices])


def test_loader(recipe: Recipe, config: Mapping[str, Any]) -> DataLoader:
    """Build the loader of a recipe's test images, and try it on a few.

    Raises:
        RecipeError: if it can't be built or yields no batches of images.
    """
    section = config["test"]["test_data_loader"]
    try:
        dataset = config["datasets"][section["dataset_id"]]
        loader = build_data_loader(dataset, section, distributed=False)
        unpack(first_batch(loader, 5), torch.device("cpu"))
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise recipe.error("test.test_data_loader", message) from error
    return loader


def evaluation_dataset(recipe: Recipe) -> Dataset:
    """Build the dataset of a recipe's ``test`` section, and no other.

    Raises:
        RecipeError: if there is none.
    """
    config = {"test": recipe.build("test")}
    check_part(recipe, config)
    require(recipe, config, "test.test_data_loader")
    dataset_id = sections.get(config, "test.test_data_loader.dataset_id")
    recipe.expect("test.test_data_loader.dataset_id", dataset_id, NAME)
    return recipe.build("datasets", dataset_id)
