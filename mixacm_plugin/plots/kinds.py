"""What each kind of plot draws of a study's summary."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ..adversarial.threat_model import parse_number
from ..studies.results import Row, Summary
from .style import MISSING, NothingToShow, Point, horizontal_bars, line_panels


def bars(summary: Summary, spec: Mapping[str, Any]) -> Figure:
    """Bars of all rows that were run; of the row ``reference`` a dotted line (figure 7b)."""
    reference = _reference(summary, spec)
    rows = [row for row in summary.rows if row is not reference and (row.done or row.failed)]
    if not any(row.values for row in rows):
        raise NothingToShow("no row finished")
    series = {
        c.title: [r.values[c.title].error_bar if c.title in r.values else MISSING for r in rows]
        for c in summary.columns
    }
    lines = {title: v.mean for title, v in reference.values.items()} if reference else {}
    title = _title(summary, spec, reference)
    return horizontal_bars([row.name for row in rows], series, title=title, lines=lines)


def curve(summary: Summary, spec: Mapping[str, Any]) -> Figure:
    """Accuracy and robustness against one numeric override (figure 7a), in groups where asked."""
    reference = _reference(summary, spec)
    summary = replace(summary, rows=tuple(r for r in summary.rows if r is not reference))
    groups = {
        name: [(row, _number(row, spec["x"])) for row in rows]
        for name, rows in _groups(summary, spec).items()
    }
    placed = {
        name: [(row, x) for row, x in rows if x is not None and row.values]
        for name, rows in groups.items()
    }
    if not any(placed.values()):
        raise NothingToShow(f"no finished row has a number for {spec['x']}")
    label = spec.get("label") or spec["x"].rpartition(".")[2]
    figure, panels = _draw(summary, spec, placed, label, reference)
    xs = sorted({x for rows in placed.values() for _, x in rows})
    for axes in panels:
        if spec.get("log"):
            _log_axis(axes, xs)
        elif len(xs) <= 8:
            axes.set_xticks(xs, [f"{x:g}" for x in xs])
    return figure


def _log_axis(axes: Axes, xs: Sequence[float]) -> None:
    positive = [x for x in xs if x > 0]
    if len(positive) < len(xs) and positive:  # zero, the setting switched off, belongs on it too
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
    else:
        axes.set_xscale("log")
    if len(xs) <= 8:
        axes.set_xticks(xs, [f"{x:g}" for x in xs])
        axes.minorticks_off()


def size_ratio(summary: Summary, spec: Mapping[str, Any]) -> Figure:
    """Accuracy and robustness against the student's size (figure 6b)."""
    placed = {
        name: [(row, row.size_ratio) for row in rows if row.size_ratio and row.values]
        for name, rows in _groups(summary, spec).items()
    }
    if not any(placed.values()):
        raise NothingToShow("no finished row has a size ratio")
    figure, panels = _draw(summary, spec, placed, "size: student / teacher parameters")
    for axes in panels:
        axes.set_xscale("log")
        axes.axvline(0.1, color="#888888", linestyle=":", linewidth=1.2)
    return figure


def depth_width(summary: Summary, spec: Mapping[str, Any]) -> Figure:
    """Accuracy and robustness against depth, a line for each width (figure 6a)."""
    return curve(
        summary,
        {
            "kind": "curve",
            "x": spec["depth"],
            "label": "depth",
            "group": spec["width"],
            "group_label": "width",
            "title": spec.get("title"),
        },
    )


