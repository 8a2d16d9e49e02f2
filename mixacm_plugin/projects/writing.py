"""Write a project's files from their templates; none that is there is touched."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml

from ..common.errors import UserError
from ..parts.models.hook_snippet import flow
from ..parts.models.hooks.points import HookPoint


def rendered(template: str, *, pairs: Sequence[Any] = (), **values: Any) -> str:
    """Fill in a template.

    Args:
        template: its name.
        pairs: of a method.
        **values: what it names.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"flow": in_a_line, "side": flow}
    return environment.get_template(template).render(
        pairs=pairs,
        teachers=[teacher for _, teacher, _ in pairs],
        students=[student for _, _, student in pairs],
        fusions=[f"abf_modules.{index}" for index in range(len(pairs))],
        hooks=hooks,
        **values,
    )


def in_a_line(value: Any) -> str:
    """Write a plain value as YAML, in a line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.split("\n...")[0].strip()


def hooks(points: Iterable[HookPoint], prefix: str = "", outputs: Sequence[str] = ()) -> str:
    """Return ``forward_hook`` of hook points, in a line.

    Args:
        points: to hook.
        prefix: of their paths, inside of a wrapper.
        outputs: other modules whose output is hooked.
    """
    by_io: dict[str, list[str]] = {}
    for point in points:
        by_io.setdefault(point.io, []).append(prefix + point.path)
    if outputs:
        by_io.setdefault("output", []).extend(outputs)
    return in_a_line(by_io)


def refuse_existing(folder: Path, names: Iterable[str]) -> None:
    """Raise ``UserError`` if a file is there already, or the folder can't be one."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a folder; it is a file")
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise UserError(
            f"{folder} has {', '.join(there)} already, which isn't overwritten; name another folder"
        )


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files, by their path in the folder."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def copy(folder: Path, files: Mapping[str, Path]) -> None:
    """Copy files, by their path in the folder."""
    for name, file in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
