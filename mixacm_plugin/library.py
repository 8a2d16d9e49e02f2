"""The recipes, override files and studies that come with the package."""

import shutil
from pathlib import Path

# In a wheel the recipes lie inside the package, in a checkout at the top of the repository.
_INSTALLED = Path(__file__).parent / "recipes"
RECIPES = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "recipes"


def recipe_names() -> list[str]:
    """Names of all shipped recipes, such as ``quickstart/mixacm``."""
    return [name for name in _names() if not name.startswith(("compare/", "studies/"))]


def override_names() -> list[str]:
    """Names of all shipped override files, such as ``compare/at``: a method each."""
    return [name for name in _names() if name.startswith("compare/")]


def study_names() -> list[str]:
    """Names of all shipped studies, such as ``studies/components``."""
    return [name for name in _names() if name.startswith("studies/")]


def how_to_use(name: str) -> str:
    """Say of a shipped file's name, given where another kind is expected, what it is for."""
    if name in recipe_names():
        return f" It is a recipe: torchdistill --config {name}"
    if name in override_names():
        return f" It is an override file: --set {name}"
    return f" It is a study: mixacm study {name}" if name in study_names() else ""


def _names() -> list[str]:
    files = RECIPES.rglob("*.yaml")
    return sorted(file.relative_to(RECIPES).with_suffix("").as_posix() for file in files)


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
    raise FileNotFoundError(f"no shipped recipe {name!r}; there are {', '.join(_names())}")


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