def cost(summary: Summary, spec: Mapping[str, Any]) -> Figure:
    """Robust accuracy against what a training step costs, a point for each row."""
    attacks = tuple(column for column in summary.columns if column.title != "clean")
    summary = replace(summary, columns=attacks)
    titles = {column.title for column in attacks}
    placed = {
        name: [
            (row, row.relative_cost)
            for row in rows
            if row.relative_cost and titles & set(row.values)
        ]
        for name, rows in _groups(summary, spec).items()
    }
    if not any(placed.values()):
        raise NothingToShow("no finished row has a cost and an attack")
    label = f"seconds per training step, relative to {summary.rows[0].name}"
    figure, panels = _draw(summary, spec, placed, label, joined=False, across=1)
    for axes in panels:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        left, right = axes.get_xlim()
        axes.set_xlim(left, right * (right / left) ** 0.1)  # room for names
        middle = (left * right) ** 0.5
        for row, x in [entry for entries in placed.values() for entry in entries]:
            if row.name in spec.get("names", ()) and axes.get_title() in row.values:
                y = 100 * row.values[axes.get_title()].mean
                # Most rows cost little more than the first: there is room on their left.
                side = {"ha": "right", "xytext": (-4, 4)} if x < middle else {"xytext": (4, 4)}
                axes.annotate(row.name, (x, y), textcoords="offset points", fontsize=7, **side)
    return figure


DRAW: dict[str, Callable[[Summary, Mapping[str, Any]], Figure]] = {
    "bars": bars,
    "curve": curve,
    "size_ratio": size_ratio,
    "depth_width": depth_width,
    "cost": cost,
}


def _title(summary: Summary, spec: Mapping[str, Any], reference: Row | None = None) -> str:
    dotted = f"; dotted: {reference.name}" if reference else ""
    return f"{spec.get('title') or summary.title}\n{summary.short_caption()}{dotted}"


def _reference(summary: Summary, spec: Mapping[str, Any]) -> Row | None:
    rows = [row for row in summary.rows if row.name == spec.get("reference") and row.values]
    return rows[0] if rows else None


def _groups(summary: Summary, spec: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Rows by group.

    A ``group`` is a key path, or a mapping of names to the rows of each: a list of them, or a
    pattern such as ``* PGD7-AT``.
    """
    group = spec.get("group")
    if group is None:
        return {"": list(summary.rows)}
    if isinstance(group, Mapping):
        return {
            str(name): [
                row
                for row in summary.rows
                if (name_matches(row.name, rows) if isinstance(rows, str) else row.name in rows)
            ]
            for name, rows in group.items()
        }
    label = spec.get("group_label") or group.rpartition(".")[2]
    groups: dict[Any, list[Row]] = {}
    for row in summary.rows:
        value = override(row, group)
        if value is not None:
            groups.setdefault(value if isinstance(value, int | float) else str(value), []).append(
                row
            )
    return {f"{label} {value}": rows for value, rows in groups.items()}


def name_matches(name: str, pattern: str) -> bool:
    """Whether a row's name is the pattern, or like it: ``* MixACM``."""
    return name == pattern or fnmatchcase(name, pattern)


def override(row: Row, path: str) -> Any:
    """A row's override of a key path, also as part of an overridden mapping; else ``None``."""
    for key, value in reversed(row.overrides.items()):  # the last replaces what was there
        if path == key or path.startswith(f"{key}."):
            for name in path[len(key) + 1 :].split(".") if path != key else []:
                value = value.get(name) if isinstance(value, Mapping) else None
            return value
    return None


def _number(row: Row, path: str) -> float | None:
    value = override(row, path)
    try:
        return None if value is None else parse_number(value)
    except ValueError:
        return None


def _draw(
    summary: Summary,
    spec: Mapping[str, Any],
    placed: Mapping[str, Sequence[tuple[Row, float]]],
    label: str,
    reference: Row | None = None,
    **style: Any,
) -> tuple[Figure, list[Axes]]:
    """Draw a line per column in one panel or, where there are groups, a panel per column."""
    grouped = spec.get("group") is not None
    panels: dict[str, dict[str, list[Point]]] = {}
    levels: dict[str, dict[str, float]] = {}
    for title in (column.title for column in summary.columns):
        for group, entries in placed.items():
            points = [(x, r.values[title].error_bar) for r, x in entries if title in r.values]
            panel, line = (title, group) if grouped else ("", title)
            panels.setdefault(panel, {})[line] = sorted(points)
        if reference is not None and title in reference.values:
            panel, line = (title, "") if grouped else ("", title)
            levels.setdefault(panel, {})[line] = reference.values[title].mean
    title = _title(summary, spec, reference)
    return line_panels(panels, title=title, label=label, levels=levels, **style)
