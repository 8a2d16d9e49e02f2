"""Checkpoints: written atomically, read without running code from them, damage noticed."""

import argparse
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .downloads import DownloadError, download, file_name
from .files import replacing

# Where weights lie beside the state of optimisers and averages, in the order of preference.
CONTAINERS = ("model", "state_dict", "model_state_dict", "net", "model_ema")
AVERAGED = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, beside module.…
COUNTER = "num_batches_tracked"  # of BatchNorm; files from before torch 0.4.1 have none


class CheckpointError(Exception):
    """A checkpoint that is missing, unreadable or of another architecture, in one line."""


class LayoutError(CheckpointError):
    """A checkpoint whose keys or shapes aren't the model's."""


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
        raise CheckpointError(f"can't read checkpoint {path}: {reason}") from error


def _not_weights(said: str) -> str:
    """Tell what a file is that torch won't read; its own message advises to run what is inside."""
    named = re.search(r"GLOBAL (\S+)", said)
    what = "something else than tensors and plain values"
    what += f", such as {named[1].rstrip('.,')}" if named else ""
    what = "a program of TorchScript" if "TorchScript" in said else what
    return f"it holds {what}; where it was written, save torch.save(model.state_dict(), FILE) alone"


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
