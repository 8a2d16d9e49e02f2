"""The quickstart: four students of one robust teacher, and how robust each became."""

import json
import logging
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import torch

from .attacks import Attack
from .evaluation import Accuracy, evaluate, evaluation_dataset, load_model, write_accuracies
from .library import recipe_file
from .plots.style import bar_chart
from .recipe import read_recipe
from .training import Training

logger = logging.getLogger("mixacm")

STUDENTS = {
    "scratch": "from scratch",
    "kd": "KD",
    "kd_mixup": "KD + mixup",
    "mixacm": "MixACM",
}
TEACHER = "robust teacher"
EPS = "0.15"
# Clean and PGD on all 500 test images; AutoAttack, which takes most of the time, on 100.
MEASUREMENTS = {
    "clean": (Attack("clean"), None),
    "PGD-20": (Attack("pgd", eps=EPS, steps=20, step_size="0.02"), None),
    "AutoAttack": (Attack("autoattack", eps=EPS), 100),
}


@dataclass(frozen=True)
class Measured:
    """One trained model, measured."""

    name: str
    seed: int
    accuracies: dict[str, Accuracy]


def measure(name: str, seed: int, out: Path, device: torch.device) -> Measured:
    """Train one student, or take the teacher, and measure it."""
    if device.type == "cpu":
        torch.set_num_threads(1)  # the processes share the cores
    role = "student"
    if name == TEACHER:
        recipe, role = read_recipe(recipe_file("quickstart/mixacm")), "teacher"
    else:
        checkpoint = out / f"seed{seed}" / name / "student.pt"
        path = "model" if name == "scratch" else "student_model"
        recipe = read_recipe(
            recipe_file(f"quickstart/{name}"),
            [f"models.{path}.dst_ckpt={json.dumps(checkpoint.as_posix())}"],
        )
        Training(recipe, device, seed).run()
    model, dataset = load_model(recipe, role), evaluation_dataset(recipe)
    accuracies = {
        title: evaluate(model, dataset, attack, n=n, device=device)
        for title, (attack, n) in MEASUREMENTS.items()
    }
    return Measured(STUDENTS.get(name, name), seed, accuracies)


def quickstart(out: Path, *, seeds: Sequence[int], device: torch.device) -> list[Measured]:
    """Train and measure everything; write ``table.md``, ``results.json`` and ``chart.png``.

    Args:
        out: folder to write to.
        seeds: of the students' training; more than one gives means and standard deviations.
        device: where to train and attack.
    """
    jobs = [(TEACHER, seeds[0]), *product(reversed(STUDENTS), seeds)]
    workers = (os.cpu_count() or 1) if device.type == "cpu" else 1
    rows = []
    logger.info(
        "training %d students and attacking %d models in %d processes, about a minute each",
        len(jobs) - 1,
        len(jobs),
        min(workers, len(jobs)),
    )
    # A process each, since the host keeps a box's settings on the class.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        futures = [pool.submit(measure, name, seed, out, device) for name, seed in jobs]
        for future in futures:
            row = future.result()
            rows.append(row)
            logger.info(
                "%s: %s",
                row.name if row.name == TEACHER else f"{row.name}, seed {row.seed}",
                ", ".join(f"{t} {100 * a.value:.1f} %" for t, a in row.accuracies.items()),
            )
    order = [*STUDENTS.values(), TEACHER]
    rows.sort(key=lambda row: (order.index(row.name), row.seed))
    table = results_table(rows)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(table + "\n", encoding="utf-8")
    write_accuracies(
        out / "results.json",
        [(f"{row.name}, seed {row.seed}", a) for row in rows for a in row.accuracies.values()],
    )
    _draw(out / "chart.png", rows)
    logger.info("\n%s\n\n%s", table, f"written: {out}/table.md, results.json and chart.png")
    return rows


def results_table(rows: Sequence[Measured]) -> str:
    """Lay out the rows, a line a model, averaged over seeds where there are several."""
    seeds = sorted({row.seed for row in rows})
    first = rows[0].accuracies
    heads = [
        title if accuracy.attack.name == "clean" else f"{accuracy.attack}, n={accuracy.n}"
        for title, accuracy in first.items()
    ]
    lines = [f"| model | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in dict.fromkeys(row.name for row in rows):
        cells = []
        for title in first:
            values = [row.accuracies[title] for row in rows if row.name == name]
            cells.append(_cell(values, many=len(seeds) > 1))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    note = (
        f"Accuracy in %, {rows[0].accuracies['PGD-20'].attack.norm}, ε = {EPS} of the pixel range "
        f"[0, 1], clean on {first['clean'].n} test images; attacks' seed {first['clean'].seed}, "
        f"training seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}. "
    )
    if len(seeds) == 1:
        return "\n".join([*lines, "", f"{note}± is half the 95 % interval over test images."])
    note += "± is the standard deviation over training seeds."
    return "\n".join([*lines, "", note, "", _effect(rows)])


def _cell(values: Sequence[Accuracy], *, many: bool) -> str:
    accuracies = [100 * a.value for a in values]
    if many:
        spread = f" ± {stdev(accuracies):.1f}" if len(values) > 1 else ""
        return f"{mean(accuracies):.1f}{spread}"
    low, high = values[0].interval()
    return f"{100 * values[0].value:.1f} ± {50 * (high - low):.1f}"


def _effect(rows: Sequence[Measured]) -> str:
    """State what the ACM term adds to KD with mixup, seed by seed."""
    parts = []
    for title in rows[0].accuracies:
        by_seed = {
            name: {row.seed: 100 * row.accuracies[title].value for row in rows if row.name == name}
            for name in (STUDENTS["mixacm"], STUDENTS["kd_mixup"])
        }
        with_acm, without = by_seed.values()
        gains = [with_acm[seed] - without[seed] for seed in with_acm]
        parts.append(f"{title} {mean(gains):+.1f} ± {stdev(gains):.1f}")
    return f"Effect of ACM (MixACM minus KD + mixup, per seed, in points): {', '.join(parts)}."


def _draw(path: Path, rows: Sequence[Measured]) -> None:
    names = list(dict.fromkeys(row.name for row in rows))
    one_seed = len({row.seed for row in rows}) == 1
    series = {}
    for title in rows[0].accuracies:
        values = []
        for name in names:
            accuracies = [row.accuracies[title] for row in rows if row.name == name]
            centre = mean(a.value for a in accuracies)
            if one_seed:
                values.append((centre, *accuracies[0].interval()))
            else:
                spread = stdev(a.value for a in accuracies) if len(accuracies) > 1 else 0.0
                values.append((centre, centre - spread, centre + spread))
        series[title] = values
    bar_chart(path, names, series, title=f"Handwritten digits, Linf, ε = {EPS}")
