"""Files: written so that they are at any moment the old or the new one; those that are shipped."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent.parent
# In a wheel the recipes lie inside the package, in a checkout at the top of the repository.
_INSTALLED = _PACKAGE / "recipes"
RECIPES = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "recipes"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file beside ``path``, which takes its place if all goes well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder may be shared by processes of several machines.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write plain values."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


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
