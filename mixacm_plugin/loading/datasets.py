"""Data of a recipe: the dataset and the loader of its test images, the first batch of a loader."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torchdistill.datasets.util import build_data_loader

from ..common.images import count, labels_of, unpack
from ..common.values import NAME
from ..reading import sections
from ..reading.checks import check_part, require
from ..reading.recipe import Recipe

FEW = 8  # images that show what a loader gives; some collate functions halve a batch


def _unwrapped(dataset: Any, name: str) -> Any:
    """Return an attribute of a dataset, or of the one that it is a subset or a wrapper of."""
    for inner in ("dataset", "org_dataset"):
        if hasattr(dataset, inner) and not hasattr(dataset, name):
            return _unwrapped(getattr(dataset, inner), name)
    return getattr(dataset, name, None)


def class_names(dataset: Any) -> list[str] | None:
    """Names of a dataset's classes in the order of its labels, where it tells them.

    Args:
        dataset: with ``class_to_idx`` or ``classes``, or a subset or the host's wrapper of such.
            One with a ``target_transform`` has labels of its own and isn't asked.
    """
    if _unwrapped(dataset, "target_transform") is not None:
        return None
    numbers = _unwrapped(dataset, "class_to_idx")
    if isinstance(numbers, Mapping) and sorted(numbers.values()) == list(range(len(numbers))):
        return [str(name) for name in sorted(numbers, key=numbers.__getitem__)]
    names = _unwrapped(dataset, "classes")
    return None if names is None else [str(name) for name in names]


def check_classes(recipe: Recipe, config: Mapping[str, Any]) -> None:
    """Compare the classes of the datasets that a recipe trains, validates and tests on.

    A folder of images that lacks a class numbers the others anew.

    Raises:
        RecipeError: if their number differs, their order or, where datasets number them by
            ``class_to_idx``, their names.
    """
    paths = [
        f"{path}.{name}"
        for path, _ in sections.stages(config)
        for name in ("train_data_loader", "val_data_loader")
    ]
    first: tuple[str, list[str], bool] | None = None
    for path in dict.fromkeys([*paths, "test.test_data_loader"]):
        dataset_id = sections.get(config, f"{path}.dataset_id")
        dataset = config["datasets"].get(dataset_id)
        names = class_names(dataset)
        if names is None:
            continue
        numbered = _unwrapped(dataset, "class_to_idx") is not None
        if first is None:
            first = dataset_id, names, numbered
        by_name = (numbered and first[2]) or sorted(names) == sorted(first[1])
        if len(names) != len(first[1]) or (by_name and names != first[1]):
            other = sorted(set(first[1]) ^ set(names)) if by_name else []
            differ = f" (they differ in {', '.join(other[:5])})" if other else ""
            differ = " in another order" if by_name and not other else differ
            raise recipe.error(
                f"{path}.dataset_id",
                f"{dataset_id} has {len(names)} classes, {first[0]} has {len(first[1])}{differ}, "
                "so that their labels don't mean the same; give each the same folders",
            )


def batches_of(loader: DataLoader) -> Any:
    """Return what a loader takes its batches from.

    Raises:
        ValueError: if it makes none.
    """
    if loader.batch_sampler is None:
        raise ValueError("expected a batch_size; found None")
    return loader.batch_sampler


def first_batch(loader: DataLoader, size: int) -> Any:
    """Collate the first images of a loader and, where the dataset tells, one of its last class.

    Args:
        loader: in whose order nothing is drawn.
        size: number of images; fewer where there are fewer.

    Raises:
        ValueError: if the loader makes no batches.
    """
    batches_of(loader)
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
        unpack(first_batch(loader, FEW), torch.device("cpu"))
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
