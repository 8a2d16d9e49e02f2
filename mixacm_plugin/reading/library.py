"""The recipes, override files and studies that come with the package."""

import shutil
from pathlib import Path

from ..common.files import recipe_file, shipped_files


def recipe_names() -> list[str]:
    """Names of all shipped recipes, such as ``quickstart/mixacm``."""
    return [name for name in shipped_files() if not name.startswith(("compare/", "studies/"))]


def override_names() -> list[str]:
    """Names of all shipped override files, such as ``compare/at``: a method each."""
    return [name for name in shipped_files() if name.startswith("compare/")]


def study_names() -> list[str]:
    """Names of all shipped studies, such as ``studies/components``."""
    return [name for name in shipped_files() if name.startswith("studies/")]


def how_to_use(name: str) -> str:
    """Say of a shipped file's name, given where another kind is expected, what it is for."""
    if name in recipe_names():
        return f" It is a recipe: torchdistill --config {name}"
    if name in override_names():
        return f" It is an override file: --set {name}"
    return f" It is a study: mixacm study {name}" if name in study_names() else ""


def recipe_title(name: str) -> str:
    """First comment line of a shipped recipe or study."""
    return Path(recipe_file(name)).read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def copy_recipe(name: str, folder: str) -> Path:
    """Copy a shipped recipe or study into a folder, to edit it there.

    Raises:
        FileNotFoundError: if there is no such recipe.
        FileExistsError: if the folder already has a file of that name.
    """
    source = Path(recipe_file(name))
    target = Path(folder) / source.name
    if target.exists():
        raise FileExistsError(f"{target} exists; remove it or name another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target
