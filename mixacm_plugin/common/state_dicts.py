"""State dicts: taken out of what checkpoints hold, checked against models, and loaded."""

import os
import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoints import CheckpointError, load_checkpoint

# Where weights lie beside the state of optimisers and averages, in the order of preference.
CONTAINERS = ("model", "state_dict", "model_state_dict", "net", "model_ema")
AVERAGED = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, beside module.…
COUNTER = "num_batches_tracked"  # of BatchNorm; files from before torch 0.4.1 have none
PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# The attacker of MadryLab's library holds the model and its normaliser a second time
# (robustness/attacker.py).
DUPLICATE = re.compile(r"^(module\.)?attacker\.")
# `new_mean` and `new_std` in MadryLab's library; `mean`, `std`, `mu` and `sigma` on RobustBench.
NORMALISER = re.compile(r"^(?:.*\.)?(?:new_)?(mean|std|mu|sigma)$")
MEANS = ("mean", "mu")


class LayoutError(CheckpointError):
    """A checkpoint whose keys or shapes aren't the model's."""


def weights_of(checkpoint: Any) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint: a plain one, or one under a name in ``CONTAINERS``.

    Under another name it is taken where there is no second one.

    Raises:
        CheckpointError: if there is none, or several.
    """
    opened: list[int] = []
    while isinstance(checkpoint, Mapping) and id(checkpoint) not in opened:  # one may hold itself
        opened.append(id(checkpoint))
        inside = [name for name in CONTAINERS if isinstance(checkpoint.get(name), Mapping)]
        if not inside and not _has_weights(checkpoint):
            inside = [name for name, value in checkpoint.items() if _has_weights(value)]
            if len(inside) > 1:
                raise CheckpointError(
                    f"found tensors under {' and '.join(map(str, inside))}; keep one: "
                    f"torch.save(torch.load(FILE)[{inside[0]!r}], 'weights.pt')"
                )
        if not inside:
            break
        checkpoint = checkpoint[inside[0]]
    if not _has_weights(checkpoint):
        found = type(checkpoint).__name__
        if isinstance(checkpoint, Mapping):
            found = f"a dict with {', '.join(map(str, list(checkpoint)[:9])) or 'nothing'}"
        raise CheckpointError(
            f"expected a state dict, or one under {', '.join(CONTAINERS)}; found {found}"
        )
    odd = next((key for key, value in checkpoint.items() if not torch.is_tensor(value)), None)
    if odd is not None:
        raise CheckpointError(f"expected tensors only; {odd!r} isn't one")
    return dict(checkpoint)


def _has_weights(value: Any) -> bool:
    """Whether something is a mapping with tensors; numbers, such as an accuracy, are no weights."""
    if not isinstance(value, Mapping):
        return False
    return any(torch.is_tensor(v) and v.ndim > 0 for v in value.values())


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


def plain_weights(
    checkpoint: Any, expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Take a model's weights out of what a file holds.

    Args:
        checkpoint: a state dict, or a dict with one, also of a model that normalises inside: as
            files of MadryLab's library (robustness/train.py) and on RobustBench
            (robustbench/utils.py) have it, or a row of a normaliser and the model.
        expected: the model's own state dict.

    Returns:
        The state dict without prefixes and without a second copy of the model, and the buffers of
        the normaliser, if the file had one, as ``mean`` and ``std``.

    Raises:
        CheckpointError: if there is no state dict, or it is only a part of what the file has.

    Source: the layouts named at the top of this module.
    """
    weights = weights_of(checkpoint)
    state = without_prefixes(weights, expected)
    normaliser: dict[str, Tensor] = {}
    for key in [key for key in state if key not in expected]:  # a model may have a mean of its own
        if DUPLICATE.match(key):
            del state[key]
        elif found := NORMALISER.match(key):
            normaliser["mean" if found[1] in MEANS else "std"] = state.pop(key)
    state = without_prefixes(state, expected)
    _check_whole(state, expected)
    if not normaliser:
        _check_first(weights, state)
    return state, normaliser


