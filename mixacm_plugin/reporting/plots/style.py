"""Figures, legible in print and without telling red from green."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

# Okabe and Ito's colours, which stay apart under the common colour-vision deficiencies; the first
# three do so in grey too.
COLOURS = ("#56B4E9", "#D55E00", "#333333", "#009E73", "#CC79A7", "#E69F00", "#0072B2")
# Beside the colour, so that lines stay apart in grey: (marker, line style).
# Dotted is for what to compare with.
LINES = (
    ("o", "-"),
    ("s", "--"),
    ("D", "-."),
    ("^", (0, (8, 2))),
    ("v", "-"),
    ("P", "--"),
    ("X", "-."),
)
LEAST_SPAN = 4  # points of accuracy on an axis: noise of half a point isn't to look like a cliff
WIDTH = 5.2  # inches: fits a page, and shrunk to a phone's screen can still be read
MISSING = (float("nan"),) * 3
Point = tuple[float, tuple[float, float, float]]  # x, and an accuracy with its error bar's ends


class NothingToShow(Exception):
    """A plot's rows have nothing that it could show."""


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """Return an empty figure of a size in inches, its title broken into lines that fit."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(wrapped(title, width), fontsize=9)
    return figure


def wrapped(title: str, width: float) -> str:
    """Break each line of a title to a width in inches."""
    return "\n".join(textwrap.fill(line, int(13 * width)) for line in title.splitlines())


def save(figure: Figure, stem: Path) -> list[Path]:
    """Save a figure as PNG and SVG, byte for byte the same each time; return the files.

    Args:
        figure: what to save.
        stem: path without an ending.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "svg")]
    _take_names_as_written(figure)
    figure.savefig(files[0], dpi=200)
    save_svg(figure, files[1])
    return files


def save_svg(figure: Figure, file: Path | BinaryIO) -> None:
    """Save a figure as SVG, byte for byte the same each time."""
    _take_names_as_written(figure)
    with mpl.rc_context({"svg.hashsalt": "mixacm"}):
        figure.savefig(file, format="svg", metadata={"Date": None})


