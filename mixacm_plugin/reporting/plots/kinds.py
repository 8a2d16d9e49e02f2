"""What each kind of plot is set by, and what it draws of a study."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from pydantic import Field

from ..summary import Row, Summary
from .plot import Group, Grouped, KeyPath, Plot, dotted, number_at, reference_row, title_of
from .style import MISSING, NothingToShow, horizontal_bars

logger = logging.getLogger("mixacm")


class Bars(Plot):
    """Bars of all rows that were run; of the row ``reference`` a dotted line (figure 7b)."""

    kind: Literal["bars"]
    reference: str | None = None

    def words(self) -> str:
        """Say what it shows."""
        return f"Accuracy of each row{dotted(self.reference)}"

    def named_rows(self) -> Iterator[tuple[str, str]]:
        """Yield the dotted row."""
        yield from [("reference", self.reference)] if self.reference else []

    def of_summary(self, summary: Summary) -> Figure:
        """Draw it from averages over seeds."""
        reference = reference_row(summary, self.reference)
        rows = [row for row in summary.rows if row is not reference and (row.done or row.failed)]
        if not any(row.values for row in rows):
            raise NothingToShow("no row finished")
        series = {
            c.title: [r.values[c.title].error_bar if c.title in r.values else MISSING for r in rows]
            for c in summary.columns
        }
        marks = {
            title: [r.mark(title) if title in r.values else "" for r in rows] for title in series
        }
        lines = {title: v.mean for title, v in reference.values.items()} if reference else {}
        title = title_of(summary, self.title, reference)
        if any(map(any, marks.values())):
            title += "; †: see the table"
        names = [row.label for row in rows]
        return horizontal_bars(names, series, title=title, marks=marks, lines=lines)


class Curve(Grouped):
    """Accuracy and robustness against one numeric override (figure 7a), in groups where asked."""

    kind: Literal["curve"]
    x: KeyPath
    log: bool = False
    label: str | None = None
    reference: str | None = None

    @property
    def axis(self) -> str:
        """Label of the horizontal axis."""
        return self.label or str(self.x).rpartition(".")[2]

    def stem(self) -> str:
        """Return its file's name, with what it is against."""
        return f"curve_{self.x.rpartition('.')[2]}"

    def words(self) -> str:
        """Say what it shows."""
        grouped = ", in groups" if self.group else ""
        return f"Accuracy against {self.axis}{grouped}{dotted(self.reference)}"

    def named_rows(self) -> Iterator[tuple[str, str]]:
        """Yield the dotted row and those of groups."""
        yield from [("reference", self.reference)] if self.reference else []
        yield from super().named_rows()

    def of_summary(self, summary: Summary) -> Figure:
        """Draw it from averages over seeds."""
        reference = reference_row(summary, self.reference)
        summary = replace(summary, rows=tuple(r for r in summary.rows if r is not reference))
        groups = {
            name: [(row, number_at(row, self.x)) for row in rows]
            for name, rows in self.groups(summary).items()
        }
        placed = {
            name: [(row, x) for row, x in rows if x is not None and row.values]
            for name, rows in groups.items()
        }
        if not any(placed.values()):
            raise NothingToShow(f"no finished row has a number for {self.x}")
        for row, x in (entry for entries in groups.values() for entry in entries):
            if x is None and row.values:
                told = "a curve against %s leaves out %r, which sets no number there itself"
                logger.warning(told, self.x, row.name)
        figure, panels = self.panels(summary, placed, self.axis, reference)
        xs = sorted({x for rows in placed.values() for _, x in rows})
        for axes in panels:
            if self.log:
                _log_axis(axes, xs)
            elif len(xs) <= 8:
                axes.set_xticks(xs, [f"{x:g}" for x in xs])
        return figure


class DepthWidth(Plot):
    """Accuracy and robustness against depth, a line for each width (figure 6a)."""

    kind: Literal["depth_width"]
    depth: KeyPath
    width: KeyPath

    def words(self) -> str:
        """Say what it shows."""
        return "Accuracy against depth and width"

    def of_summary(self, summary: Summary) -> Figure:
        """Draw it from averages over seeds."""
        curve = Curve(
            kind="curve",
            x=self.depth,
            label="depth",
            group=self.width,
            group_label="width",
            title=self.title,
        )
        return curve.of_summary(summary)


class SizeRatio(Grouped):
    """Accuracy and robustness against the student's size, dotted at 0.1 (figure 6b)."""

    kind: Literal["size_ratio"]

    def words(self) -> str:
        """Say what it shows."""
        return f"Accuracy against the student's size{', in groups' if self.group else ''}"

    def of_summary(self, summary: Summary) -> Figure:
        """Draw it from averages over seeds."""
        placed = {
            name: [(row, row.size_ratio) for row in rows if row.size_ratio and row.values]
            for name, rows in self.groups(summary).items()
        }
        if not any(placed.values()):
            raise NothingToShow("no finished row has a size ratio")
        figure, panels = self.panels(summary, placed, "size: student / teacher parameters")
        for axes in panels:
            _plain_log_axis(axes)
            axes.axvline(0.1, color="#888888", linestyle=":", linewidth=1.2)
        return figure


class Cost(Grouped):
    """Robust accuracy against what a training step costs, a point for each row."""

    kind: Literal["cost"]
    group: Group
    names: list[str] = Field(default_factory=list)

    def words(self) -> str:
        """Say what it shows."""
        return "Robust accuracy against the cost of a training step, in groups"

    def named_rows(self) -> Iterator[tuple[str, str]]:
        """Yield the rows that are written beside their points, and those of groups."""
        yield from (("names", name) for name in self.names)
        yield from super().named_rows()

    def of_summary(self, summary: Summary) -> Figure:
        """Draw it from averages over seeds."""
        attacks = tuple(column for column in summary.columns if column.attacked)
        summary = replace(summary, columns=attacks)
        titles = {column.title for column in attacks}
        placed = {
            name: [
                (row, row.relative_cost)
                for row in rows
                if row.relative_cost and titles & set(row.values)
            ]
            for name, rows in self.groups(summary).items()
        }
        if not any(placed.values()):
            raise NothingToShow("no finished row has a cost and an attack")
        label = f"seconds per training step, relative to {summary.rows[0].name}"
        figure, panels = self.panels(summary, placed, label, joined=False, across=1)
        for axes in panels:
            _plain_log_axis(axes)
            left, right = axes.get_xlim()
            axes.set_xlim(left, right * (right / left) ** 0.1)  # room for names
            self._write_names(axes, [e for entries in placed.values() for e in entries])
        return figure

    def _write_names(self, axes: Axes, entries: Sequence[tuple[Row, float]]) -> None:
        left, right = axes.get_xlim()
        middle, title = (left * right) ** 0.5, axes.get_title()
        for row, x in entries:
            if row.name in self.names and title in row.values:
                # Most rows cost little more than the first: there is room on their left.
                side: dict[str, Any] = {"xytext": (4, 4)}
                if x < middle:
                    side = {"ha": "right", "xytext": (-4, 4)}
                at = (x, 100 * row.values[title].mean)
                axes.annotate(row.name, at, textcoords="offset points", fontsize=7, **side)


def _plain_log_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def _log_axis(axes: Axes, xs: Sequence[float]) -> None:
    positive = [x for x in xs if x > 0]
    if len(positive) < len(xs) and positive:  # zero, the setting switched off, belongs on it too
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
    else:
        axes.set_xscale("log")
    if len(xs) <= 8:
        axes.set_xticks(xs, [f"{x:g}" for x in xs])
        axes.minorticks_off()
