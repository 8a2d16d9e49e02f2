"""Images: of a batch as the host's loaders yield it, drawn from a dataset, and in [0, 1]."""

import hashlib
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from .errors import UserError, place_of, reason_of
from .signals import SparedWorker, held_back
from .values import COUNT, whole_seed

LABELS = ("targets", "labels", "_labels")  # of SVHN and STL10, of Flowers102 and others
ROUNDING = 1e-6  # of pixels: resizing float tensors makes white 1.0000002


def every_batch(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield each batch of a loader.

    Args:
        loader: of a dataset that tells its length.

    Raises:
        ValueError: if a batch can't be loaded, in whatever way the dataset says so. One that
            raises ``StopIteration`` would end the loop as if there were no more images.
    """
    if loader.num_workers:
        if not isinstance(loader.worker_init_fn, SparedWorker):
            loader.worker_init_fn = SparedWorker(loader.worker_init_fn)
        # New ones, or what they and the main generator draw would depend on earlier passes, which
        # a resumed run doesn't make again.
        loader._iterator = None
    done = 0
    try:
        with held_back(signal.SIGTERM):
            batches = iter(loader)
        for done, batch in enumerate(batches, 1):  # noqa: B007
            yield batch
    except UserError:
        raise
    except Exception as error:  # of any kind, by which a dataset refuses
        raise ValueError(reason_of(error) + place_of(error)) from error
    finally:
        loader._iterator = None  # or persistent workers would end when it is collected, 5 s each
    if done < len(loader):
        raise ValueError(
            f"the images end after {done} of {len(loader)} batches: the dataset raises "
            "StopIteration; let it raise IndexError, or tell the right length"
        )


def unpack(batch: Any, device: torch.device) -> tuple[Tensor, Tensor, Any]:
    """Images, targets and the host's supplementary dict of a batch, on the device.

    From pinned memory they are copied while the device works. Labels that are whole numbers are
    made int64, which is what losses and attacks take.

    Raises:
        ValueError: see ``parts_of``.
    """
    images, targets, *rest = parts_of(batch)
    images, targets = (t.to(device, non_blocking=True) for t in (images, targets))
    if not targets.is_floating_point():
        targets = targets.long()
    return images, targets, rest[0] if rest else None


def parts_of(batch: Any) -> list[Any]:
    """Return the parts of a batch, images and labels first.

    Raises:
        ValueError: if it doesn't begin with two tensors.
    """
    given = list(batch) if isinstance(batch, list | tuple) else []
    if len(given) < 2 or not all(isinstance(one, Tensor) for one in given[:2]):
        names = ", ".join(type(one).__name__ for one in given)
        found = f"{type(batch).__name__}({names})" if names else f"a {type(batch).__name__}"
        if isinstance(batch, Mapping):
            found += f" with {', '.join(map(str, batch))}"
        raise ValueError(
            "expected a batch that begins with images and labels, two tensors; found "
            f"{found}: let the dataset give pairs of an image and a number"
        )
    return given


def count(dataset: Dataset[Any]) -> int:
    """Return the number of a dataset's images, which torch leaves to each dataset to tell."""
    return len(dataset)  # type: ignore[arg-type]


def labels_of(dataset: Any) -> Sequence[int] | None:
    """Labels of a dataset's images, where it tells them without reading an image.

    Args:
        dataset: with ``targets``, or what torchvision has in their place, a whole number an image;
            or a subset or the host's wrapper of such. Others, such as names or boxes, don't tell.
    """
    if isinstance(dataset, Subset):
        labels = labels_of(dataset.dataset)
        return None if labels is None else [int(labels[index]) for index in dataset.indices]
    wrapped = getattr(dataset, "org_dataset", None)
    if wrapped is not None:
        return labels_of(wrapped)
    for name in LABELS:
        try:
            numbers = torch.as_tensor(getattr(dataset, name))
        except (AttributeError, TypeError, ValueError, RuntimeError):  # none, or of other kinds
            continue
        whole = not (numbers.is_floating_point() or numbers.is_complex())
        if numbers.ndim == 1 and whole and len(numbers) == count(dataset):
            found: list[int] = numbers.tolist()
            return found
    return None


def drawn(dataset: Dataset[Any], n: int | None, seed: int) -> Subset[Any]:
    """Return ``n`` images of a dataset, drawn with ``seed``: the same for every model.

    Args:
        dataset: of any size.
        n: how many; None takes all, in an order of the seed's.
        seed: of the choice.

    Raises:
        ValueError: if there are fewer, or the seed is none.
    """
    size = count(dataset)
    n = size if n is None else n
    if not (COUNT.holds(n) and n <= size):
        raise ValueError(f"n must be between 1 and the {size} images of the dataset; found {n}")
    order = torch.randperm(size, generator=torch.Generator().manual_seed(whole_seed(seed)))
    return Subset(dataset, order[:n].tolist())


def images_digest(dataset: Dataset[Any], n: int = 100) -> str:
    """Return a digest by which a dataset's images are known again.

    Args:
        dataset: yields ``(image, label)``.
        n: how many of them are read at most.
    """
    digest = hashlib.sha256(str(count(dataset)).encode())
    some = drawn(dataset, min(n, count(dataset)), 0)
    for image, label in (some[index] for index in range(len(some))):
        digest.update(image.numpy().tobytes() + str(int(label)).encode())
    return digest.hexdigest()[:16]


def check_images(images: Tensor) -> None:
    """Raise ``ValueError`` unless images are finite floats in [0, 1], but for rounding."""
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; expected floats in [0, 1]")
    low, high = images.aminmax()
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ValueError(
            f"images range from {low:.3g} to {high:.3g}; expected [0, 1], so that ε means pixels. "
            "Normalise inside the model (dm_wide_resnet, normalized), not in the dataset"
        )
