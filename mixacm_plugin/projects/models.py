"""Build what ``--student`` and ``--teacher`` name, and find how it wants its images."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchdistill.models import registry

from ..common.checkpoints import CheckpointError
from ..common.errors import UserError
from ..common.outputs import are_probabilities, logits_of
from ..common.state import eval_mode, preserved_modules, preserved_rng
from ..common.state_dicts import load_weights
from ..loading.models import model_of_flag
from ..loading.own_models import check_registered, module_and_key
from ..parts.models.teachers import IMAGENET_MEAN, IMAGENET_STD
from ..parts.models.timm_models import PREFIX
from .data import Data
from .images import sample
from .modules import import_or_stub

IMAGENET = IMAGENET_MEAN, IMAGENET_STD
AS_THEY_ARE = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]


@dataclass(frozen=True)
class Model:
    """A model of the project.

    Args:
        key: registered, of torchvision or ``timm:NAME``.
        kwargs: its arguments.
        module: to be named in ``dependencies``; empty where it is none of the user's own.
        stub: text of a file that is to be written for that module; empty where it is there.
        checkpoint: absolute path of its weights; empty where there is none.
        mean: that it is given images with, by ``normalized``; ``None`` where it normalises by
            itself.
        std: likewise.
        accuracy: of the checkpoint on validation images, in %; ``None`` without one.
        built: without normalisation.
    """

    key: str
    kwargs: Mapping[str, Any]
    module: str
    stub: str
    checkpoint: str
    mean: Sequence[float] | None
    std: Sequence[float] | None
    accuracy: float | None
    built: nn.Module


def find_model(
    flag: str, text: str, kwargs: Mapping[str, Any] | None, data: Data, folder: Path
) -> Model:
    """Build a model, load its checkpoint, and choose its normalisation; write nothing.

    Args:
        flag: that names it, for messages.
        text: ``KEY[:CHECKPOINT]``; ``MODULE.KEY`` for one that a module of the user's registers.
        kwargs: its arguments; ``num_classes`` is added where it takes that.
        data: to train on.
        folder: of the project.

    Raises:
        UserError: if it isn't registered, can't be built, doesn't classify such images, or its
            checkpoint is missing or another model's.
    """
    name, checkpoint = _read(text)
    module, key = module_and_key(flag, name)
    stub = import_or_stub(flag, module, key, folder) if module else ""
    check_registered(flag, key, module)
    given = dict(kwargs or {})
    if _takes_classes(key):
        given.setdefault("num_classes", len(data.classes))
    model = model_of_flag(flag, key, given, f"; give its arguments by {flag}-kwargs")
    _try(flag, key, model, data, trained=flag == "--student" or not checkpoint)
    if checkpoint:
        checkpoint = str(Path(checkpoint).expanduser().resolve())
        try:
            load_weights(model, checkpoint)
        except CheckpointError as error:
            raise UserError(f"{flag}: {error}") from error
    mean, std, accuracy = _normalisation(model, given, bool(checkpoint), data)
    return Model(key, given, module, stub, checkpoint, mean, std, accuracy, model)


def _read(text: str) -> tuple[str, str]:
    """Return name and checkpoint of ``NAME[:CHECKPOINT]``."""
    prefix = PREFIX if text.startswith(PREFIX) else ""
    name, _, checkpoint = text.removeprefix(prefix).partition(":")
    return prefix + name, checkpoint


def _takes_classes(key: str) -> bool:
    if key.startswith(PREFIX):
        return True
    builder = registry.MODEL_DICT.get(key)
    if builder is None:
        builder = torchvision.models.get_model_builder(key)
    takes = inspect.signature(builder).parameters
    return "num_classes" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values())


@torch.no_grad()
def _try(flag: str, key: str, model: nn.Module, data: Data, *, trained: bool) -> None:
    size = data.look.size
    with preserved_rng(), preserved_modules(model):
        try:
            output = model.train(trained)(torch.rand(2, 3, size, size))
            logits = logits_of(output)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{flag}: {key} doesn't take images of 3×{size}×{size}: {reason}; {flag}-kwargs "
                "and --image-size say another size, and all images get three channels here"
            ) from error
    if logits.shape != (2, len(data.classes)):
        raise UserError(
            f"{flag}: {key} returns logits of shape {tuple(logits.shape)} for 2 images; expected "
            f"(2, {len(data.classes)}), of {len(data.classes)} classes"
        )
    if are_probabilities(logits):
        raise UserError(
            f"{flag}: {key} returns probabilities, and the losses of these recipes take logits; "
            "leave its softmax out"
        )
    if logits is not output:
        raise UserError(
            f"{flag}: {key} returns a {type(output).__name__}, and the losses of these recipes "
            f"take logits alone; let it return them (googlenet's and inception_v3's {flag}-kwargs: "
            "'{aux_logits: False}')"
        )


def _normalisation(
    model: nn.Module, kwargs: Mapping[str, Any], trained: bool, data: Data
) -> tuple[Sequence[float] | None, Sequence[float] | None, float | None]:
    """Return mean and std, and the accuracy with them where there is a checkpoint.

    Which a checkpoint was trained with isn't written in it; the one that classifies best is taken.
    """
    if hasattr(model, "normalization_mean"):
        return None, None, _accuracy(model, *AS_THEY_ARE, data) if trained else None
    if trained:
        choices = [AS_THEY_ARE, (data.mean, data.std), IMAGENET]
        accuracies = [_accuracy(model, *choice, data) for choice in choices]
        best = max(range(len(choices)), key=accuracies.__getitem__)
        return *choices[best], accuracies[best]
    if kwargs.get("pretrained") or kwargs.get("weights"):
        config = getattr(model, "pretrained_cfg", None) or {}
        return list(config.get("mean", IMAGENET[0])), list(config.get("std", IMAGENET[1])), None
    return data.mean, data.std, None


@torch.no_grad()
def _accuracy(model: nn.Module, mean: Sequence[float], std: Sequence[float], data: Data) -> float:
    """Return the accuracy on at most 256 validation images, in %."""
    chosen = sample(data.validation_images(), 256)
    right = 0
    with eval_mode(model):
        for images, labels in DataLoader(chosen, batch_size=64):
            logits = logits_of(model((images - _shaped(mean)) / _shaped(std)))
            right += int((logits.argmax(1) == labels).sum())
    return 100 * right / len(chosen)


def _shaped(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)
