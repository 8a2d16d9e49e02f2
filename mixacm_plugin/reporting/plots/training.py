"""Pictures of training: loss terms, learning rate and validation accuracies of runs."""

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ...common.errors import UserError
from ..courses import Course, accuracy_keys, accuracy_words
from .style import WIDTH, legend_below, line_of, new_figure, wrapped

WIDE = 50  # a loss whose largest value is so many times the smallest is drawn on a log axis


def draw_training(courses: Sequence[Course]) -> Figure:
    """Draw a panel each for the loss, its terms, the learning rate and validation accuracies.

    Args:
        courses: a line each in every panel; those of one name are drawn alike.
    """
    panels = _panels(courses)
    numbers = {name: index for index, name in enumerate(dict.fromkeys(c.name for c in courses))}
    down = math.ceil(len(panels) / 2)
    figure = new_figure(WIDTH, 0.5 + 2.1 * down + 0.1 * len(numbers))
    axes = list(figure.subplots(down, 2, squeeze=False).flat)
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    handles = {}
    for index, (here, (heading, value)) in enumerate(zip(axes, panels.items(), strict=False)):
        for course in courses:
            points = [(m["epoch"] + 1, value(m)) for m in course.metrics]
            points = [(x, y) for x, y in points if math.isfinite(y)]
            (handles[course.name],) = here.plot(
                [x for x, _ in points],
                [y for _, y in points],
                **line_of(numbers[course.name]),
                # A single epoch is no line; and what is measured now and then is shown as such.
                marker="o" if len(points) < max(2, len(course.metrics)) else "",
                markersize=3.5,
                linewidth=1.4 if len(courses) == len(numbers) else 1,
            )
        here.set_title(wrapped(heading, 0.4 * WIDTH), fontsize=9)
        here.set_xlabel("epoch" if index >= len(panels) - 2 else "", fontsize=8)
        here.tick_params(labelsize=8)
        here.xaxis.get_major_locator().set_params(integer=True)
        here.spines[["top", "right"]].set_visible(False)
        here.grid(axis="y", color="#dddddd", linewidth=0.6)
        ys = [y for line in here.lines for y in line.get_ydata()]
        if heading.startswith("loss") and ys and 0 < min(ys) * WIDE < max(ys):
            here.set_yscale("log")
    legend_below(figure, handles)
    return figure


def _panels(courses: Sequence[Course]) -> dict[str, Callable[[dict[str, Any]], float]]:
    """Return each panel's heading, and what is drawn of an epoch; NaN where it lacks that."""
    epochs = [epoch for course in courses for epoch in course.metrics]
    terms = dict.fromkeys(term for epoch in epochs for term in epoch["terms"])
    panels: dict[str, Callable[[dict[str, Any]], float]] = {"loss": lambda m: m["loss"]}
    if len(terms) > 1:
        for term in terms:
            panels[f"loss term: {term}"] = partial(_term, term)
    panels["learning rate"] = lambda m: m["lr"]
    for key in accuracy_keys(epochs):
        panels[f"{accuracy_words(key)} (%)"] = partial(_percent, key)
    return panels


def _term(name: str, epoch: dict[str, Any]) -> float:
    return epoch["terms"].get(name, math.nan)


def _percent(key: str, epoch: dict[str, Any]) -> float:
    return 100 * epoch.get(key, math.nan)


def write_events(courses: Sequence[Course], folder: str | os.PathLike[str]) -> None:
    """Write courses of training as TensorBoard event files, a folder each.

    Args:
        courses: of runs.
        folder: TensorBoard's ``--logdir``.

    Raises:
        UserError: if the extra ``tensorboard`` isn't installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        message = "TensorBoard isn't installed; pip install 'mixacm-plugin[tensorboard]'"
        raise UserError(f"--tensorboard: {message}") from error
    for course in courses:
        with SummaryWriter(str(Path(folder) / course.label)) as writer:
            for m in course.metrics:
                scalars = {key: m[key] for key in ("loss", "lr", *accuracy_keys([m]))}
                scalars.update({f"loss_terms/{term}": v for term, v in m["terms"].items()})
                for tag, value in scalars.items():
                    writer.add_scalar(tag, value, m["epoch"] + 1)
