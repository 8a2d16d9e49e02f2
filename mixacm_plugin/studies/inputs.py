"""What a run reads beside its recipe: files, folders of data, modules of one's own."""

import ast
import hashlib
import os
from collections.abc import Collection, Iterator
from importlib.util import find_spec
from pathlib import Path

import yaml

from ..common.files import sha256_of
from ..reading.nodes import IMPORTS, MADE, PYTHON_NAME, children_of, path_of, plain, told, walk
from ..reading.read import dependencies_of, folder_of
from ..reading.recipe import Recipe

OURS = "mixacm_plugin"  # whose version is in the hash


def named_files(recipe: Recipe, own: Collection[str]) -> list[str]:
    """Files that a recipe names, without those that training writes.

    Args:
        recipe: of a run.
        own: key paths of what it writes.
    """
    named = {text for path, text in _texts(recipe) if path not in own and not _is_written(path)}
    return sorted(name for name in named if os.path.isfile(os.path.expanduser(name)))


def _is_written(path: str) -> bool:
    """Whether training writes the file at a key path; what models and data are made of it reads."""
    if path.startswith(("models.", "datasets.")):
        return path.endswith(".dst_ckpt")
    return path.endswith("_ckpt") and not path.endswith("src_ckpt")


def folders_of(recipe: Recipe) -> list[str]:
    """Folders of data that a recipe's datasets name.

    Without those to which a dataset downloads, which fill in the first run, and those in which the
    working folder lies, where runs are written.
    """
    named = {path: text for path, text in _texts(recipe) if path.startswith("datasets.")}
    downloads = tuple(
        path.removesuffix("download")
        for path, value in named.items()
        if path.endswith(".download") and value.lower() == "true"
    )
    names = {value for path, value in named.items() if not path.startswith(downloads or "\0")}
    folders = (name for name in names if os.path.isdir(os.path.expanduser(name)))
    return sorted(name for name in folders if not Path.cwd().is_relative_to(_resolved(name)))


def _texts(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield each text of a recipe with its key path, also what a tag such as !pathjoin makes."""
    for path, node in walk(recipe.root):
        if node.tag in MADE:
            made = told(plain(node))
            if isinstance(made, str):
                yield path, made
        elif isinstance(node, yaml.ScalarNode):
            yield path, node.value


def own_modules(recipe: Recipe) -> list[str]:
    """Files of modules that a recipe names, and that lie in the working folder or beside it.

    A recipe names them as dependencies, or by a tag such as ``!import_call``. Of a package all of
    its files, and of each file also what it imports from there.
    """
    node = children_of(recipe.root).get("dependencies")
    names = [name for _, name in dependencies_of(plain(node) if node else None)]
    names += _imported_by_tags(recipe)
    own = {Path.cwd(), folder_of(recipe.path)}
    left = {str(name).partition(".")[0] for name in names}
    seen, files = {OURS}, set[Path]()
    while left - seen:
        name = min(left - seen)
        seen.add(name)
        found = _module_files(name, own)
        files.update(found)
        left.update(imported for file in found for imported in _imports(file))
    return sorted(map(str, files))


def _imported_by_tags(recipe: Recipe) -> Iterator[str]:
    """Yield what tags import: they need no dependency, since these folders are on the path."""
    for _, node in walk(recipe.root):
        if node.tag.startswith(PYTHON_NAME):
            yield node.tag.removeprefix(PYTHON_NAME)
        elif node.tag in IMPORTS:
            entry = told({name: plain(child) for name, child in children_of(node).items()})
            module, *_ = path_of(node.tag, entry)
            if isinstance(module, str):
                yield module


def digest_of(name: str | None) -> str:
    """Hash of a file's content, or of the names and sizes of a folder's files; else the name."""
    path = _resolved(name) if isinstance(name, str) else None
    if path is not None and path.is_file():
        return sha256_of(path)
    if path is not None and path.is_dir():
        return _folder_digest(path)
    return str(name)


def _resolved(name: str) -> Path:
    return Path(name).expanduser().resolve()


def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for place, folders, files in os.walk(folder, followlinks=True):  # as torchvision does
        folders.sort()
        for file in sorted(files):
            full = os.path.join(place, file)
            size = os.path.getsize(full) if os.path.exists(full) else -1
            digest.update(f"{os.path.relpath(full, folder)}\0{size}\0".encode(errors="replace"))
    return digest.hexdigest()


def _module_files(name: str, own: Collection[Path]) -> list[Path]:
    """Files of a module at the top level, if it lies in one of our folders."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):  # as of __main__
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        folders = [Path(place) for place in spec.submodule_search_locations]
        return [f for folder in folders if _lies_in(folder, own) for f in folder.rglob("*.py")]
    return [Path(spec.origin)] if spec.origin and _lies_in(Path(spec.origin), own) else []


def _lies_in(path: Path, own: Collection[Path]) -> bool:
    return not {path.parent, path.parent.parent}.isdisjoint(own)


def _imports(file: Path) -> Iterator[str]:
    """Yield the modules at the top level that a file imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
