"""State dicts: taken out of what checkpoints hold, checked against models, and loaded."""

import os
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoints import CheckpointError, load_checkpoint

# Where weights lie beside the state of optimisers and averages, in the order of preference.
CONTAINERS = ("model", "state_dict", "model_state_dict", "net", "model_ema")
AVERAGED = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, beside module.…
COUNTER = "num_batches_tracked"  # of BatchNorm; files from before torch 0.4.1 have none


class LayoutError(CheckpointError):
    """A checkpoint whose keys or shapes aren't the model's."""


def weights_of(checkpoint: Any) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint: a plain one, or one under a name in ``CONTAINERS``.

    Raises:
        CheckpointError: if there is none.
    """
    while isinstance(checkpoint, Mapping):
        inside = [name for name in CONTAINERS if isinstance(checkpoint.get(name), Mapping)]
        if not inside:
            break
        checkpoint = checkpoint[inside[0]]
    if not isinstance(checkpoint, Mapping) or not any(map(torch.is_tensor, checkpoint.values())):
        raise CheckpointError(
            f"expected a state dict, or one under {', '.join(CONTAINERS)}; "
            f"found {type(checkpoint).__name__}"
        )
    odd = next((key for key, value in checkpoint.items() if not torch.is_tensor(value)), None)
    if odd is not None:
        raise CheckpointError(f"expected tensors only; {odd!r} isn't one")
    return dict(checkpoint)


def without_prefixes(state: dict[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """Return a state dict without what wrappers put before every name, until one is the model's.

    DataParallel puts ``module.`` there, torch.compile ``_orig_mod.``, others their own word.

    Args:
        state: by the names in the file.
        expected: names that the model has.
    """
    while not set(expected) & set(state):
        names = [name for name in state if name != AVERAGED]
        if len({name.split(".")[0] for name in names}) != 1 or not all("." in n for n in names):
            break
        state = {name.partition(".")[2]: state[name] for name in names}
    return state


def is_plain(checkpoint: Any, expected: Collection[str]) -> bool:
    """Whether a checkpoint is a state dict, or has one under ``model``, as the host reads it."""
    return set(checkpoint.get("model", checkpoint)) == set(expected)


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a checkpoint's weights into a plain model; keys and shapes have to agree.

    Raises:
        CheckpointError: if it can't be read, is of another architecture, or isn't finite.
    """
    path = os.fspath(path)
    expected = model.state_dict()
    try:
        found = without_prefixes(weights_of(load_checkpoint(path)), expected)
        load_state(model, found)
    except LayoutError as error:
        message = f"checkpoint {path} is of another architecture: {error}"
        raise CheckpointError(message) from error
    except CheckpointError as error:
        message = str(error)
        raise CheckpointError(message if path in message else f"{path}: {message}") from error


def load_state(model: nn.Module, found: dict[str, Tensor]) -> None:
    """Load a state dict into a plain model, all of it or nothing.

    Raises:
        CheckpointError: see ``check_state``.
    """
    check_state(model, found)
    model.load_state_dict(found, strict=True)


def check_state(model: nn.Module, found: dict[str, Tensor]) -> None:
    """Check a state dict against a plain model; BatchNorm's counters are added where they lack.

    Raises:
        LayoutError: if keys or shapes differ.
        CheckpointError: if a value isn't finite.
    """
    expected, name = model.state_dict(), type(model).__name__
    for key, value in expected.items():
        if key.endswith(COUNTER):  # as torch itself does
            found.setdefault(key, torch.zeros_like(value, device="cpu"))
    missing = [key for key in expected if key not in found]
    surplus = [key for key in found if key not in expected]
    counts = f"({len(missing)} missing and {len(surplus)} unexpected keys)"
    has = f"the file has {surplus[0]!r}" if surplus else ""
    for key, value in expected.items():
        if key not in found:
            where = f" where {has}" if has else ""
            raise LayoutError(f"{name} expects {key!r}{where} {counts}")
        if found[key].shape != value.shape:
            shapes = f"{tuple(found[key].shape)} in the file and {tuple(value.shape)} in {name}"
            raise LayoutError(f"{key!r} is {shapes}")
        odd = int((~found[key].isfinite()).sum())
        if odd:
            raise CheckpointError(f"{key!r} isn't finite ({odd} of {found[key].numel()} values)")
    if surplus:
        raise LayoutError(f"{has} {counts}")
