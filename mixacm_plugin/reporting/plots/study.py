"""Pictures of a study: which ones its file asks for, and their files."""

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...common.errors import RecipeError, nearest, raise_all
from ...common.validation import validated
from ...studies.results import Results
from .channel_maps import ChannelMaps
from .kinds import Bars, Cost, Curve, DepthWidth, SizeRatio
from .plot import Plot
from .style import NothingToShow, save

logger = logging.getLogger("mixacm")

# A new kind of plot goes here.
KINDS: dict[str, type[Plot]] = {
    "bars": Bars,
    "curve": Curve,
    "size_ratio": SizeRatio,
    "depth_width": DepthWidth,
    "cost": Cost,
    "channel_maps": ChannelMaps,
}


def read_plots(
    specs: Sequence[Any], rows: Collection[str], file: str | os.PathLike[str]
) -> list[Plot]:
    """Read the ``plots`` of a study.

    Args:
        specs: kind and keys of each, as plain values.
        rows: names of the study's rows.
        file: that they are in, for errors.

    Raises:
        RecipeError: on every unknown kind, key or row, missing key, or value of the wrong kind.
    """
    error = partial(RecipeError, file)
    plots, errors = [], []
    for index, spec in enumerate(specs):
        kind = spec.get("kind") if isinstance(spec, dict) else spec
        if not isinstance(kind, str) or kind not in KINDS:
            known, hint = ", ".join(KINDS), nearest(str(kind), KINDS)
            message = f"expected one of {known}; found {kind!r}.{hint}"
            errors.append(error(f"plots.{index}.kind", message))
            continue
        try:
            plot = validated(KINDS[kind], spec, error, f"plots.{index}")
        except RecipeError as problem:
            errors += getattr(problem, "errors", [problem])
            continue
        for key, row in plot.named_rows():
            if row not in rows:
                message = f"no row {row!r}; there is {', '.join(rows)}.{nearest(row, rows)}"
                errors.append(error(f"plots.{index}.{key}", message))
        plots.append(plot)
    raise_all(errors)
    return plots


def draw_all(
    results: Results, folder: str | os.PathLike[str], *, missing_only: bool = False
) -> list[tuple[Plot, Path]]:
    """Draw what a study's ``plots`` ask for, each as PNG and SVG.

    A plot that has nothing to show, since its rows failed, is left out with a warning; pictures of
    it from other results are removed.

    Args:
        results: of the study.
        folder: where to; made where it is missing.
        missing_only: keep the pictures that are there, and run none of the results' recipes, since
            these may be somebody else's.

    Returns:
        Each plot and its files, without their ending, in the order of ``plots``.

    Raises:
        RecipeError: on malformed ``plots``.
    """
    folder, drawn = Path(folder), []
    plots = read_plots(results.plots, [row.name for row in results.rows], folder / "results.json")
    for stem, plot in stems(plots):
        there = [folder / f"{stem}.{ending}" for ending in ("png", "svg")]
        if not missing_only or not all(file.is_file() for file in there):
            try:
                if missing_only and plot.runs_recipes:
                    raise NothingToShow("only mixacm study, which runs the recipes, draws it")
                save(plot.draw(results, folder), folder / stem)
            except NothingToShow as reason:
                logger.warning("no picture %s: %s", stem, reason)
                for file in [] if missing_only else there:
                    file.unlink(missing_ok=True)
        if there[1].is_file():
            drawn.append((plot, folder / stem))
    return drawn


def stems(plots: Sequence[Plot]) -> Iterator[tuple[str, Plot]]:
    """Yield each plot's file name, without its ending, and the plot."""
    seen: dict[str, int] = {}
    for plot in plots:
        name = plot.stem()
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}_{seen[name]}"), plot
