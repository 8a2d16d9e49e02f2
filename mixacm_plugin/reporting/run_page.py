"""A training run's page: its course, its recipe, and how to repeat it."""

import base64
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..common.checkpoints import CheckpointError, load_checkpoint
from ..studies.changes import recipe_arguments
from ..studies.recipes import student_path
from .courses import Course, Metrics, accuracy_keys, accuracy_words, read_metrics
from .html import inline, render
from .plots.training import draw_training
from .row_details import AGAIN
from .tables import NOTHING


def run_page(folder: Path) -> str:
    """Lay out the page of a training run.

    Args:
        folder: of the student's checkpoint and ``metrics.jsonl``.

    Raises:
        RecipeError: if the metrics can't be read.
    """
    metrics = read_metrics(folder)
    name = folder.resolve().name
    checkpoint, problem = _checkpoint(folder)
    recipe = checkpoint.get("recipe")
    recipe = recipe if isinstance(recipe, str) else ""
    arguments = checkpoint.get("args")
    seed = arguments.get("seed") if isinstance(arguments, Mapping) else None
    terms = list(dict.fromkeys(term for epoch in metrics for term in epoch["terms"]))
    keys = accuracy_keys(metrics)
    return render(
        "run.html.j2",
        title=name,
        subtitle=f"Training run in {folder}",
        facts=list(_facts(metrics, keys, seed, folder)),
        picture=(f"Course of training of {name}", inline(draw_training([Course(name, metrics)]))),
        heads=("epoch", "loss", *terms, "learning rate", *map(accuracy_words, keys), "seconds"),
        epochs=[_line(epoch, terms, keys) for epoch in metrics],
        recipe=recipe,
        no_recipe=problem or "The checkpoint holds no recipe.",
        source=f"data:text/yaml;base64,{base64.b64encode(recipe.encode()).decode()}",
        commands=_commands(recipe, seed, name),
    )


def _checkpoint(folder: Path) -> tuple[dict[str, Any], str]:
    """Return a run's last checkpoint, and why there is none that can be read."""
    files = sorted(file for file in folder.glob("*.pt") if not file.name.startswith("best_"))
    problem = f"No checkpoint (.pt) lies in {folder}, which would hold the recipe."
    for file in files:
        try:
            content = load_checkpoint(file)
        except CheckpointError as error:
            problem = str(error)
            continue
        if isinstance(content, Mapping) and "recipe" in content:
            return dict(content), ""
        problem = f"{file} holds no recipe."
    return {}, problem


def _facts(
    metrics: Metrics, keys: list[str], seed: int | None, folder: Path
) -> Iterator[tuple[str, list[str]]]:
    last = metrics[-1]
    seconds = [epoch["seconds"] for epoch in metrics if epoch["seconds"] is not None]
    took = f", {sum(seconds):.0f} s" if seconds else ""
    yield "Trained", [f"{last['epoch'] + 1} epochs{took}"]
    yield "Seed", ["not said" if seed is None else str(seed)]
    for key in keys:
        measured = [epoch for epoch in metrics if key in epoch]
        best = max(measured, key=lambda epoch: epoch[key])
        latest = measured[-1]
        words = accuracy_words(key)
        yield (
            words[0].upper() + words[1:],
            [
                f"{100 * latest[key]:.1f} % after epoch {latest['epoch'] + 1}; "
                f"best {100 * best[key]:.1f} % after epoch {best['epoch'] + 1}"
            ],
        )
    yield "Files", [", ".join(sorted(file.name for file in folder.glob("*.pt"))) or "no checkpoint"]


def _line(epoch: Mapping[str, Any], terms: list[str], keys: list[str]) -> tuple[str, ...]:
    def percent(key: str) -> str:
        return f"{100 * epoch[key]:.1f} %" if key in epoch else NOTHING

    found = [epoch["terms"].get(term) for term in terms]
    return (
        str(epoch["epoch"] + 1),
        f"{epoch['loss']:.4g}",
        *(NOTHING if value is None else f"{value:.4g}" for value in found),
        f"{epoch['lr']:.3g}",
        *map(percent, keys),
        NOTHING if epoch["seconds"] is None else f"{epoch['seconds']:.1f}",
    )


def _commands(recipe: str, seed: int | None, name: str) -> list[str]:
    """Return the commands that train a run's student again, in another folder, and test it."""
    student = student_path(recipe)
    if not student:
        return []
    moved = f"{student}.dst_ckpt={AGAIN}/{name}/student.pt"
    arguments = recipe_arguments("recipe.yaml", [moved])
    seeded = [] if seed is None else ["--seed", str(seed)]
    return [
        shlex.join(["torchdistill", *arguments, *seeded]),
        shlex.join(["mixacm", "evaluate", *arguments, "--attack", "clean"]),
    ]
