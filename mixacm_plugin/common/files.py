"""Files: written so that they are at any moment the old or the new one; those that are shipped."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import UserError

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # no room to write

_PACKAGE = Path(__file__).parent.parent
# In a wheel the recipes lie inside the package, in a checkout at the top of the repository.
_INSTALLED = _PACKAGE / "recipes"
RECIPES = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "recipes"


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file beside ``path``, which takes its place if all goes well.

    A link stays one: what it leads to is replaced.

    Raises:
        UserError: if it can't be written, such as on a full disk; it is as it was.
    """
    named, path = path, Path(os.path.realpath(path))
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # some file systems say only now that they are full
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(not_written(named, error)) from error
    finally:
        with contextlib.suppress(OSError):  # such as a folder that isn't one
            temporary.unlink(missing_ok=True)


def not_written(path: str | os.PathLike[str], error: OSError) -> str:
    """Say of a file that it can't be written, and what to do about it."""
    full = error.errno in FULL
    hint = "; make room and run the command again, a training with --resume" if full else ""
    return f"can't write {os.fspath(path)}: {error.strerror or error}{hint}"


def _temporary(path: Path) -> Path:
    # A folder may be shared by processes of several machines.
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")


def try_writing(path: Path) -> None:
    """Raise ``OSError`` if a file can't be written, such as for its name's length."""
    temporary = _temporary(Path(os.path.realpath(path)))
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.touch()
    temporary.unlink()


def check_writable(path: Path) -> None:
    """Raise ``OSError`` if a file can't be written; unlike ``try_writing`` it makes no folder."""
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists():
        folder = folder.parent
    with contextlib.suppress(FileNotFoundError):
        os.stat(folder / _temporary(path).name)  # says that a name is too long
    with tempfile.TemporaryFile(dir=folder):
        pass


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes have left of a file that nobody else writes at the moment."""
    path = Path(os.path.realpath(path))
    for file in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        file.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether there is a process of this number; True where that can't be known."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write plain values."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(file: Path) -> Any:
    """Read plain values; ``None`` where there is no file."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def sha256_of(file: Path) -> str:
    """Digest of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json_lines(file: Path, lines: Iterable[Any]) -> None:
    """Write a file with a JSON value in each line."""
    with replacing(file) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_json_lines(file: Path) -> list[dict[str, Any]]:
    """Read a file with a JSON value in each line; nothing where there is no file.

    A last line that a kill cut off is left out.

    Raises:
        ValueError: if another line isn't JSON.
    """
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"line {number} isn't JSON: {error}") from None
    return records


def recipe_file(name: str) -> str:
    """Path of a file among the shipped recipes, for ``!import_call`` in a recipe.

    Args:
        name: relative to the recipes' folder; ``.yaml`` may be left out.

    Raises:
        FileNotFoundError: if there is no such file.

    Example:
        >>> Path(recipe_file("quickstart/mixacm")).name
        'mixacm.yaml'
    """
    for path in (RECIPES / name, RECIPES / f"{name}.yaml"):
        if path.is_file():
            return str(path)
    raise FileNotFoundError(f"no shipped recipe {name!r}; there are {', '.join(shipped_files())}")


def shipped_files() -> list[str]:
    """Names of all shipped recipes, override files and studies, such as ``quickstart/mixacm``."""
    files = RECIPES.rglob("*.yaml")
    return sorted(file.relative_to(RECIPES).with_suffix("").as_posix() for file in files)
