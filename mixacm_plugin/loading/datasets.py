"""Data of a recipe: the dataset and the loader of its test images, the first batch of a loader."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from torchdistill.datasets.registry import get_collate_func
from torchdistill.datasets.util import build_data_loader

from ..common.errors import RecipeError
from ..common.images import check_images, count, labels_of, unpack
from ..common.values import NAME
from ..reading import sections
from ..reading.checks import check_part, require
from ..reading.recipe import Recipe
from .image_files import name_files

FEW = 8  # images that show what a loader gives; some collate functions halve a batch
TEST = "test.test_data_loader"


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
    listed = isinstance(names, Sequence) and not isinstance(names, str)  # may be their number
    return [str(name) for name in names] if listed else None


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
    for path in dict.fromkeys([*paths, TEST]):
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
    """Collate the first images of a loader and, where the dataset tells, of its outermost labels.

    Args:
        loader: in whose order nothing is drawn.
        size: number of images; fewer where there are fewer.

    Raises:
        ValueError: if the loader makes no batches.
    """
    batches_of(loader)
    dataset = loader.dataset
    _check_pairs(dataset)
    indices = list(range(min(size, count(dataset))))
    labels = labels_of(dataset)
    if labels is not None:
        numbers = [int(label) for label in labels]
        indices[-1] = numbers.index(max(numbers))
        if min(numbers) < 0:  # which a loss may take for no label
            indices[0] = numbers.index(min(numbers))
    return loader.collate_fn([dataset[index] for index in indices])


def _check_pairs(dataset: Any) -> None:
    """Raise ``ValueError`` unless a dataset gives the pairs that the host's wrappers unpack.

    Of a mapping with two keys they would take the keys.
    """
    own = getattr(dataset, "org_dataset", None)
    if own is None:
        return
    sample = own[0]
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        parts = f" of {len(sample)}" if hasattr(sample, "__len__") else ""
        raise ValueError(
            "expected samples of two, an image and a label, as torchdistill unpacks them; found a "
            f"{type(sample).__name__}{parts} from {type(own).__name__}"
        )


def few_measured(
    recipe: Recipe,
    path: str,
    loader: DataLoader[Any],
    device: torch.device,
    attacked: bool = False,
) -> tuple[Tensor, Tensor]:
    """Load a few images, and labels, of a loader on whose images accuracy is measured.

    Args:
        recipe: names the file in errors.
        path: of the loader.
        loader: in whose order nothing is drawn.
        device: where they are put.
        attacked: whether all images of its dataset are, so that its sampler may leave none out.

    Raises:
        RecipeError: if it leaves images out, or its labels aren't a class each.
        ValueError: if the loader makes no batches.
    """
    sampler = batches_of(loader)
    own: Any = getattr(sampler, "sampler", None)  # a batch sampler of one's own may have none
    if getattr(sampler, "drop_last", False) and hasattr(own, "__len__"):
        left_out = len(own) % sampler.batch_size
        if left_out:
            raise recipe.error(
                f"{path}.kwargs.drop_last",
                f"leaves out {left_out} of {len(own)} images, which are no full batch, of what is "
                "measured; set it to False",
            )
    there = count(loader.dataset)
    if attacked and hasattr(own, "__len__") and len(own) < there:
        raise recipe.error(
            f"{path}.sampler",
            f"{type(own).__name__} picks {len(own)} of {there} images, but all of a dataset are "
            "attacked; give the loader a dataset of those images alone, such as a "
            "torch.utils.data.Subset",
        )
    images, labels, _ = unpack(first_batch(loader, FEW), device)
    if labels.ndim != 1:
        raise recipe.error(
            path,
            f"expected a class for each image; found labels of shape {tuple(labels.shape)}. Soft "
            "labels, as of mixup_collate, are for train_data_loader alone: remove collate_fn",
        )
    return images, labels


def normalises(model: nn.Module) -> bool:
    """Whether a model normalises images inside, so that it takes what it is given for pixels."""
    return hasattr(model, "normalization_mean")


def test_loader(recipe: Recipe, config: Mapping[str, Any], *models: nn.Module) -> DataLoader:
    """Build the loader of a recipe's test images, and try it on a few.

    Args:
        recipe: names the file in errors.
        config: its test section and that section's dataset, built.
        models: that will be tested.

    Raises:
        RecipeError: if it can't be built, leaves images out, or yields no batches of images and
            classes; and on images outside of [0, 1] where a model normalises inside.
    """
    section = config["test"]["test_data_loader"]
    try:
        dataset = config["datasets"][section["dataset_id"]]
        loader = build_data_loader(dataset, section, distributed=False)
        images, _ = few_measured(recipe, TEST, loader, torch.device("cpu"), attacked=True)
        if any(map(normalises, models)):
            check_images(images)
    except RecipeError:
        raise
    except Exception as error:
        raise recipe.error(TEST, f"{type(error).__name__}: {error}") from error
    return loader


class Collated(Dataset[tuple[Tensor, Tensor]]):
    """A dataset as a loader's own collate function makes its images, each by itself.

    Args:
        dataset: yields samples of any kind.
        collate: takes a list of samples.
    """

    def __init__(self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any]) -> None:
        self.dataset, self.collate = dataset, collate

    def __len__(self) -> int:
        return count(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels, _ = unpack(self.collate([self.dataset[index]]), torch.device("cpu"))
        if len(images) != 1 or len(labels) != 1:
            raise ValueError(
                f"collate_fn makes {len(images)} images and {len(labels)} labels of one sample; "
                "what is measured needs one of each"
            )
        return images[0], labels[0]


def as_collated(dataset: Dataset[Any], collate: Callable[[list[Any]], Any] | None) -> Dataset[Any]:
    """Return a dataset with a loader's collate function applied, where it has one of its own."""
    return dataset if collate in (None, default_collate) else Collated(dataset, collate)


def evaluation_dataset(recipe: Recipe, *, collated: bool = True) -> Dataset[Any]:
    """Build the dataset of a recipe's ``test`` section, and no other.

    Args:
        recipe: that has it.
        collated: whether the loader's own ``collate_fn`` is applied to each image.

    Raises:
        RecipeError: if there is none.
    """
    config = {"test": recipe.build("test")}
    check_part(recipe, config)
    require(recipe, config, TEST)
    dataset_id = sections.get(config, f"{TEST}.dataset_id")
    recipe.expect(f"{TEST}.dataset_id", dataset_id, NAME)
    dataset = name_files(recipe.build("datasets", dataset_id))
    collate = get_collate_func(sections.get(config, f"{TEST}.collate_fn"))
    return as_collated(dataset, collate) if collated else dataset
