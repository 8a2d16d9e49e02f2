"""Pictures of training: loss terms, learning rate and validation accuracy of runs."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ...common.errors import RecipeError, UserError
from ...common.files import read_json_lines
from ...studies.results import read_results
from .style import COLOURS, LINES, WIDTH, legend_below, new_figure

Metrics = list[dict[str, Any]]  # of each epoch, as in metrics.jsonl
KEYS = ("epoch", "loss", "terms", "lr", "val_accuracy")
# Accuracies that some runs have, in some epochs.
MORE = {
    "robust_val_accuracy": "robust validation accuracy (%)",
    "ema_val_accuracy": "moving average: validation accuracy (%)",
    "ema_robust_val_accuracy": "moving average: robust validation accuracy (%)",
}


def read_metrics(run: str | os.PathLike[str]) -> Metrics:
    """Read a run's metrics, an entry an epoch.

    Of an epoch that was trained twice, after resuming from an older checkpoint, the later one
    counts; a last line that was cut off by a kill is left out.

    Args:
        run: the folder of the student's checkpoint, or the ``metrics.jsonl`` in it.

    Raises:
        RecipeError: if it can't be read or isn't what ``torchdistill`` writes.
    """
    path = Path(run)
    path = path / "metrics.jsonl" if path.is_dir() else path
    if not path.exists():
        raise RecipeError(path, "", "no such file; expected the folder of a student's dst_ckpt")
    try:
        epochs = {
            metrics["epoch"]: {
                **{key: metrics[key] for key in KEYS},
                **{key: metrics[key] for key in MORE if key in metrics},
            }
            for metrics in read_json_lines(path)
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"not a run's metrics: {type(error).__name__}: {error}"
        raise RecipeError(path, "", message) from error
    if not epochs:
        raise RecipeError(path, "", "no epoch has been finished")
    return [epochs[epoch] for epoch in sorted(epochs)]


def read_runs(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Metrics]:
    """Read the metrics of runs, and of those in studies' folders, by short names.

    Args:
        paths: see ``read_metrics``; or folders that ``mixacm study`` wrote.

    Raises:
        RecipeError: if one can't be read.
    """
    files: dict[str, str | os.PathLike[str]] = {}
    alone = [path for path in paths if not (Path(path) / "results.json").is_file()]
    files.update(zip(_names(alone), alone, strict=True))
    for folder in (path for path in paths if path not in alone):
        for row in read_results(folder).rows:
            for run in row.runs:
                if run.status == "done" and run.checkpoint is not None:
                    files[f"{row.name}, seed {run.seed}"] = Path(run.checkpoint).parent
    return {name: read_metrics(file) for name, file in files.items()}


def _names(runs: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Short names that tell runs apart: their folders, without what they have in common."""
    folders = [Path(run).parent if Path(run).is_file() else Path(run) for run in runs]
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < 2:
        return [folder.name for folder in resolved]
    common = Path(os.path.commonpath(resolved))
    names = [folder.relative_to(common).as_posix() for folder in resolved]
    return [name if name != "." else common.name for name in names]


def draw_training(runs: Mapping[str, Metrics]) -> Figure:
    """Draw a panel each for the loss, its terms, the learning rate and validation accuracies.

    Args:
        runs: a run's name to its metrics; a line each in every panel.
    """
    terms = dict.fromkeys(term for run in runs.values() for m in run for term in m["terms"])
    panels: dict[str, Callable[[dict[str, Any]], float]] = {"loss": lambda m: m["loss"]}
    if len(terms) > 1:
        for term in terms:
            panels[f"loss term: {term}"] = partial(_term, term)
    panels["learning rate"] = lambda m: m["lr"]
    panels["validation accuracy (%)"] = lambda m: 100 * m["val_accuracy"]
    for key, title in MORE.items():
        if any(key in m for run in runs.values() for m in run):
            panels[title] = partial(_percent, key)
    down = math.ceil(len(panels) / 2)
    figure = new_figure(WIDTH, 0.5 + 2.1 * down)
    axes = list(figure.subplots(down, 2, squeeze=False).flat)
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    for here, (title, value) in zip(axes, panels.items(), strict=False):
        for index, (name, metrics) in enumerate(runs.items()):
            points = [(m["epoch"] + 1, value(m)) for m in metrics]
            points = [point for point in points if point[1] == point[1]]  # NaN is no figure
            here.plot(
                [epoch for epoch, _ in points],
                [number for _, number in points],
                color=COLOURS[index % len(COLOURS)],
                linestyle=LINES[index % len(LINES)][1],
                # A single epoch is no line.
                marker="o" if len(points) == 1 else "",
                linewidth=1.4,
                label=name,
            )
        here.set_title(title, fontsize=9)
        here.set_xlabel("epoch", fontsize=8)
        here.tick_params(labelsize=8)
        here.spines[["top", "right"]].set_visible(False)
        here.grid(axis="y", color="#dddddd", linewidth=0.6)
    handles, labels = axes[0].get_legend_handles_labels()
    legend_below(figure, dict(zip(labels, handles, strict=True)))
    return figure


def _term(name: str, metrics: Mapping[str, Any]) -> float:
    return metrics["terms"].get(name, math.nan)


def _percent(key: str, metrics: Mapping[str, Any]) -> float:
    return 100 * metrics.get(key, math.nan)


def write_events(runs: Mapping[str, Metrics], folder: str | os.PathLike[str]) -> None:
    """Write runs as TensorBoard event files, a folder each.

    Args:
        runs: a run's name to its metrics.
        folder: TensorBoard's ``--logdir``.

    Raises:
        UserError: if the extra ``tensorboard`` isn't installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        message = "TensorBoard isn't installed; pip install 'mixacm-plugin[tensorboard]'"
        raise UserError(f"--tensorboard: {message}") from error
    for name, metrics in runs.items():
        with SummaryWriter(str(Path(folder) / name)) as writer:
            for m in metrics:
                scalars = {"loss": m["loss"], "lr": m["lr"], "val_accuracy": m["val_accuracy"]}
                scalars.update({key: m[key] for key in MORE if key in m})
                scalars.update({f"loss_terms/{term}": v for term, v in m["terms"].items()})
                for tag, value in scalars.items():
                    writer.add_scalar(tag, value, m["epoch"] + 1)
