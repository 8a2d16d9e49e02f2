"""Figure 4: sorted mean channel maps of several models, with their distances to the teacher's."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from ...common.errors import RecipeError
from ...common.validation import of_kind
from ...common.values import COUNT
from ...evaluation.channel_map_comparison import Comparison, compare_students
from ...evaluation.channel_map_distances import Distance
from ...studies.changes import sets
from ...studies.results import Results
from ..courses import run_folder
from .plot import Plot
from .style import COLOURS, LINES, WIDTH, NothingToShow, legend_below, new_figure

HEADS = ("sorted ℓ2", "cosine", "ℓ2")


class ChannelMaps(Plot):
    """The teacher's and the rows' students' channel maps, of each row's first finished seed.

    ``rows`` names the rows to show, by default all; ``n`` is a number of images.
    """

    runs_recipes = True
    kind: Literal["channel_maps"]
    rows: list[str] | None = None
    n: Annotated[int, of_kind(COUNT)] | None = None

    def words(self) -> str:
        """Say what it shows."""
        return "Sorted mean channel maps"

    def named_rows(self) -> Iterator[tuple[str, str]]:
        """Yield the rows to show."""
        yield from (("rows", name) for name in self.rows or ())

    def draw(self, results: Results, folder: Path) -> Figure:
        """Load the rows' students and draw.

        Raises:
            NothingToShow: if no row's recipe has both a teacher and an ACMLoss, or a recipe or a
                checkpoint is gone.
        """
        students = []
        for row in results.rows:
            run = next((r for r in row.runs if r.status == "done" and r.seed is not None), None)
            if run is None or row.name not in (self.rows or [row.name]):
                continue
            if run.checkpoint is None:
                raise NothingToShow("results.json doesn't say where the checkpoints are")
            checkpoint = str(run_folder(run, folder) / Path(run.checkpoint).name)
            students.append((row.name, row.base, sets(row.changes), checkpoint))
        try:
            comparison = compare_students(students, n=self.n)
        except (RecipeError, ValueError) as error:
            raise NothingToShow(str(error)) from error
        title = self.title or results.title
        return draw(comparison, title=f"{title}\n{comparison.caption}")


def markdown(comparison: Comparison) -> str:
    """Lay out the distances as a table, a line for each model and block."""
    lines = [
        f"| model | block | {' | '.join(HEADS)} |",
        "|---|---|" + "---:|" * len(HEADS),
        *(f"| {d.model} | {d.block} | {' | '.join(cells(d))} |" for d in comparison.distances),
    ]
    return "\n".join([*lines, "", comparison.caption]) + "\n"


def draw(comparison: Comparison, *, title: str = "") -> Figure:
    """Draw a panel for each block, with the distances below it."""
    blocks = comparison.blocks
    down = (len(blocks) + 1) // 2
    others = len(comparison.maps) - 1
    across = min(len(blocks), 2)
    ratios = [2.1, 0.25 + 0.17 * others]
    figure = new_figure(WIDTH, 0.9 + (sum(ratios) + 0.3) * down, title)
    axes = figure.subplots(2 * down, across, squeeze=False, height_ratios=ratios * down)
    for unused in axes.flat:
        unused.axis("off")
    handles: dict[str, Line2D] = {}
    for index, block in enumerate(blocks):
        row, column = 2 * (index // 2), index % 2
        handles |= _draw_curves(axes[row, column], block.name, comparison.maps)
        found = [d for d in comparison.distances if d.block == block.name]
        _draw_table(axes[row + 1, column], found)
    legend_below(figure, handles)
    return figure


def _draw_curves(
    panel: Axes, block: str, maps: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Line2D]:
    """Draw the sorted maps of a block; return a model's name to its curve."""
    panel.axis("on")
    # Of vectors of the same magnitude, the one with more entries has the smaller ones.
    unlike = len({len(own[block]) for own in maps.values()}) > 1
    curves = {}
    for number, (name, own) in enumerate(maps.items()):
        curve = own[block].sort()[0]
        (curves[name],) = panel.plot(
            torch.linspace(0, 1, len(curve)),
            curve * len(curve) ** 0.5 if unlike else curve,
            color=COLOURS[number % len(COLOURS)],
            linestyle=LINES[number % len(LINES)][1],
            linewidth=1.6,
            label=name,
        )
    panel.set_title(block, fontsize=9)
    panel.set_xlabel("channels, sorted (share)", fontsize=8)
    scale = " × √channels" if unlike else ""
    panel.set_ylabel(f"mean of the normalised map{scale}", fontsize=8)
    panel.tick_params(labelsize=7)
    panel.spines[["top", "right"]].set_visible(False)
    return curves


def _draw_table(panel: Axes, distances: Sequence[Distance]) -> None:
    table = panel.table(
        [cells(d) for d in distances],
        rowLabels=[d.model for d in distances],
        colLabels=HEADS,
        colWidths=[0.25] * len(HEADS),
        loc="center",
        edges="horizontal",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    for cell in table.get_celld().values():
        cell.set_linewidth(0.5)


def cells(distance: Distance) -> list[str]:
    """Write a distance's figures, in the order of ``HEADS``."""
    values = (distance.sorted_l2, distance.cosine, distance.l2)
    return ["–" if value is None else f"{value:.3f}" for value in values]
