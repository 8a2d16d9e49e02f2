"""Pictures of a study: which ones its file asks for, and their files."""

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any

from .. import value_kinds
from ..recipe import nearest
from ..studies.results import summarise
from .channel_maps import channel_maps_of_study
from .kinds import DRAW
from .style import NothingToShow, save

logger = logging.getLogger("mixacm")

# kind -> (keys it needs, keys it may have)
KINDS: dict[str, tuple[set[str], set[str]]] = {
    "bars": (set(), {"reference"}),
    "curve": ({"x"}, {"log", "label", "group", "group_label", "reference"}),
    "size_ratio": (set(), {"group", "group_label"}),
    "depth_width": ({"depth", "width"}, set()),
    "cost": ({"group"}, {"group_label", "names"}),
    "channel_maps": (set(), {"rows", "n"}),
}


def _is_a(kind: type | UnionType) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


# key -> what its value must be
VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("x", "depth", "width"), (_is_a(str), "a key path")),
    **dict.fromkeys(("title", "label", "group_label"), (_is_a(str), "text")),
    **dict.fromkeys(("rows", "names"), (_is_a(list), "a list of rows")),
    "group": (_is_a(str | Mapping), "a key path, or names with a list or a pattern of rows each"),
    "log": (_is_a(bool), "True or False"),
    "n": (value_kinds.KINDS[value_kinds.COUNT], "a number of images"),
}


def check_plots(plots: Any, rows: Collection[str]) -> None:
    """Check the ``plots`` of a study before it runs.

    Args:
        plots: kind and keys of each.
        rows: names of the study's rows.

    Raises:
        ValueError: on an unknown kind, key or row, a missing key, or a value of the wrong kind.

    Example:
        >>> check_plots([{"kind": "bars"}, {"kind": "curve", "x": "train.num_epochs"}], ["a"])
    """
    if not isinstance(plots, list):
        raise ValueError(f"expected a list such as [{{kind: bars}}]; found {plots!r}")
    for index, spec in enumerate(plots):
        if not isinstance(spec, dict) or spec.get("kind") not in list(KINDS):  # or a list itself
            found = spec.get("kind") if isinstance(spec, dict) else spec
            known = ", ".join(KINDS)
            hint = nearest(str(found), KINDS)
            raise ValueError(f"{index}.kind: expected one of {known}; found {found!r}.{hint}")
        needed, allowed = KINDS[spec["kind"]]
        for key in needed - {key for key, value in spec.items() if value is not None}:
            raise ValueError(f"{index}: a {spec['kind']} needs {key!r}")
        for key in set(spec) - needed - allowed - {"kind", "title"}:
            hint = nearest(key, needed | allowed | {"title"})
            raise ValueError(f"{index}: a {spec['kind']} has no {key!r}.{hint}")
        for key, (is_right, words) in VALUES.items():
            value = spec.get(key)
            if value is not None and not is_right(value):
                raise ValueError(f"{index}.{key}: expected {words}; found {value!r}")
        for key, row in _named_rows(spec, index):
            if row not in rows:
                hint = nearest(row, rows)
                has = ", ".join(rows)
                raise ValueError(f"{index}.{key}: no row {row!r}; there is {has}.{hint}")


def _named_rows(spec: Mapping[str, Any], index: int) -> Iterator[tuple[str, Any]]:
    if spec.get("reference") is not None:
        yield "reference", spec["reference"]
    for key in ("rows", "names"):
        yield from ((key, name) for name in spec.get(key) or ())
    group = spec.get("group")
    for title, members in group.items() if isinstance(group, Mapping) else ():
        if not isinstance(members, str | list):  # text is a pattern
            raise ValueError(
                f"{index}.group.{title}: expected a list or a pattern of rows; found {members!r}"
            )
        if isinstance(members, list):
            yield from ((f"group.{title}", name) for name in members)


def draw_all(
    results: Mapping[str, Any], folder: str | os.PathLike[str], *, missing_only: bool = False
) -> list[Path]:
    """Draw what a study's ``plots`` ask for, each as PNG and SVG.

    A plot that has nothing to show, since its rows failed, is left out with a warning; pictures of
    it from other results are removed.

    Args:
        results: content of a study's ``results.json``.
        folder: where to; made where it is missing.
        missing_only: keep the pictures that are there.

    Returns:
        The files, in the order of ``plots``.

    Raises:
        ValueError: on a malformed ``plots``.
    """
    plots = results.get("plots") or []
    check_plots(plots, [row["name"] for row in results["rows"]])
    summary, files = summarise(results), []
    for stem, spec in stems(plots):
        path = Path(folder) / stem
        there = [path.with_name(f"{stem}.{ending}") for ending in ("png", "svg")]
        if missing_only and all(file.is_file() for file in there):
            files += there
            continue
        try:
            if spec["kind"] == "channel_maps":
                figure = channel_maps_of_study(results, Path(folder), spec)
            else:
                figure = DRAW[spec["kind"]](summary, spec)
        except NothingToShow as reason:
            logger.warning("no picture %s: %s", stem, reason)
            for file in [] if missing_only else there:
                file.unlink(missing_ok=True)
            continue
        files += save(figure, path)
    return files


def stems(plots: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each plot's file name, without its ending, and its specification."""
    seen: dict[str, int] = {}
    for spec in plots:
        name = spec["kind"]
        if name == "curve":
            name = f"curve_{spec['x'].rpartition('.')[2]}"
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}_{seen[name]}"), spec
