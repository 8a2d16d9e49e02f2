"""The recipes, override files and studies that come with the package."""

import shutil
from collections.abc import Collection
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


def kind_of_name(name: str) -> str | None:
    """Say what kind of shipped file a name stands for, if for any."""
    kinds = {"recipe": recipe_names, "override file": override_names, "study": study_names}
    return next((kind for kind, names in kinds.items() if name in names()), None)


def kind_by_keys(keys: Collection[str]) -> str | None:
    """Say what kind of file has these keys at its top, if that is plain."""
    if "rows" in keys and "models" not in keys:
        return "study"
    if {"models", "train"} <= set(keys) and "rows" not in keys:
        return "recipe"
    return "override file" if keys and all("." in key for key in keys) else None


def how_to_use(name: str, kind: str) -> str:
    """Say of a file, given where another kind is expected, what it is for.

    Args:
        name: of the file, or of a shipped one.
        kind: recipe, override file or study.
    """
    use = {"recipe": "torchdistill --config", "override file": "--set", "study": "mixacm study"}
    return f"it is a{'n' * (kind == 'override file')} {kind}: {use[kind]} {name}"


def recipe_title(name: str) -> str:
    """First comment line of a shipped recipe or study."""
    return Path(recipe_file(name)).read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def copy_recipe(name: str, to: str) -> Path:
    """Copy a shipped recipe or study into a folder, or to a YAML file, to edit it there.

    Raises:
        FileNotFoundError: if there is no such recipe.
        FileExistsError: if there is such a file already.
    """
    source, target = Path(recipe_file(name)), Path(to)
    if target.suffix not in (".yaml", ".yml") or target.is_dir():
        target /= source.name
    if target.exists():
        raise FileExistsError(f"{target} exists; remove it or name another one")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target
