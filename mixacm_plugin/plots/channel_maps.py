"""Figure 4: sorted mean channel maps of several models, with their distances to the teacher's."""

import argparse
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..evaluation import evaluation_dataset, load_model
from ..library import recipe_names
from ..recipe import Recipe, RecipeError, read_recipe
from ..sections import model_sections
from .channel_map_distances import Block, Distance, blocks_of, distances, mean_channel_maps
from .style import COLOURS, LINES, WIDTH, NothingToShow, legend_below, new_figure

TEACHER = "teacher"
HEADS = ("sorted ℓ2", "cosine", "ℓ2")
RECIPE = re.compile(r"(?P<recipe>.+?\.ya?ml)(:(?P<role>teacher|student))?(:(?P<ckpt>.+))?")


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a recipe, its role there, and a checkpoint if not the recipe's."""

    recipe: Recipe
    role: str
    checkpoint: str | None = None


def parse_source(text: str, recipe: Recipe) -> tuple[str, Source]:
    """Read a model's name and where it comes from.

    Args:
        text: ``teacher`` or ``student``, of ``recipe``; ``NAME=CHECKPOINT``, weights for the
            student of ``recipe`` (for its teacher, if that is the name); or
            ``NAME=RECIPE[:ROLE[:CHECKPOINT]]``, a model of another recipe, by default its student
            with the checkpoint that the recipe names.
        recipe: the one that names data and hook points.

    Raises:
        RecipeError: if the text is none of these, or the other recipe can't be read.
    """
    name, separator, value = text.partition("=")
    role = TEACHER if name == TEACHER else "student"
    if not separator:
        if name not in ("teacher", "student"):
            raise recipe.error(
                f"--models {text}", "expected teacher, student, NAME=CHECKPOINT or NAME=RECIPE"
            )
        return name, Source(recipe, role)
    if not name or not value:
        raise recipe.error(f"--models {text}", "expected NAME=CHECKPOINT or NAME=RECIPE")
    if value in recipe_names():
        return name, Source(read_recipe(value), "student", None)
    other = RECIPE.fullmatch(value)
    if other is None:
        return name, Source(recipe, role, value)
    return name, Source(read_recipe(other["recipe"]), other["role"] or "student", other["ckpt"])


@dataclass(frozen=True)
class Comparison:
    """Mean channel maps of several models, and each one's distances to the teacher's."""

    maps: Mapping[str, Mapping[str, Tensor]]
    distances: Sequence[Distance]
    blocks: Sequence[Block]
    caption: str

    def markdown(self) -> str:
        """Lay out the distances as a table, a line for each model and block."""
        lines = [
            f"| model | block | {' | '.join(HEADS)} |",
            "|---|---|" + "---:|" * len(HEADS),
            *(f"| {d.model} | {d.block} | {' | '.join(cells(d))} |" for d in self.distances),
        ]
        return "\n".join([*lines, "", self.caption]) + "\n"


