"""Figures, legible in print and without telling red from green."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours, which stay apart under the common colour-vision deficiencies; the first
# three do so in grey too.
COLOURS = ("#56B4E9", "#D55E00", "#333333", "#009E73", "#CC79A7", "#E69F00", "#0072B2")


def bar_chart(
    path: str | Path,
    rows: Sequence[str],
    series: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    title: str,
) -> Figure:
    """Draw grouped bars of accuracies with error bars.

    Args:
        path: file to write; its ending decides the format.
        rows: name of each group.
        series: name to, for each group, the value and the ends of its error bar, as fractions.
        title: says what the figures hold for.
    """
    figure = Figure(figsize=(1.5 + 1.5 * len(rows), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    width = 0.8 / len(series)
    for index, (name, values) in enumerate(series.items()):
        positions = [row + (index - (len(series) - 1) / 2) * width for row in range(len(rows))]
        heights = [100 * value for value, _, _ in values]
        errors = [
            [100 * (value - low) for value, low, _ in values],
            [100 * (high - value) for value, _, high in values],
        ]
        bars = axes.bar(
            positions,
            heights,
            width * 0.94,
            yerr=errors,
            capsize=2.5,
            ecolor="#888888",
            color=COLOURS[index],
            label=name,
        )
        axes.bar_label(bars, fmt="%.0f", padding=1, fontsize=8)
    axes.set_xticks(range(len(rows)), rows)
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 106)
    axes.set_yticks(range(0, 101, 20))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, ncols=len(series), loc="upper center", bbox_to_anchor=(0.5, -0.1))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return figure
