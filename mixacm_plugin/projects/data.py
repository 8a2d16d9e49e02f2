"""Find what ``--data`` names: folders of images, or a data set of torchvision."""

import inspect
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset, Subset
from torchvision import datasets
from torchvision.datasets.folder import is_image_file

from ..common.errors import UserError, nearest
from ..common.images import count, labels_of
from ..loading.datasets import class_names
from ..loading.image_files import name_files
from ..parts.data import hold_out
from .images import Look, built, look_at, mean_and_std

FEWEST = 5  # images of a class
MOST_HELD = 2000  # validation images
TRAIN, TEST = ("train", "trainval"), ("test", "val", "valid")  # splits of torchvision
FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Part:
    """A dataset of torchvision without its transform.

    Args:
        key: its class, such as ``ImageFolder``.
        root: folder that the recipe's ``data`` names.
        folder: inside ``root``; empty for ``root`` itself.
        kwargs: other arguments.
    """

    key: str
    root: Path
    folder: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def build(self, transform: Any = None) -> Dataset[Any]:
        """Build it, which may download it."""
        kwargs = {"root": self.root / self.folder, **self.kwargs, "transform": transform}
        dataset: Dataset[Any] = getattr(datasets, self.key)(**kwargs)
        return name_files(dataset)


@dataclass(frozen=True)
class Data:
    """Training, validation and test images, as a recipe names them.

    Args:
        what: in words.
        train: the images that are trained on, and those that are held out from them.
        val: of its own; ``None`` where it is held out.
        test: of its own; ``None`` where it is held out.
        classes: names, in the order of the labels.
        look: how images are read.
        mean: of channels, over a sample of training images.
        std: likewise.
        stratified: whether labels are known without reading images, so that what is held out has
            the same share of each class.
        sizes: number of images in ``train``, ``val`` and ``test``.
    """

    what: str
    train: Part
    val: Part | None
    test: Part | None
    classes: Sequence[str]
    look: Look
    mean: Sequence[float]
    std: Sequence[float]
    stratified: bool
    sizes: Mapping[str, int]

    def validation_images(self) -> Dataset[Any]:
        """Return the validation images, as the recipe reads them."""
        plain = built(self.look.plain)
        if self.val is not None:
            return self.val.build(plain)
        rest = _rest(self.train.build(plain), self.test, self.sizes, self.stratified)
        return hold_out(rest, "val", self.sizes["val"], stratify=self.stratified)

    def unread(self) -> list[Path]:
        """Return the files of images that ``ImageFolder`` leaves out, by their extension."""
        parts = [part for part in (self.train, self.val, self.test) if part is not None]
        roots = {part.root / part.folder for part in parts if part.key == "ImageFolder"}
        files = (
            Path(at, name)
            for r in roots
            for at, _, names in os.walk(r, followlinks=True)
            for name in names
        )
        extensions = {e for e, kind in Image.registered_extensions().items() if kind in Image.OPEN}
        return sorted(
            file
            for file in files
            if file.suffix.lower() in extensions and not is_image_file(file.name)
        )


def find_data(text: str, size: int | None = None) -> Data:
    """Find classes, parts, image size, mean and standard deviation of what ``--data`` names.

    Args:
        text: a folder with ``train`` and ``test`` or ``val``, or such as ``Training`` and
            ``valid``, in each a folder a class; a folder of such class folders; or
            ``NAME[:FOLDER]``, a class of ``torchvision.datasets``.
        size: of images, in place of what is found.

    Raises:
        UserError: if there is no such data, or it can't be trained on.
    """
    try:
        train, val, test, what = _parts(text)
        whole = train.build()
        others = [part.build() for part in (val, test) if part is not None]
        classes = _classes(text, whole, others)
        look = look_at(whole, size, others)
        stratified = labels_of(whole) is not None
        sizes = _sizes(whole, val, test, len(classes))
        trained: Dataset[Any] = train.build(built(look.plain))
        trained = _rest(trained, test, sizes, stratified)
        if val is None:
            trained = hold_out(trained, "train", sizes["val"], stratify=stratified)
        mean, std = mean_and_std(trained)
    except UserError:
        raise
    except Exception as error:  # a class folder without images, a damaged one, a failed download
        reason = str(error).strip() or type(error).__name__
        raise UserError(f"--data: {text}: {reason.splitlines()[0]}") from error
    return Data(what, train, val, test, classes, look, mean, std, stratified, sizes)


def _parts(text: str) -> tuple[Part, Part | None, Part | None, str]:
    folder = Path(text).expanduser()
    if folder.is_dir():
        return _folders(folder.resolve())
    name, _, root = text.partition(":")
    kind = getattr(datasets, name, None) if name in datasets.__all__ else None
    if kind is None:
        hint = nearest(name, datasets.__all__)
        raise UserError(f"--data: no folder {text}, and no torchvision.datasets.{name}.{hint}")
    train, test = _splits(name, kind, Path(root or "data").expanduser().resolve())
    return train, None, test, f"torchvision's {name}"