def compare(
    recipe: Recipe,
    sources: Mapping[str, Source],
    *,
    blocks: Sequence[str] = (),
    n: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Comparison:
    """Compare models' mean channel maps with the teacher's, on a recipe's test images.

    Args:
        recipe: names the images and, in its ACMLoss, the hook points.
        sources: a model's name to where it comes from; ``teacher`` and others.
        blocks: hook points for all models, see ``blocks_of``; by default the recipe's.
        n: number of images; by default 500, or all where there are fewer.
        seed: of their choice.
        device: where to run.

    Raises:
        RecipeError: if a model, the images or a hook point can't be had.
    """
    if TEACHER not in sources:
        raise recipe.error("--models", f"expected one named {TEACHER}, to compare the others with")
    if len(sources) == 1:
        raise recipe.error("--models", "expected a model besides the teacher")
    hooked, mapping = blocks_of(recipe, blocks)
    dataset = evaluation_dataset(recipe)
    n = min(500, len(dataset)) if n is None else n
    maps = {}
    for name, source in sources.items():
        model = load_model(source.recipe, source.role, source.checkpoint)
        # A recipe that trains the robust teacher has it as its student.
        role = TEACHER if name == TEACHER else source.role
        try:
            maps[name] = mean_channel_maps(
                model, dataset, hooked, role=role, mapping=mapping, n=n, seed=seed, device=device
            )
        except (ValueError, TypeError, RuntimeError) as error:
            raise recipe.error(f"--models {name}", str(error)) from error
    caption = (
        f"Normalised channel maps ({mapping}), mean over n = {n} test images, seed {seed}. "
        "Against the teacher: ℓ2 distance of the sorted curves; channel by channel, unsorted, "
        "cosine similarity and ℓ2 distance."
    )
    return Comparison(maps, distances(maps, hooked), hooked, caption)


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
    handles = {}
    for index, block in enumerate(blocks):
        panel = axes[2 * (index // 2), index % 2]
        panel.axis("on")
        # Of vectors of the same magnitude, the one with more entries has the smaller ones.
        unlike = len({len(maps[block.name]) for maps in comparison.maps.values()}) > 1
        for number, (name, maps) in enumerate(comparison.maps.items()):
            curve = maps[block.name].sort()[0]
            positions = torch.linspace(0, 1, len(curve))
            (handles[name],) = panel.plot(
                positions,
                curve * len(curve) ** 0.5 if unlike else curve,
                color=COLOURS[number % len(COLOURS)],
                linestyle=LINES[number % len(LINES)][1],
                linewidth=1.6,
                label=name,
            )
        panel.set_title(block.name, fontsize=9)
        panel.set_xlabel("channels, sorted (share)", fontsize=8)
        scale = " × √channels" if unlike else ""
        panel.set_ylabel(f"mean of the normalised map{scale}", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
        found = [d for d in comparison.distances if d.block == block.name]
        table = axes[2 * (index // 2) + 1, index % 2].table(
            [cells(d) for d in found],
            rowLabels=[d.model for d in found],
            colLabels=HEADS,
            colWidths=[0.25] * len(HEADS),
            loc="center",
            edges="horizontal",
        )
        table.auto_set_font_size(False)
        table.set_fontsize(7)
        for cell in table.get_celld().values():
            cell.set_linewidth(0.5)
    legend_below(figure, handles)
    return figure


def cells(distance: Distance) -> list[str]:
    """Write a distance's figures, in the order of ``HEADS``."""
    values = (distance.sorted_l2, distance.cosine, distance.l2)
    return ["–" if value is None else f"{value:.3f}" for value in values]


def channel_maps_of_study(
    results: Mapping[str, Any], folder: str | os.PathLike[str], spec: Mapping[str, Any]
) -> Figure:
    """Draw the teacher's and the rows' students' channel maps, of each row's first finished seed.

    Args:
        results: content of a study's ``results.json``. Of a run ``checkpoint`` is read, a path
            that is absolute or relative to ``folder`` or to here, and, for its recipe, ``command``.
        folder: the study's.
        spec: ``rows``, names of the rows to show, by default all, and ``n``, of images.

    Raises:
        NothingToShow: if no row's recipe has both a teacher and an ACMLoss, or a recipe or a
            checkpoint is gone.
    """
    sources: dict[str, Source] = {}
    recipe = None
    for row in results["rows"]:
        run = next((run for run in row["runs"] if run["status"] == "done"), None)
        if run is None or row["name"] not in (spec.get("rows") or [row["name"]]):
            continue
        try:
            read = recipe_of_command(run["command"])
        except RecipeError as error:
            raise NothingToShow(str(error)) from error
        sources[row["name"]] = Source(read, "student", _checkpoint(run, Path(folder)))
        if recipe is None and _has_pairs(read):
            recipe = read
    if recipe is None:
        raise NothingToShow("no finished row's recipe has a teacher and an ACMLoss")
    sources[TEACHER] = Source(recipe, TEACHER)
    try:
        comparison = compare(recipe, sources, n=spec.get("n"))
    except RecipeError as error:
        raise NothingToShow(str(error)) from error
    title = spec.get("title") or results["title"]
    return draw(comparison, title=f"{title}\n{comparison.caption}")


def _has_pairs(recipe: Recipe) -> bool:
    try:
        blocks_of(recipe)
    except RecipeError:
        return False
    return TEACHER in model_sections({"models": recipe.build("models")})


def _checkpoint(run: Mapping[str, Any], folder: Path) -> str:
    checkpoint = run.get("checkpoint")
    if checkpoint is None:
        raise NothingToShow("results.json doesn't say where the checkpoints are")
    beside = folder / checkpoint
    return str(beside if beside.exists() else checkpoint)


def recipe_of_command(command: str) -> Recipe:
    """Read the recipe, with its overrides, that a ``torchdistill`` command trains."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    known, _ = parser.parse_known_args(shlex.split(command)[1:])
    return read_recipe(known.config, known.overrides)
