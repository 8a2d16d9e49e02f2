"""What a recipe would import, call, read, write and download, with nothing of it run.

A guard against careless sharing, not a sandbox: it knows names, not what code does.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..common.checkpoints import is_url
from ..parts.models.teachers import TEACHERS
from ..reading.keys import registries
from ..reading.nodes import (
    IMPORTS,
    MERGE_TAG,
    PYTHON_NAME,
    Unbuilt,
    children_of,
    join,
    path_of,
    plain,
    told,
)
from ..reading.read import dependencies_of, folder_of
from ..reading.recipe import Recipe
from ..reading.schema import recipe_keys
from ..training.run_files import files_of
from .judging import Judged, judge

OF_OBJECTS = ("!call_method", "!getattr", "!setattr")
# Keys whose values are looked up in a registry.
PART_KEYS = frozenset(name for name, _ in registries(recipe_keys(()))) | {"key"}
FILES = ("root", "file", "folder", "data_dir", "img_folder", "ann_file", "split_file", "checkpoint")


@dataclass
class Listing:
    """What a recipe names, each with the key path where it does so first.

    Attributes:
        parts: keys that are registered, or that its imports would have to register.
        warnings: what can run programs or code, delete or write files, or isn't known.
    """

    imports: dict[str, str] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    writes: dict[str, str] = field(default_factory=dict)
    downloads: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def warn(self, where: str, message: str) -> None:
        """Note what speaks against the recipe, each once."""
        if (line := f"{where}: {message}") not in self.warnings:
            self.warnings.append(line)


def list_recipe(recipe: Recipe) -> Listing:
    """List what a recipe would do; nothing is constructed, and nothing of its own imported.

    Args:
        recipe: as ``parse_recipe`` gives it.

    Raises:
        RecipeError: on a tag that there isn't, or that lacks what it needs.
    """
    return _Reader(recipe).listing


class _Reader:
    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.listing = recipe, Listing()
        self.folders = (Path.cwd(), folder_of(recipe.path))
        dependencies = children_of(recipe.root).get("dependencies")
        if dependencies is not None:
            self.dependencies(told(plain(dependencies)))
        for where, node in _all_nodes(recipe.root):
            if node.tag == MERGE_TAG:
                continue
            self.tag(where, node)
            if isinstance(node, yaml.MappingNode):
                self.mapping(where, told(plain(node)))

    def judge(self, where: str, module: Any, *names: Any) -> Judged:
        """Judge a name, and warn of it; the parts of one that only a run makes aren't text."""
        if not all(isinstance(name, str) and name for name in (module, *names)):
            self.listing.warn(where, "names something that only a run would tell")
            return Judged("?", None)
        judged = judge(module, *names, folders=self.folders)
        if judged.warning:
            self.listing.warn(where, judged.warning)
        return judged

    def dependencies(self, given: Any) -> None:
        for where, name in dependencies_of(given):
            self.listing.imports.setdefault(self.judge(where, name).name, where)

    def tag(self, where: str, node: yaml.Node) -> None:
        """List what a node's tag would import or call."""
        if node.tag.startswith(PYTHON_NAME):
            self.named(where, "gets", *node.tag.removeprefix(PYTHON_NAME).rpartition(".")[::2])
        elif node.tag not in yaml.FullLoader.yaml_constructors:
            raise self.recipe.error(where, f"there is no tag {node.tag}")
        elif node.tag in IMPORTS:
            self.imported(where, node.tag, told(plain(node).content))
        elif node.tag in OF_OBJECTS:
            self.of_an_object(where, node.tag, told(plain(node).content))

    def named(self, where: str, does: str, module: Any, *names: Any) -> Any:
        judged = self.judge(where, module, *names)
        self.listing.calls.setdefault(f"{does} {judged.name}", where)
        return judged.found

    def imported(self, where: str, tag: str, entry: Any) -> None:
        needed = "package" if tag == "!import_call_method" else "key"
        if not isinstance(entry, Mapping) or needed not in entry:
            raise self.recipe.error(where, f"{tag} needs {needed}")
        module, *names = path_of(tag, entry)
        if tag == "!import_get":
            self.named(where, "gets", module, *names)
            return
        found = self.named(where, "calls", module, *names)
        init = entry.get("init")
        if isinstance(init, Mapping) and found is not None:
            self.arguments(where, ".".join((module, *names)), found, init)

    def arguments(self, where: str, name: str, found: Any, init: Mapping[str, Any]) -> None:
        """List what a call would read or download, by the names of its arguments."""
        args, kwargs = init.get("args") or [], init.get("kwargs") or {}
        try:
            given = inspect.signature(found).bind_partial(*args, **kwargs).arguments
        except (TypeError, ValueError):  # of a built-in, or wrong: said when it is built
            given = dict(kwargs) if isinstance(kwargs, Mapping) else {}
        if name.endswith("recipe_file"):
            self.listing.reads.setdefault(f"shipped file {_shown(given.get('name'))}", where)
        if given.get("download"):
            self.listing.downloads.setdefault(f"{name}, to {_shown(given.get('root'))}", where)
        for argument in FILES:
            if given.get(argument) is not None:
                self.source(join(where, argument), given[argument])

    def of_an_object(self, where: str, tag: str, entry: Any) -> None:
        """Judge an attribute of something, where the YAML tells what this is."""
        if tag == "!call_method":
            owner, name = (entry.get("obj"), entry.get("method_name")) if entry else (None, None)
        else:
            owner, name = (*entry, None, None)[:2] if isinstance(entry, list) else (None, None)
        if tag == "!setattr":
            self.listing.warn(where, f"changes {_shown(name)} of something, which can run code")
        elif isinstance(owner, Unbuilt) and owner.tag == "!import_get":
            self.named(where, "gets", *path_of(owner.tag, owner.content), name)
        else:
            self.listing.warn(where, f"uses {_shown(name)} of something that only a run would tell")

    def mapping(self, where: str, value: Any) -> None:
        """List what the keys of a mapping would read, write or download."""
        section = value.content if isinstance(value, Unbuilt) else value
        if not isinstance(section, Mapping):  # a random name
            return
        kwargs = section.get("kwargs") or section.get("model_kwargs")
        for name, item in section.items():
            here = join(where, name)
            if name in PART_KEYS and isinstance(item, str) and not isinstance(value, Unbuilt):
                self.listing.parts.setdefault(item, here)
            if item is None or item is False:
                continue
            if name == "src_ckpt":
                self.source(here, item)
            elif name.endswith("_ckpt"):
                self.written(here, item)
            elif name == "repo_or_dir":
                self.listing.downloads.setdefault(f"torch.hub's {_shown(item)}", here)
                self.listing.warn(here, f"runs the code of {_shown(item)}, which isn't looked into")
            elif name in ("weights", "pretrained") and isinstance(item, str | bool):
                self.listing.downloads.setdefault(f"trained weights ({name}: {item})", here)
            elif item == "robust_teacher" and name in ("key", "model"):
                self.teacher(here, kwargs if isinstance(kwargs, Mapping) else {})

    def source(self, where: str, file: Any) -> None:
        remote = isinstance(file, str) and is_url(file)
        listed = self.listing.downloads if remote else self.listing.reads
        if not isinstance(file, Unbuilt) or file.tag not in IMPORTS:  # which are listed as calls
            listed.setdefault(_shown(file), where)

    def teacher(self, where: str, kwargs: Mapping[str, Any]) -> None:
        checkpoint, name = kwargs.get("checkpoint"), kwargs.get("name")
        if checkpoint is not None:
            self.source(where, checkpoint)
        elif name in TEACHERS:
            self.listing.downloads.setdefault(TEACHERS[name].url or TEACHERS[name].page, where)

    def written(self, where: str, file: Any) -> None:
        """List a file that would be written; the student's has others beside it."""
        path = Path(_shown(file)).expanduser()
        self.listing.writes.setdefault(str(path), where)
        if where.startswith("models."):
            files = files_of(where, path)
            averaged = "ema" in children_of(self.recipe.root)
            for beside in files.written[1:]:
                if beside != files.ema or averaged:
                    self.listing.writes.setdefault(str(beside), where)
        if not isinstance(file, str) or "\0" in file:
            self.listing.warn(where, "writes a file whose name only a run would tell")
        elif not path.resolve().is_relative_to(Path.cwd().resolve()):
            self.listing.warn(where, f"writes {path}, outside of the working folder")


def _all_nodes(root: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    """Yield every node once, those that are keys of mappings as well."""
    seen: set[int] = set()
    waiting = [("", root)]
    while waiting:
        where, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield where, node
        below: list[tuple[str, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = key.value if isinstance(key.value, str) else "?"
                below += [(join(where, name), key), (join(where, name), value)]
        elif isinstance(node, yaml.SequenceNode):
            below = [(join(where, index), item) for index, item in enumerate(node.value)]
        waiting += reversed(below)


def _shown(value: Any) -> str:
    if isinstance(value, Unbuilt):
        made_of = value.content if isinstance(value.content, Mapping) else {}
        return f"what {made_of.get('key', value.tag)} gives"
    return str(value)