def _folders(root: Path) -> tuple[Part, Part | None, Part | None, str]:
    named = _named_parts(root)
    train = named.get("train")
    if train is None or not _inside(root / train):  # a class may be called train
        _refuse_parts_as_classes(root)
        return Part("ImageFolder", root), None, None, f"{root}, a folder a class"
    if len(named) == 1:
        raise UserError(
            f"--data: {root} has {train}/ but neither test/ nor val/; name {root / train} to have "
            "it split"
        )
    parts = {name: Part("ImageFolder", root, folder) for name, folder in named.items()}
    for part in parts.values():
        _refuse_hidden(root / part.folder)
    val = parts.get("val") if "test" in parts else None
    test = parts.get("test", parts.get("val"))
    what = f"{root} with {', '.join(f'{folder}/' for folder in named.values())}"
    return parts["train"], val, test, what


def _named_parts(root: Path) -> dict[str, str]:
    """Return the names of the folders that are called as a part is, by part."""
    found = {}
    for part, names in FOLDERS.items():
        folders = [name for name in _inside(root) if name.lower() in names]
        if len(folders) > 1:
            raise UserError(
                f"--data: {root} has {' and '.join(f'{name}/' for name in folders)}; expected one "
                f"of them, for the {part} images"
            )
        if folders:
            found[part] = folders[0]
    return found


def _inside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _refuse_hidden(folder: Path) -> None:
    """Raise ``UserError`` for a folder of an editor's, of which ImageFolder makes a class."""
    for name in _inside(folder):
        if name.startswith("."):
            raise UserError(f"--data: {folder / name} would be a class; remove it")


def _refuse_parts_as_classes(root: Path) -> None:
    """Raise ``UserError`` where two folders have the same folders in them, and no images."""
    _refuse_hidden(root)
    earlier: dict[str, str] = {}
    for name in _inside(root):
        classes = _inside(root / name)
        if not classes or any(is_image_file(path.name) for path in (root / name).iterdir()):
            continue
        for one in classes:
            if one in earlier:
                raise UserError(
                    f"--data: {root} has {one}/ in both {earlier[one]}/ and {name}/, which have no "
                    "images of their own; expected folders of images by class, or parts that are "
                    "called train/ and test/ (or val/)"
                )
        earlier |= dict.fromkeys(classes, name)


def _splits(name: str, kind: Any, root: Path) -> tuple[Part, Part]:
    """Name the training and the test part of a data set of torchvision, downloaded if need be."""
    takes = inspect.signature(kind).parameters
    more = {"download": True} if "download" in takes else {}
    if "train" in takes:
        train, test = (Part(name, root, kwargs={"train": v, **more}) for v in (True, False))
        return train, test
    if "split" not in takes:
        raise UserError(f"--data: torchvision.datasets.{name} has neither train nor split")
    found = []
    for names in (TRAIN, TEST):
        for split in names:
            part = Part(name, root, kwargs={"split": split, **more})
            try:
                part.build()
            except ValueError:  # it has no such split
                continue
            found.append(part)
            break
    if len(found) < 2:
        raise UserError(f"--data: torchvision.datasets.{name} has no split of {TRAIN} and {TEST}")
    return found[0], found[1]


def _classes(text: str, whole: Dataset[Any], others: Sequence[Dataset[Any]]) -> Sequence[str]:
    """Return the names of the classes, which all parts must have."""
    names = class_names(whole)
    labels = labels_of(whole)
    if names is None and labels is not None:
        names = [str(label) for label in range(int(max(labels)) + 1)]
    if names is None:
        raise UserError(f"--data: {text} doesn't tell its classes")
    for other in others:
        found = class_names(other)
        if found is not None and found != names:
            differ = ", ".join(sorted(set(names) ^ set(found))[:5])
            raise UserError(
                f"--data: {text}: its parts have other class folders than each other: {differ}"
            )
    if len(names) < 2:
        raise UserError(
            f"--data: {text} has 1 class, {names[0]}; expected at least 2, each a folder of images"
        )
    numbers = Counter(map(int, labels)) if labels is not None else {}
    few = [name for label, name in enumerate(names) if numbers.get(label, FEWEST) < FEWEST]
    if few:
        has = numbers[list(names).index(few[0])]
        raise UserError(
            f"--data: {text} has {has} training image{'s'[: has != 1]} of {few[0]}; expected at "
            f"least {FEWEST} of each class"
        )
    return names


def _sizes(
    whole: Dataset[Any], val: Part | None, test: Part | None, classes: int
) -> dict[str, int]:
    """Return how many images are trained, validated and tested on: 20 % and 10 % are held out."""
    left = count(whole)
    tested = max(classes, round(0.2 * left)) if test is None else count(test.build())
    left -= tested if test is None else 0
    if val is None:
        held = max(classes, min(MOST_HELD, round(0.1 * left)))
        left -= held
    else:
        held = count(val.build())
    return {"train": left, "val": held, "test": tested}


def _rest(
    dataset: Dataset[Any], test: Part | None, sizes: Mapping[str, int], stratified: bool
) -> Dataset[Any] | Subset[Any]:
    """Return what is left of a dataset for training and validation."""
    if test is not None:
        return dataset
    return hold_out(dataset, "train", sizes["test"], stratify=stratified)
