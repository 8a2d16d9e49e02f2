"""What all kinds of plot have: keys, a file's name, words, rows in groups."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...common.validation import Spec, of_kind
from ...common.values import Kind, parse_number
from ...studies.results import Results, name_matches
from ..summary import Row, Summary, summarise
from .style import Point, line_panels

GROUP = Kind(
    "a key path, or names with a list or a pattern of rows each",
    lambda value: (
        isinstance(value, str)
        or (isinstance(value, Mapping) and all(isinstance(v, str | list) for v in value.values()))
    ),
)

KEY_PATH = Kind("a key path", lambda value: isinstance(value, str))
KeyPath: TypeAlias = Annotated[str, of_kind(KEY_PATH)]
Group: TypeAlias = Annotated[Any, of_kind(GROUP)]


class Plot(Spec):
    """A picture that a study's file asks for; a new kind is a class, and an entry in ``KINDS``."""

    runs_recipes: ClassVar[bool] = False  # whether it builds what the results' recipes name
    kind: str
    title: str | None = None

    def stem(self) -> str:
        """Return its file's name, without an ending."""
        return self.kind

    def words(self) -> str:
        """Say what it shows."""
        raise NotImplementedError

    def named_rows(self) -> Iterator[tuple[str, str]]:
        """Yield the rows that it names, each with the key."""
        return iter(())

    def draw(self, results: Results, folder: Path) -> Figure:
        """Draw it.

        Args:
            results: of the study.
            folder: of the study.

        Raises:
            NothingToShow: if no row has what it shows.
        """
        return self.of_summary(summarise(results))

    def of_summary(self, summary: Summary) -> Figure:
        """Draw it from averages over seeds."""
        raise NotImplementedError


class Grouped(Plot):
    """A plot with a line for each group of rows.

    A ``group`` is a key path, or a mapping of names to the rows of each: a list of them, or a
    pattern such as ``* PGD7-AT``.
    """

    group: Group | None = None
    group_label: str | None = None

    def named_rows(self) -> Iterator[tuple[str, str]]:
        """Yield the rows that its groups list."""
        for title, members in self.group.items() if isinstance(self.group, Mapping) else ():
            if isinstance(members, list):
                yield from ((f"group.{title}", name) for name in members)

    def groups(self, summary: Summary) -> dict[str, list[Row]]:
        """Return rows by group; all in one without a name where none is asked for."""
        group = self.group
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
        label = self.group_label or group.rpartition(".")[2]
        groups: dict[Any, list[Row]] = {}
        for row in summary.rows:
            value = override(row, group)
            if value is not None:
                value = value if isinstance(value, int | float) else str(value)
                groups.setdefault(value, []).append(row)
        return {f"{label} {value}": rows for value, rows in groups.items()}

    def panels(
        self,
        summary: Summary,
        placed: Mapping[str, Sequence[tuple[Row, float]]],
        label: str,
        reference: Row | None = None,
        **style: Any,
    ) -> tuple[Figure, list[Axes]]:
        """Draw a line per column in one panel or, where there are groups, a panel per column."""
        grouped = self.group is not None
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
        title = title_of(summary, self.title, reference)
        return line_panels(panels, title=title, label=label, levels=levels, **style)


def dotted(reference: str | None) -> str:
    """Name the row that is drawn as a dotted line, if there is one."""
    return f", dotted: {reference}" if reference else ""


def title_of(summary: Summary, title: str | None, reference: Row | None = None) -> str:
    """Return a figure's title, with what its figures hold for."""
    compared = f"; dotted: {reference.name}" if reference else ""
    return f"{title or summary.title}\n{summary.short_caption()}{compared}"


def reference_row(summary: Summary, name: str | None) -> Row | None:
    """Return a row by its name, if it finished."""
    return next((row for row in summary.rows if row.name == name and row.values), None)


def override(row: Row, path: str) -> Any:
    """A row's override of a key path, also as part of an overridden mapping; else ``None``."""
    for key, value in reversed(list(row.overrides.items())):  # the last replaces what was there
        if path == key or path.startswith(f"{key}."):
            for name in path[len(key) + 1 :].split(".") if path != key else []:
                value = value.get(name) if isinstance(value, Mapping) else None
            return value
    return None


def number_at(row: Row, path: str) -> float | None:
    """Return a row's override of a key path as a number, if it is one."""
    value = override(row, path)
    try:
        return None if value is None else parse_number(value)
    except ValueError:
        return None