def _take_names_as_written(figure: Figure) -> None:
    """Let two dollar signs in a name be no formula, which may even be a wrong one."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":  # whose powers of ten are formulas
                for text in axis.findobj(Text):
                    text.set_parse_math(True)
                axis.label.set_parse_math(False)


def horizontal_bars(
    rows: Sequence[str],
    series: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    title: str,
    marks: Mapping[str, Sequence[str]],
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """Draw grouped bars of accuracies from top to bottom, for any number of rows, long names too.

    Args:
        rows: name of each group.
        series: name to, for each group, the value and the ends of its error bar, as fractions;
            ``MISSING`` where a row has no figure.
        title: says what the figures hold for.
        marks: a series' name to what stands after each group's figure.
        lines: a series' name to the accuracy, a fraction, at which to draw a dotted line.
    """
    height = 0.95 + len(rows) * (0.12 + 0.17 * len(series)) + 0.15 * title.count("\n")
    figure = new_figure(WIDTH, height, title)
    axes = figure.subplots()
    for index, (name, values) in enumerate(series.items()):
        positions = _offsets(len(rows), index, len(series))
        colour = COLOURS[index % len(COLOURS)]
        bars = axes.barh(
            positions,
            [100 * value for value, _, _ in values],
            0.8 / len(series) * 0.92,
            xerr=_errors(values),
            capsize=2,
            ecolor="#888888",
            color=colour,
            label=name,
        )
        labels = [
            "" if value != value else f"{100 * value:.1f}{mark}"
            for (value, _, _), mark in zip(values, marks[name], strict=True)
        ]
        white = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # over dotted lines
        axes.bar_label(bars, labels, padding=2, fontsize=7, bbox=white, zorder=4)
        if lines and name in lines:
            axes.axvline(100 * lines[name], color=colour, linestyle=":", linewidth=1.5, zorder=3)
    for position in range(len(rows)):
        if all(values[position][0] != values[position][0] for values in series.values()):
            axes.text(1, position, "failed", va="center", fontsize=8, style="italic")
    axes.set_yticks(range(len(rows)), [textwrap.fill(row, 24) for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("accuracy (%)", fontsize=8)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, ncols=len(series), loc="outside lower center", fontsize=8)
    return figure


def line_panels(
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    *,
    title: str,
    label: str,
    levels: Mapping[str, Mapping[str, float]] | None = None,
    joined: bool = True,
    across: int = 2,
) -> tuple[Figure, list[Axes]]:
    """Draw accuracies against a number, a line for each series, with error bars.

    Args:
        panels: a panel's title to its lines, a line's name to its points; accuracies as fractions.
        title: says what the figures hold for.
        label: of the horizontal axis.
        levels: a panel's title and a line's name to where to draw a dotted horizontal line.
        joined: draw the lines, rather than points alone.
        across: most panels side by side.
    """
    across = min(len(panels), across)
    down = math.ceil(len(panels) / across)
    figure = new_figure(WIDTH, 0.9 + (2.1 if across > 1 else 2.6) * down, title)
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    axes = axes[: len(panels)]
    handles = {}
    for here, (panel, lines) in zip(axes, panels.items(), strict=True):
        colours = {}
        for index, (name, points) in enumerate(lines.items()):
            colours[name] = COLOURS[index % len(COLOURS)]
            marker, style = LINES[index % len(LINES)]
            handles[name] = here.errorbar(
                [x for x, _ in points],
                [100 * value for _, (value, _, _) in points],
                yerr=_errors([accuracy for _, accuracy in points]) if points else None,
                color=colours[name],
                marker=marker,
                linestyle=style if joined else "none",
                markersize=4.5,
                linewidth=1.5,
                capsize=2,
                elinewidth=0.8,
            )
        for name, level in (levels or {}).get(panel, {}).items():
            colour = colours.get(name, "#333333")
            here.axhline(100 * level, color=colour, linestyle=":", linewidth=1.5)
        here.set_title(panel, fontsize=9)
        here.set_xlabel(label, fontsize=8)
        here.set_ylabel("accuracy (%)", fontsize=8)
        here.set_ylim(_accuracy_limits(*here.get_ylim()))
        here.tick_params(labelsize=8)
        here.spines[["top", "right"]].set_visible(False)
        here.grid(axis="y", color="#dddddd", linewidth=0.6)
    if any(handles):
        legend_below(figure, handles)
    return figure, axes


def _accuracy_limits(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis of per cent: no further than accuracies are, and of the least span."""
    low, high = max(low, -2), min(high, 102)
    if high - low < LEAST_SPAN:
        high = min((low + high + LEAST_SPAN) / 2, 100.5)
        low = high - LEAST_SPAN
    return low, high


def line_of(index: int) -> dict[str, Any]:
    """Colour and style of the line number ``index``; the first 21 all differ."""
    style = LINES[(index + index // len(COLOURS)) % len(LINES)][1]
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": style}


def legend_below(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Draw one legend for all axes of a figure, below them: label to the artist it explains."""
    widest = 0.6 + 0.062 * max(map(len, handles))  # inches, at this size of letters
    figure.legend(
        handles.values(),
        handles,
        frameon=False,
        ncols=max(1, min(len(handles), 4, int(figure.get_figwidth() / widest))),
        loc="outside lower center",
        fontsize=8,
        handlelength=3,
    )


def _offsets(rows: int, index: int, series: int) -> list[float]:
    return [row + (index - (series - 1) / 2) * 0.8 / series for row in range(rows)]


def _errors(values: Sequence[tuple[float, float, float]]) -> list[list[float]]:
    return [
        [100 * (value - low) for value, low, _ in values],
        [100 * (high - value) for value, _, high in values],
    ]
