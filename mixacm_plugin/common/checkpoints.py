"""Checkpoints: written atomically, read without running code from them."""

import argparse
import os
import pickle
import warnings
from typing import Any

import torch
from torch import nn

from .files import replacing


class CheckpointError(Exception):
    """A checkpoint that is missing, unreadable or of another architecture, in one line."""


def save_checkpoint(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write a checkpoint so that at any moment the file is either the old or the new one."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint from a file or a URL, onto the CPU, with ``weights_only=True``.

    Only ``argparse.Namespace`` is allowed besides tensors and plain values, since the host's own
    checkpoints carry one.

    Raises:
        CheckpointError: if it is missing or unreadable, or needs code to be run.
    """
    path = os.fspath(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # what matters is said by an error
            if path.startswith(("http://", "https://")):
                return torch.hub.load_state_dict_from_url(
                    path, map_location="cpu", weights_only=True
                )
            content: dict[str, Any] = torch.load(
                os.path.expanduser(path), map_location="cpu", weights_only=True
            )
            return content
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint not found: {path}") from None
    except pickle.UnpicklingError as error:  # torch's message advises to run what is inside
        raise CheckpointError(
            f"can't read checkpoint {path}: it holds something else than tensors and plain values"
        ) from error
    except Exception as error:  # whatever the bytes of another kind of file happen to mean
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"can't read checkpoint {path}: {reason}") from error


def weights_of(checkpoint: Any) -> dict[str, torch.Tensor]:
    """Return the state dict of a checkpoint: the host's layout (key ``model``) or a plain one."""
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("model"), dict):
        checkpoint = checkpoint["model"]
    if not isinstance(checkpoint, dict) or not all(
        isinstance(value, torch.Tensor) for value in checkpoint.values()
    ):
        raise CheckpointError("expected a state dict, or a checkpoint with one under 'model'")
    return checkpoint


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a checkpoint's weights into a plain model; keys and shapes have to agree.

    Raises:
        CheckpointError: if it can't be read or is of another architecture.
    """
    found = weights_of(load_checkpoint(path))
    expected = model.state_dict()
    name = type(model).__name__
    missing = [key for key in expected if key not in found]
    surplus = [key for key in found if key not in expected]
    if missing or surplus:
        parts = [f"{name} expects {missing[0]!r}"] if missing else []
        parts += [f"the file has {surplus[0]!r}"] if surplus else []
        counts = f"{len(missing)} missing and {len(surplus)} unexpected keys"
        raise CheckpointError(
            f"checkpoint {os.fspath(path)} is of another architecture: "
            f"{' where '.join(parts)} ({counts})"
        )
    for key, value in expected.items():
        if found[key].shape != value.shape:
            raise CheckpointError(
                f"checkpoint {os.fspath(path)} is of another architecture: {key!r} is "
                f"{tuple(found[key].shape)} in the file and {tuple(value.shape)} in {name}"
            )
    model.load_state_dict(found, strict=True)
