"""The state of an evaluation, kept in a file, so that it can be gone on with."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..common.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from ..common.errors import UserError

FORMAT = 2  # 1 had the random generators only of the last batch


def weights_digest(model: nn.Module) -> str:
    """Return a hash of a model's layers, parameters and buffers."""
    digest = hashlib.sha256(repr(model).encode())
    # Buffers also where a checkpoint doesn't hold them, as those of a normaliser.
    for name, value in {**dict(model.named_buffers()), **model.state_dict()}.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class StateFile:
    """A file with what an evaluation has found so far, and what it is of.

    Args:
        path: where to keep it; one that is there is gone on from.
        of: what must be the same then, by names for a person.

    Raises:
        UserError: if the file is no such state, or of something else.
    """

    def __init__(self, path: str | os.PathLike[str], of: Mapping[str, Any]) -> None:
        self.path, self.of = Path(path).expanduser(), dict(of)
        self.content: dict[str, Any] = {}
        if not self.path.exists():
            return
        try:
            found = load_checkpoint(self.path)
        except CheckpointError as error:
            raise UserError(f"--state: {error}; name another file, or remove it") from error
        known = isinstance(found, Mapping) and {"format", "of", "content"} <= set(found)
        if not known:
            raise self.error("isn't the state of an evaluation")
        if found["format"] != FORMAT:
            raise self.error("is the state of an evaluation by another version of this package")
        for name, expected in self.of.items():
            self.expect(name, found["of"].get(name), expected)
        self.content = dict(found["content"])

    def expect(self, name: str, found: Any, expected: Any) -> None:
        """Raise ``UserError`` if what the state is of isn't what it is expected to be."""
        if found != expected:
            raise self.error(f"is the state of an evaluation with another {name}")

    def error(self, message: str) -> UserError:
        """Return what to tell of the file."""
        return UserError(f"--state: {self.path} {message}; name another file, or remove it")

    def save(self, content: Mapping[str, Any]) -> None:
        """Write what has been found so far.

        Raises:
            UserError: if it can't be written.
        """
        save_checkpoint(self.path, {"format": FORMAT, "of": self.of, "content": dict(content)})
