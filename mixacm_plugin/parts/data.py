"""Data: the quickstart's digits, parts of any training data, and rotations of any images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchdistill.datasets.registry import register_dataset, register_dataset_wrapper
from torchdistill.datasets.wrapper import BaseDatasetWrapper
from torchvision.transforms.functional import to_pil_image

from ..common.images import count, labels_of
from ..common.state import preserved_rng
from ..common.values import COUNT, NUMBER

SPLITS = ("train", "val", "test")


@register_dataset
class Digits(Dataset[tuple[Tensor, int]]):
    """Scikit-learn's handwritten digits: 1,797 images of 8×8, in a fixed stratified split.

    Args:
        split: ``train`` (1,097 images), ``val`` (200) or ``test`` (500); ``{"train": 0.25}`` is a
            random quarter of a split, always the same and part of any larger share.
        transform: applied to an image, ``(3, 8, 8)`` in [0, 1].
        classes: digits to keep, labelled 0, 1, ... in this order; by default all.

    Raises:
        ValueError: on another split or share, or classes that aren't different digits.

    Source: Alpaydin & Kaynak 1998 (UCI); ``sklearn.datasets.load_digits``.
    """

    classes = tuple("0123456789")

    def __init__(
        self,
        split: str | Mapping[str, float],
        transform: Callable[[Tensor], Tensor] | None = None,
        classes: Sequence[int] = tuple(range(10)),
    ) -> None:
        name, share = _share_of("Digits", split)
        if name not in SPLITS:
            raise ValueError(f"Digits: split must be one of {', '.join(SPLITS)}; found {name!r}")
        kept = list(classes) if isinstance(classes, Sequence) else []
        if not kept or len(set(kept)) < len(kept) or not set(kept) <= set(range(10)):
            raise ValueError(f"Digits: classes must be different digits; found {classes!r}")
        from sklearn.datasets import load_digits  # only here, since it takes a while
        from sklearn.model_selection import train_test_split

        pixels, labels = load_digits(return_X_y=True)
        rest, test = train_test_split(
            range(len(labels)), test_size=500, stratify=labels, random_state=0
        )
        train, val = train_test_split(rest, test_size=200, stratify=labels[rest], random_state=0)
        chosen = {"train": train, "val": val, "test": test}[name]
        chosen = _first([i for i in chosen if labels[i] in kept], share)  # shuffled by the split
        grey = torch.from_numpy(pixels[chosen] / 16).float().view(-1, 1, 8, 8)
        self.images = grey.repeat(1, 3, 1, 1)
        self.targets = [kept.index(label) for label in labels[chosen]]
        self.classes = tuple(map(str, kept))
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        return (image if self.transform is None else self.transform(image)), self.targets[index]


@register_dataset_wrapper
class FourRotations(BaseDatasetWrapper):
    """A dataset of tensors whose images come as themselves and turned by 90°, 180° and 270°.

    The host's ``SSKDDatasetWrapper`` does the same for datasets of PIL images that have a
    ``transform``; ``Digits`` and the parts that ``hold_out`` returns aren't such.

    Args:
        org_dataset: given by the host; has square images ``(C, H, H)``, and labels.
    """

    def __getitem__(self, index: int) -> tuple[Tensor, int, dict[str, Any]]:
        """Images ``(4, C, H, H)``, the label and an empty supplementary dict."""
        image, label, extra = super().__getitem__(index)
        return torch.stack([torch.rot90(image, turns, (1, 2)) for turns in range(4)]), label, extra


class Part(Subset[Any]):
    """A part of a dataset that tells the labels and the names of the classes, where the whole does.

    The host's ``CRDDatasetWrapper`` asks for both.
    """

    @property
    def targets(self) -> Sequence[int]:
        """A label for each image."""
        labels = labels_of(self)
        if labels is None:
            raise AttributeError(f"{type(self.dataset).__name__} has no targets")
        return labels

    @property
    def classes(self) -> Any:
        """Names of all classes, also of those that the part lacks."""
        return self.dataset.classes  # type: ignore[attr-defined]


def hold_out(
    dataset: Dataset[Any],
    part: str | Mapping[str, float],
    size: int,
    seed: int = 0,
    stratify: bool = False,
) -> Part:
    """Split a training set into ``train`` and a held-out ``val``, for validation.

    Args:
        dataset: the whole training set; for each part one with that part's transform.
        part: ``train`` or ``val``; ``{"train": 0.25}`` is a random quarter of that part, always
            the same and part of any larger share.
        size: number of images held out.
        seed: of the random choice, the same for both parts.
        stratify: hold out the same share of each class, of a dataset that tells its labels by
            ``targets``.

    Raises:
        ValueError: on another part or share, a size that leaves a part empty or, where it is
            stratified, without a class.

    Example:
        >>> len(hold_out(range(50), {"train": 0.25}, size=10))
        10
    """
    total = count(dataset)
    name, share = _share_of("hold_out", part)
    if name not in ("train", "val"):
        raise ValueError(f"hold_out: part must be train or val; found {name!r}")
    if not COUNT.holds(size) or size >= total:
        raise ValueError(
            f"hold_out: size must be a number of images, from 1 to {total - 1}; found {size!r}"
        )
    if stratify:
        kept, held = _stratified(dataset, size, seed)
    else:
        order = torch.randperm(total, generator=torch.Generator().manual_seed(seed)).tolist()
        kept, held = order[size:], order[:size]
    return Part(dataset, sorted(_first(held if name == "val" else kept, share)))


def _stratified(dataset: Dataset[Any], size: int, seed: int) -> tuple[list[int], list[int]]:
    from sklearn.model_selection import train_test_split  # only here, since it takes a while

    labels = labels_of(dataset)
    if labels is None:
        raise ValueError(f"hold_out: stratify needs targets; {type(dataset).__name__} has none")
    labels = [int(label) for label in labels]
    try:
        kept, held = train_test_split(
            range(len(labels)), test_size=size, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise ValueError(f"hold_out: can't hold out {size} images, stratified: {error}") from None
    return list(kept), list(held)


def _share_of(caller: str, part: str | Mapping[str, float]) -> tuple[str, float]:
    """Read the name of a part, or ``{name: share}``."""
    if not isinstance(part, Mapping):
        return part, 1.0
    if len(part) != 1:
        raise ValueError(
            f"{caller}: expected one part and its share, such as {{train: 0.25}}; found {part}"
        )
    ((name, share),) = part.items()
    if not NUMBER.holds(share) or not 0 < share <= 1:
        raise ValueError(
            f"{caller}: the share of {name} must be above 0 and at most 1; found {share!r}"
        )
    return name, share


def _first(shuffled: list[int], share: float) -> list[int]:
    return shuffled[: max(1, round(share * len(shuffled)))]


@register_dataset
class RandomImages(Dataset[tuple[Any, int]]):
    """Uniform noise in [0, 1] with random labels, the same for an index every time.

    Args:
        n: number of images.
        shape: of an image, ``(C, H, W)``.
        num_classes: labels are below it.
        transform: applied to an image: to a PIL image, as in torchvision's datasets, if it makes
            a tensor of that, else to a tensor.

    Raises:
        ValueError: if a number isn't positive, or ``shape`` hasn't three.

    Example:
        >>> image, label = RandomImages(4, (3, 8, 8), 10)[0]
        >>> image.shape, 0 <= label < 10
        (torch.Size([3, 8, 8]), True)
    """

    def __init__(
        self,
        n: int,
        shape: Sequence[int],
        num_classes: int,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if len(shape) != 3 or min(n, num_classes, *shape) < 1:
            raise ValueError(
                f"RandomImages: expected positive numbers and a shape (C, H, W); "
                f"found n={n}, shape={tuple(shape)}, num_classes={num_classes}"
            )
        self.shape = tuple(shape)
        self.classes = [str(label) for label in range(num_classes)]
        generator = torch.Generator().manual_seed(0)
        self.targets = torch.randint(num_classes, (n,), generator=generator).tolist()
        self.transform = transform
        self.pil = transform is not None and _takes_pil(transform, self._noise(0))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = to_pil_image(self._noise(index)) if self.pil else self._noise(index)
        return (image if self.transform is None else self.transform(image)), self.targets[index]

    def _noise(self, index: int) -> Tensor:
        return torch.rand(self.shape, generator=torch.Generator().manual_seed(index))


def _takes_pil(transform: Callable[[Any], Any], image: Tensor) -> bool:
    with preserved_rng():
        try:
            return isinstance(transform(to_pil_image(image)), Tensor)
        except Exception:  # of any kind, by which a transform says that it takes tensors
            return False
