"""A study's results.json, checked and averaged over seeds: what tables, plots and report show."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeAlias

from ..attacks import Attack
from ..evaluation import Accuracy
from ..recipe import RecipeError

Setting: TypeAlias = tuple[Attack, int, int]  # attack, number of images, seed


@dataclass(frozen=True)
class Column:
    """One measurement of a study: an attack on so many images.

    Args:
        title: short, and unlike any other column's: ``clean``, ``PGD-20``, ``AutoAttack``.
        attack: with its threat model.
        n: number of test images.
        seed: of the choice of images and of the attack.
    """

    title: str
    attack: Attack
    n: int
    seed: int

    @property
    def setting(self) -> str:
        """All that a figure of this column has to be quoted with."""
        images = f"n = {self.n}, seed {self.seed}"
        if self.attack.name == "clean":
            return f"clean: {images}"
        return f"{self.attack}: {self.attack.norm}, ε = {self.attack.eps}, {images}"


@dataclass(frozen=True)
class Value:
    """A row's accuracy in a column: one of each seed that finished, as fractions."""

    accuracies: tuple[float, ...]
    interval: tuple[float, float]  # of the first: 95 %, over test images

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return mean(self.accuracies)

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; of a single seed there is none."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def error_bar(self) -> tuple[float, float, float]:
        """Mean and ends: ± one standard deviation, of a single seed its 95 % interval."""
        if self.std is None:
            return (self.mean, *self.interval)
        return self.mean, self.mean - self.std, self.mean + self.std


@dataclass(frozen=True)
class Row:
    """A row of a study, averaged over the seeds that finished."""

    name: str
    overrides: Mapping[str, Any]
    reference: Sequence[float] | None
    parameters: int | None
    size_ratio: float | None
    relative_cost: float | None  # of a training step, the first row's being 1
    done: tuple[int, ...]  # seeds
    failed: Mapping[int, str]  # seed to error
    not_run: tuple[int, ...]  # seeds
    values: Mapping[str, Value]  # by the column's title; empty where no seed finished

    @property
    def state(self) -> str:
        """Empty where all is well, else what is missing."""
        if not self.done and not self.failed:
            return "not run"
        total = len(self.done) + len(self.failed) + len(self.not_run)
        missing = {"failed": len(self.failed), "not run": len(self.not_run)}
        counts = [f"{count} of {total} seeds {what}" for what, count in missing.items() if count]
        return ", ".join(counts)


@dataclass(frozen=True)
class Summary:
    """A study's results, averaged over seeds."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    reference_label: str
    reference_columns: tuple[str, ...]

    @property
    def seeds(self) -> list[int]:
        """Training seeds that finished in any row."""
        return sorted({seed for row in self.rows for seed in row.done})

    @property
    def several_seeds(self) -> bool:
        """Whether a row has more than one, so that ± is a standard deviation."""
        return any(len(row.done) > 1 for row in self.rows)

    @property
    def mixed_seeds(self) -> bool:
        """Whether some rows have several and some a single one, which has no deviation."""
        return self.several_seeds and any(len(row.done) == 1 for row in self.rows)

    def caption(self) -> str:
        """What the figures hold for: attacks, norms, ε, images and seeds."""
        if not self.seeds:
            return "No run finished."
        numbers = ", ".join(map(str, self.seeds))
        over = "training seed"
        if self.several_seeds:
            over = "mean ± standard deviation over training seeds"
        if self.mixed_seeds:
            numbers += " (without ±: of a single seed)"
        settings = "; ".join(column.setting for column in self.columns)
        return f"Accuracy in %, {over} {numbers}. {settings}."

    def short_caption(self) -> str:
        """The same in few words, for a figure's title."""
        threats = dict.fromkeys(
            f"{c.attack.norm}, ε = {c.attack.eps}" for c in self.columns if c.attack.name != "clean"
        )
        images = dict.fromkeys(c.n for c in self.columns)
        if len(images) == 1:
            n = f"n = {next(iter(images))}"
        else:
            n = ", ".join(f"{c.title} n = {c.n}" for c in self.columns)
        seeds = (
            f"training seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}"
        )
        bars = "standard deviation" if self.several_seeds else "95 % interval"
        if self.mixed_seeds:
            bars += ", of a single seed the 95 % interval"
        text = "; ".join([*threats, n, seeds, f"error bars: {bars}"])
        return text.replace(" = ", "\xa0=\xa0")  # no line may break there


