"""The quickstart: four students of one robust teacher, and how robust each became."""

import json
import logging
import multiprocessing
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from .attacks import Attack
from .distributed import available_cpus
from .evaluation import Accuracy, evaluate, evaluation_dataset, load_model, write_accuracies
from .library import recipe_file
from .plots.style import horizontal_bars, save
from .recipe import read_recipe
from .studies.results import Value
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
    seed: int | None  # of its training; the teacher comes trained
    accuracies: dict[str, Accuracy]

    @property
    def label(self) -> str:
        """The name, with the seed where there is one."""
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"


def measure(name: str, seed: int | None, out: Path, device: torch.device) -> Measured:
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
    """Train and measure everything; write ``table.md``, ``results.json`` and the chart.

    Args:
        out: folder to write to.
        seeds: of the students' training; more than one gives means and standard deviations.
        device: where to train and attack.
    """
    jobs = [(TEACHER, None), *product(reversed(STUDENTS), seeds)]
    workers = min(available_cpus() if device.type == "cpu" else 1, len(jobs))
    rows = []
    logger.info(
        "training %d students and attacking %d models in %d processes, about a minute each",
        len(jobs) - 1,
        len(jobs),
        workers,
    )
    # Not threads, since the host keeps a box's pre- and post-processes on its class. A process may
    # train one model after another: each box sets all of them, each training seeds all generators.
    context, others = multiprocessing.get_context("spawn"), multiprocessing.active_children()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as pool:
        try:
            futures = [pool.submit(measure, name, seed, out, device) for name, seed in jobs]
            for future in as_completed(futures):
                row = future.result()
                rows.append(row)
                figures = (f"{t} {100 * a.value:.1f} %" for t, a in row.accuracies.items())
                logger.info("%s: %s", row.label, ", ".join(figures))
        except BaseException:
            # Leaving the pool waits for what it runs. Its terminate_workers needs Python 3.14.
            for worker in set(multiprocessing.active_children()).difference(others):
                worker.terminate()
            raise
    order = [*STUDENTS.values(), TEACHER]
    rows.sort(key=lambda row: (order.index(row.name), row.seed))
    table = results_table(rows)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(table + "\n", encoding="utf-8")
    write_accuracies(
        out / "results.json", [(row.label, a) for row in rows for a in row.accuracies.values()]
    )
    save(chart(rows), out / "chart")
    logger.info("\n%s\n\n%s", table, f"written: {out}/table.md, results.json, chart.png and .svg")
    return rows


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the first ends the others
    tqdm.set_lock(threading.RLock())  # of its own semaphore Python would warn that it is left over


def results_table(rows: Sequence[Measured]) -> str:
    """Lay out the rows, a line a model, averaged over seeds where there are several."""
    seeds = _seeds(rows)
    first = rows[0].accuracies
    heads = [
        title if accuracy.attack.name == "clean" else f"{accuracy.attack}, n={accuracy.n}"
        for title, accuracy in first.items()
    ]
    lines = [f"| model | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in dict.fromkeys(row.name for row in rows):
        cells = [_cell(_value(rows, name, title), many=len(seeds) > 1) for title in first]
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


def chart(rows: Sequence[Measured]) -> Figure:
    """Draw the rows' accuracies, a group of bars a model."""
    names = list(dict.fromkeys(row.name for row in rows))
    many = len(_seeds(rows)) > 1
    series = {
        title: [_bar(_value(rows, name, title), many=many) for name in names]
        for title in rows[0].accuracies
    }
    return horizontal_bars(names, series, title=f"Handwritten digits, Linf, ε = {EPS}")


def _seeds(rows: Sequence[Measured]) -> list[int]:
    return sorted({row.seed for row in rows if row.seed is not None})


def _value(rows: Sequence[Measured], name: str, title: str) -> Value:
    found = [row.accuracies[title] for row in rows if row.name == name]
    return Value(tuple(a.value for a in found), found[0].interval())


def _bar(value: Value, *, many: bool) -> tuple[float, float, float]:
    if many and value.std is None:  # the teacher's interval is nothing to set beside deviations
        return (value.mean,) * 3
    return value.error_bar


def _cell(value: Value, *, many: bool) -> str:
    if many and value.std is None:
        return f"{100 * value.mean:.1f}"
    _, low, high = value.error_bar
    return f"{100 * value.mean:.1f} ± {50 * (high - low):.1f}"


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
