"""Normalisation inside a model, so that its inputs are pixels and ε is measured in them."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torchvision
from torch import Tensor, nn
from torchdistill.models import registry
from torchdistill.models.official import get_image_classification_model
from torchdistill.models.registry import get_model, register_model

from ...common.errors import UserError

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


Model = TypeVar("Model", bound=nn.Module)


def _normalize_input(model: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    images, *rest = args
    channels = len(model.get_buffer("normalization_mean"))
    if images.ndim != 4 or images.shape[1] != channels:
        raise ValueError(
            f"the model normalises {channels} channels; found images of shape "
            f"{tuple(images.shape)}, expected (N, {channels}, H, W)"
        )
    mean, std = model.get_buffer("normalization_mean"), model.get_buffer("normalization_std")
    return (images - mean) / std, *rest


def normalize_inside(model: Model, mean: Sequence[float], std: Sequence[float]) -> Model:
    """Make a model normalise its input; its state dict and module paths stay what they were.

    Args:
        model: takes normalised ``(N, C, H, W)``; afterwards it takes the same in [0, 1].
        mean: C channel means.
        std: C channel standard deviations, positive.

    Returns:
        The model itself.

    Raises:
        ValueError: if the lengths differ, a mean isn't in [0, 1], a deviation isn't positive, or
            the model normalises already.
    """
    if hasattr(model, "normalization_mean"):
        raise ValueError(f"{type(model).__name__} normalises its input already")
    for name, values in (("mean", mean), ("std", std)):
        if isinstance(values, int | float):
            raise ValueError(f"{name}: expected a number for each channel; found {values}")
    if len(mean) != len(std) or not all(s > 0 for s in std):
        raise ValueError(
            f"normalisation needs as many positive std as mean; found mean={mean}, std={std}"
        )
    if not all(0 <= m <= 1 for m in mean):
        raise ValueError(f"mean is in pixels of [0, 1]; found {mean}: divide it and std by 255")
    for name, values in (("mean", mean), ("std", std)):
        # Not persistent: published checkpoints don't hold them.
        buffer = torch.tensor([float(v) for v in values]).view(-1, 1, 1)
        model.register_buffer(f"normalization_{name}", buffer, persistent=False)
    model.register_forward_pre_hook(_normalize_input)
    return model


def eclipsed(key: Any, hub: str | None = None) -> str | None:
    """Tell what hides a model from the host, which takes torchvision's of a name before any other.

    Args:
        key: of a model.
        hub: repository of torch.hub that it is meant to come from.

    Returns:
        What is hidden, and what to do; ``None`` where nothing is.
    """
    if not isinstance(key, str) or key not in vars(torchvision.models):
        return None
    taken = f"by the name {key} torchdistill takes what torchvision.models has"
    if hub is not None:
        how = f"register a function that calls torch.hub.load({hub!r}, {key!r})"
        return None if hub.startswith("pytorch/vision") else f"{taken}, not that of {hub}; {how}"
    if key not in registry.MODEL_DICT:
        return None
    own = registry.MODEL_DICT[key]
    module = getattr(own, "__module__", None) or type(own).__module__
    how = f"register yours by another, as in @register_model(key='my_{key}')"
    if module.startswith("torchdistill."):
        how = "take a model of another name"
    return f"{taken}, not the model that {module} registers; {how}"


def model_by_key(key: str, **kwargs: Any) -> nn.Module:
    """Build a model as the host does: torchvision's, else a registered one.

    Args:
        key: the model's key.
        **kwargs: its arguments.

    Raises:
        UserError: if torchvision's hides a registered one.
    """
    hidden = eclipsed(key)
    if hidden is not None:
        raise UserError(hidden)
    built: nn.Module | None = get_image_classification_model({"key": key, "kwargs": kwargs})
    return get_model(key, None, **kwargs) if built is None else built


@register_model
def normalized(
    model: str,
    model_kwargs: dict[str, Any] | None = None,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
) -> nn.Module:
    """Build any registered or torchvision classification model with normalisation inside.

    Args:
        model: the model's key.
        model_kwargs: its arguments.
        mean: see ``normalize_inside``.
        std: see ``normalize_inside``.
    """
    return normalize_inside(model_by_key(model, **(model_kwargs or {})), mean, std)
