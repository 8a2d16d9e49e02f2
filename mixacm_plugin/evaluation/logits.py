"""What a model's logits have to be to be evaluated, and accuracy without an attack."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..common.distributed import sum_over_processes
from ..common.images import unpack
from ..common.outputs import logits_of
from ..common.state import eval_mode
from ..loading.datasets import class_names


class UnsuitedModelError(ValueError):
    """A model that can't be evaluated on these images, or not at all."""


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Raise ``UnsuitedModelError`` unless logits are finite and labels numbers of their classes.

    Args:
        logits: ``(N, K)``.
        labels: ``(N,)``, of the same images.
    """
    if labels.ndim != 1 or labels.is_floating_point():
        raise UnsuitedModelError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; expected whole numbers "
            "(N,): leave mixup out of the loader, or give the dataset a target_transform"
        )
    odd = int((~logits.isfinite().all(1)).sum())
    if odd:
        raise UnsuitedModelError(
            f"the model's logits aren't finite for {odd} of {len(logits)} images"
        )
    classes = logits.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise UnsuitedModelError(
            f"found label {int(labels.max() if labels.min() >= 0 else labels.min())}; the model "
            f"has {classes} classes"
        )


def check_class_count(classes: int, dataset: Dataset[Any]) -> None:
    """Raise ``UnsuitedModelError`` unless a model can be attacked and its classes are the data's.

    Args:
        classes: of the model.
        dataset: asked for the names of its own, if it tells them.
    """
    if classes < 2:
        raise UnsuitedModelError(f"an attack needs at least 2 classes; the model has {classes}")
    names = class_names(dataset)
    if names is not None and len(names) != classes:
        raise UnsuitedModelError(
            f"the dataset has {len(names)} classes and the model {classes}, so that labels may "
            "mean other classes: folders of images are numbered in their order. Give a folder for "
            "each class, or the dataset a target_transform"
        )


def differ(first: Tensor, second: Tensor) -> bool:
    """Whether two passes over the same images differ by more than rounding."""
    scale = torch.maximum(first.abs().amax(), second.abs().amax())
    return bool((first - second).abs().amax() > 1e-4 * scale)


@torch.no_grad()
def clean_accuracies(
    model: nn.Module, batches: Iterable[Any], device: torch.device
) -> dict[int, float]:
    """Top-k accuracies on unattacked images, as fractions; the model is used in eval mode.

    Args:
        model: in whatever mode.
        batches: from ``every_batch``.
        device: of the model.

    Returns:
        k to accuracy: for 1 and, where there are more than five classes, for 5.

    Raises:
        UnsuitedModelError: see ``check_logits``.
        TypeError: if the model returns no logits.
    """
    total, correct = 0, {1: 0}
    with eval_mode(model):
        for batch in batches:
            images, labels, _ = unpack(batch, device)
            logits = logits_of(model(images))
            check_logits(logits, labels)
            if logits.shape[1] > 5:
                hits = (logits.topk(5).indices == labels[:, None]).sum()
                correct[5] = correct.get(5, 0) + int(hits)
            correct[1] += int((logits.argmax(1) == labels).sum())
            total += len(labels)
    everywhere, *sums = sum_over_processes(total, *correct.values(), device=device)
    return {k: hits / everywhere for k, hits in zip(correct, sums, strict=True)}
