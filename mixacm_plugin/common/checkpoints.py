"""Checkpoints: written atomically, read without running code from them, damage noticed."""

import argparse
import contextlib
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from .downloads import DownloadError, download, file_name
from .files import replacing

SAFETENSORS = (
    "it is a file of safetensors; convert it: import torch; from safetensors.torch import "
    "load_file; torch.save(load_file(FILE), 'weights.pt')"
)
NUMPY = "it is a file of NumPy; load its arrays into the model, then torch.save(model.state_dict())"
ARCHIVE = "it is an archive; unpack it and name the file of weights in it"
OTHER_KINDS = {  # by how a file begins
    b"version https://git-lfs": (
        "it is a pointer of Git LFS; fetch the file itself with git lfs pull"
    ),
    b"<": "it is a web page; download the file that it leads to",
    b"\x1f\x8b": "it is packed by gzip; unpack it with gunzip",
    b"\x89HDF": "it is a file of HDF5, as Keras writes; torch reads none",
    b"\x93NUMPY": NUMPY,
}


class CheckpointError(Exception):
    """A checkpoint that is missing, unreadable or of another architecture, in one line."""


def save_checkpoint(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write a checkpoint so that at any moment the file is either the old or the new one.

    Raises:
        UserError: if it can't be written, such as on a full disk.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # torch's writer hides what stopped it behind a mistake of its own.
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def load_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Read a checkpoint from a file or a URL, onto the CPU, with ``weights_only=True``.

    Only ``argparse.Namespace`` is allowed besides tensors and plain values, since the host's own
    checkpoints carry one.

    Raises:
        CheckpointError: if it is missing, damaged or unreadable, or needs code to be run.
    """
    path = os.fspath(path)
    try:
        file = file_of(path)
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise CheckpointError(f"checkpoint {path} isn't a file")
        _check_sums(file)
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # what matters is said by an error
            return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint not found: {path}") from None
    except CheckpointError:
        raise
    except Exception as error:  # whatever the bytes of another kind of file happen to mean
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, pickle.UnpicklingError) or "weights_only" in reason:
            reason = _not_weights(str(error))
        with contextlib.suppress(Exception):  # such as the same one again
            reason = _other_kind(file_of(path)) or reason
        raise CheckpointError(f"can't read checkpoint {path}: {reason}") from error


def _not_weights(said: str) -> str:
    """Tell what a file is that torch won't read; its own message advises to run what is inside."""
    named = re.search(r"GLOBAL (\S+)", said)
    what = "something else than tensors and plain values"
    what += f", such as {named[1].rstrip('.,')}" if named else ""
    what = "a program of TorchScript" if "TorchScript" in said else what
    return f"it holds {what}; where it was written, save torch.save(model.state_dict(), FILE) alone"


def _other_kind(file: Path) -> str | None:
    """Tell what a file is that torch didn't write, where its beginning shows it."""
    with file.open("rb") as opened:
        beginning = opened.read(99)
    if not beginning:
        return "it is empty"
    if beginning[8:9] == b"{":  # after the length of a JSON
        return SAFETENSORS
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
        if all(name.endswith(".npy") for name in names):
            return NUMPY
        return None if any(name.endswith("/data.pkl") for name in names) else ARCHIVE
    kinds = (k for start, k in OTHER_KINDS.items() if beginning.lstrip().startswith(start))
    return next(kinds, None)


def file_of(path: str) -> Path:
    """Return the file of a checkpoint that is named by a file or a URL; it is downloaded once.

    Raises:
        CheckpointError: if it can't be downloaded.
    """
    return _downloaded(path) if is_url(path) else Path(path).expanduser()


def is_url(path: str) -> bool:
    """Whether a checkpoint is to be downloaded."""
    return path.startswith(("http://", "https://"))


def cached_file(name: str) -> Path:
    """Return where a file lies in torch.hub's folder of checkpoints, or would."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def _downloaded(url: str) -> Path:
    """Download a file into torch.hub's folder of checkpoints, where it isn't there yet."""
    try:
        file = cached_file(file_name(url))
        if not file.exists():
            download(url, file)
    except DownloadError as error:
        raise CheckpointError(str(error)) from error
    return file


def _check_sums(file: Path) -> None:
    """Raise ``CheckpointError`` if a byte isn't what was written; torch itself doesn't look."""
    if not zipfile.is_zipfile(file):  # the format before torch 1.6 has no sums
        return
    with zipfile.ZipFile(file) as archive:
        # torch leaves the memory of what is marked as a folder (0x10) as it happens to be.
        folders = (entry.filename for entry in archive.infolist() if entry.external_attr & 0x10)
        damaged = archive.testzip() or next(folders, None)
    if damaged is not None:
        raise CheckpointError(
            f"checkpoint {file} is damaged: {damaged!r} isn't what was written; copy or download "
            "it again"
        )