def read_results(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read ``results.json`` from a study's folder.

    Raises:
        RecipeError: if it is missing, isn't JSON or isn't a study's.
    """
    path = Path(folder) / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"can't read it: {error.strerror}; expected the folder that mixacm study wrote"
        raise RecipeError(path, "", reason) from error
    except ValueError as error:
        raise RecipeError(path, "", f"not JSON: {error}") from error
    if not isinstance(results, dict) or not {"title", "rows"} <= set(results):
        raise RecipeError(path, "", "not a study's results: expected title and rows")
    try:
        summarise(results)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"not a study's results: {type(error).__name__}: {error}"
        raise RecipeError(path, "rows", reason) from error
    return results


def summarise(results: Mapping[str, Any]) -> Summary:
    """Average a study's results over seeds.

    Args:
        results: content of ``results.json``. Where no attack is ``clean``, the clean accuracy on
            the first attack's images is the first column.
    """
    measured = [
        [accuracies_of(run) for run in row["runs"] if run["status"] == "done"]
        for row in results["rows"]
    ]
    columns = _columns([setting for row in measured for run in row for setting in run])
    reference = results.get("reference") or {}
    return Summary(
        title=results["title"],
        columns=columns,
        rows=tuple(
            _row(row, accuracies, columns)
            for row, accuracies in zip(results["rows"], measured, strict=True)
        ),
        reference_label=reference.get("label", ""),
        reference_columns=tuple(reference.get("columns", ())),
    )


def accuracies_of(run: Mapping[str, Any]) -> dict[Setting, Accuracy]:
    """Return the accuracies of a run, the clean one among them, one for each setting."""
    found = []
    for a in run.get("accuracies") or []:
        attack = Attack(**a["attack"])
        found.append(Accuracy(a["correct"], a["clean_correct"], a["n"], attack, a["seed"]))
    if found and all(a.attack.name != "clean" for a in found):
        first = found[0]
        clean = Accuracy(
            first.clean_correct, first.clean_correct, first.n, Attack("clean"), first.seed
        )
        found.insert(0, clean)
    return {(a.attack, a.n, a.seed): a for a in found}


def _columns(measured: Sequence[Setting]) -> tuple[Column, ...]:
    settings = list(dict.fromkeys(measured))
    names = [_short_name(attack) for attack, _, _ in settings]
    titles = []
    for (attack, n, seed), name in zip(settings, names, strict=True):
        alike = [s for s, other in zip(settings, names, strict=True) if other == name]
        described = [_details(*setting) for setting in alike]
        differing = [k for k in described[0] if len({d[k] for d in described}) > 1]
        details = _details(attack, n, seed)
        titles.append(" ".join([name, *(details[key] for key in differing)]))
    return tuple(Column(t, *setting) for t, setting in zip(titles, settings, strict=True))


def _short_name(attack: Attack) -> str:
    names = {"clean": "clean", "autoattack": "AutoAttack", "pgd": f"PGD-{attack.steps}"}
    return names[attack.name]


def _details(attack: Attack, n: int, seed: int) -> dict[str, str]:
    return {
        "norm": attack.norm,
        "eps": f"ε={attack.eps}",
        "step_size": f"step {attack.step_size}",
        "restarts": f"{attack.restarts} restart{'s' if attack.restarts > 1 else ''}",
        "n": f"n={n}",
        "seed": f"seed {seed}",
    }


def _row(
    row: Mapping[str, Any],
    measured: Sequence[Mapping[Setting, Accuracy]],
    columns: Sequence[Column],
) -> Row:
    done = [run for run in row["runs"] if run["status"] == "done"]
    values = {}
    for column in columns:
        setting = (column.attack, column.n, column.seed)
        found = [run[setting] for run in measured if setting in run]
        if found:
            values[column.title] = Value(tuple(a.value for a in found), found[0].interval())
    return Row(
        name=row["name"],
        overrides=row.get("overrides") or {},
        reference=row.get("reference"),
        parameters=row.get("parameters"),
        size_ratio=row.get("size_ratio"),
        relative_cost=row.get("relative_cost"),
        done=tuple(run["seed"] for run in done),
        failed={
            run["seed"]: run.get("error") or "unknown error"
            for run in row["runs"]
            if run["status"] == "failed"
        },
        not_run=tuple(run["seed"] for run in row["runs"] if run["status"] == "not run"),
        values=values,
    )