def _check_whole(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ``CheckpointError`` where the model is one part, or several, of what a file has."""
    shapes = {name: v.shape for name, v in expected.items() if not name.endswith(COUNTER)}
    first = next(iter(shapes), "")
    starts = [name.removesuffix(first) for name in state if name.endswith(f".{first}")]
    parts = [
        start
        for start in starts
        if all(start + n in state and state[start + n].shape == shapes[n] for n in shapes)
    ]
    if parts and not shapes.keys() <= state.keys():
        others = [name for name in state if not name.startswith(tuple(parts))]
        beside = f", and {others[0]!r} beside them" if others else ""
        raise CheckpointError(
            f"its weights lie under {' and '.join(map(repr, parts))}{beside}; keep one part alone, "
            "its names without that prefix"
        )


def _check_first(weights: Collection[str], state: Collection[str]) -> None:
    """Raise ``CheckpointError`` where a model comes after a part of a row that has no weights."""
    kept = next(iter(state), "")
    prefix = next((name for name in weights if name.endswith(kept)), kept).removesuffix(kept)
    if any(part.isdecimal() and int(part) for part in prefix.split(".")):
        raise CheckpointError(
            f"its weights lie under {prefix!r}, behind a part without weights, which may "
            "normalise; save them without that prefix, for a model that does what the part did"
        )


def is_plain(checkpoint: Any, expected: Collection[str]) -> bool:
    """Whether a checkpoint is a state dict, or has one under ``model``, as the host reads it."""
    return set(checkpoint.get("model", checkpoint)) == set(expected)


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a checkpoint's weights into a plain model; keys and shapes have to agree.

    Raises:
        CheckpointError: if it can't be read, is of another architecture, isn't finite, or is of a
            model that normalises in another way.
    """
    path = os.fspath(path)
    expected = model.state_dict()
    try:
        load_state(model, *plain_weights(load_checkpoint(path), expected))
    except LayoutError as error:
        message = f"checkpoint {path} is of another architecture: {error}"
        raise CheckpointError(message) from error
    except CheckpointError as error:
        message = str(error)
        raise CheckpointError(message if path in message else f"{path}: {message}") from error


def load_state(
    model: nn.Module, found: dict[str, Tensor], normaliser: Mapping[str, Tensor] | None = None
) -> None:
    """Load a state dict into a plain model, all of it or nothing.

    Args:
        model: plain.
        found: its state dict.
        normaliser: mean and std, where the file has some, by which the model has to normalise.

    Raises:
        CheckpointError: see ``check_state``; and if the model normalises in another way.
    """
    check_state(model, found)
    _check_normaliser(model, normaliser or {})
    model.load_state_dict(found, strict=True)


def check_state(model: nn.Module, found: dict[str, Tensor]) -> None:
    """Check a state dict against a plain model; BatchNorm's counters are added where they lack.

    Raises:
        LayoutError: if keys or shapes differ.
        CheckpointError: if a value isn't finite, or no plain number.
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
        if value.is_floating_point():
            _check_plain(key, found[key])
        odd = int((~found[key].isfinite()).sum())
        if odd:
            raise CheckpointError(f"{key!r} isn't finite ({odd} of {found[key].numel()} values)")
    if surplus:
        raise LayoutError(f"{has} {counts}")


def _check_plain(key: str, value: Tensor) -> None:
    kinds = (str(value.dtype), str(value.layout), f"on {value.device}")
    plain = (value.dtype in PRECISIONS, value.layout == torch.strided, not value.is_meta)
    for kind, fits in zip(kinds, plain, strict=True):
        if not fits:
            raise CheckpointError(f"{key!r} is {kind}; expected plain floating-point numbers")


def _check_normaliser(model: nn.Module, normaliser: Mapping[str, Tensor]) -> None:
    for name, value in normaliser.items():
        own = getattr(model, f"normalization_{name}", None)
        if own is None:
            given = ", ".join(f"{n}: [{_numbers(v)}]" for n, v in normaliser.items())
            raise CheckpointError(
                f"it normalises its input and {type(model).__name__} doesn't; build it by "
                f"normalized with {given}"
            )
        flat, own = value.flatten().to(own), own.flatten()
        if len(flat) not in (1, len(own)) or not torch.allclose(flat, own, atol=1e-3):
            raise CheckpointError(
                f"it normalises with {name} ({_numbers(flat)}), the model with ({_numbers(own)})"
            )


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{v:.4g}" for v in values.flatten().tolist())
