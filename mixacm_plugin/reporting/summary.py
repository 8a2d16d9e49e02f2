"""A study's results averaged over seeds: what tables, pictures and the page show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Any, TypeAlias

from ..evaluation.accuracy import Accuracy
from ..evaluation.attacks import Attack
from ..studies.changes import overrides
from ..studies.results import Results, RowResult, RunResult

OTHER_IMAGES = "measured on other test images than the first row"
SEVERAL_IMAGES = "its seeds were measured on other test images than each other"
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
    def attacked(self) -> bool:
        """Whether there is an adversary."""
        return self.attack.threat is not None

    @property
    def setting(self) -> str:
        """All that a figure of this column has to be quoted with."""
        images = f"n = {self.n}, seed {self.seed}"
        if self.attack.threat is None:
            return f"{self.attack.short}: {images}"
        norm, eps = self.attack.threat
        return f"{self.attack.title}: {norm}, ε = {eps}, {images}"


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

    def text(self) -> str:
        """Write it in %: the mean and, of several seeds, ± one standard deviation."""
        spread = "" if self.std is None else f" ± {100 * self.std:.1f}"
        return f"{100 * self.mean:.1f}{spread}"

    @property
    def error_bar(self) -> tuple[float, float, float]:
        """Mean and ends: ± one standard deviation, of a single seed its 95 % interval.

        A deviation ends where an accuracy does, at 0 and 1.
        """
        if self.std is None:
            return (self.mean, *self.interval)
        return self.mean, max(0.0, self.mean - self.std), min(1.0, self.mean + self.std)


@dataclass(frozen=True)
class Row:
    """A row of a study, averaged over the seeds that finished."""

    name: str
    overrides: Mapping[str, Any]
    reference: Sequence[float] | None
    parameters: int | None
    size_ratio: float | None
    relative_cost: float | None  # of a training step, the first row's being 1
    done: tuple[int | None, ...]  # seeds; None of a teacher that was only measured
    failed: Mapping[int | None, str]  # seed to error
    not_run: tuple[int | None, ...]  # seeds
    values: Mapping[str, Value]  # by the column's title; empty where no seed finished
    warnings: Mapping[str, Sequence[str]]  # by the column's title: what speaks against a figure
    other_images: str  # how its test images aren't those of the first row's first run; or empty

    def mark(self, column: str) -> str:
        """Mark a figure that something speaks against, which stands below the table."""
        return " †" if self.warnings[column] else ""

    @property
    def state(self) -> str:
        """Empty where all is well, else what is missing."""
        if not self.done and not self.failed:
            return "not run"
        if None in self.failed:  # a teacher that is only measured has no seeds
            return "failed"
        total = len(self.done) + len(self.failed) + len(self.not_run)
        missing = {"failed": len(self.failed), "not run": len(self.not_run)}
        counts = [f"{count} of {total} seeds {what}" for what, count in missing.items() if count]
        return ", ".join(counts)

    @property
    def label(self) -> str:
        """The name, with what is missing."""
        return f"{self.name} ({self.state})" if self.state else self.name


@dataclass(frozen=True)
class Summary:
    """A study's results, averaged over seeds."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    reference_label: str
    reference_columns: tuple[str, ...]

    @property
    def threats(self) -> list[str]:
        """Threat models of the attacks, each once."""
        balls = [c.attack.threat for c in self.columns if c.attack.threat is not None]
        return list(dict.fromkeys(f"{norm}, ε = {eps}" for norm, eps in balls))

    @property
    def seeds(self) -> list[int]:
        """Training seeds that finished in any row."""
        return sorted({seed for row in self.rows for seed in row.done if seed is not None})

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
        if not any(row.done for row in self.rows):
            return "No run finished."
        numbers = ", ".join(map(str, self.seeds))
        over = ", training seed " if numbers else ""  # teachers have none
        if self.several_seeds:
            over = ", mean ± standard deviation over training seeds "
        if self.mixed_seeds:
            numbers += " (without ±: of a single model)"
        settings = "; ".join(column.setting for column in self.columns)
        return f"Accuracy in %{over}{numbers}. {settings}."

    def warnings(self) -> list[str]:
        """What speaks against figures, with the row and the column of each."""
        return [
            f"{row.name}, {title}: {warning}"
            for row in self.rows
            for title, warnings in row.warnings.items()
            for warning in warnings
        ]

    def short_caption(self) -> str:
        """What the figures hold for, in few words, for a figure's title."""
        images = dict.fromkeys(c.n for c in self.columns)
        if len(images) == 1:
            n = f"n = {next(iter(images))}"
        else:
            n = ", ".join(f"{c.title} n = {c.n}" for c in self.columns)
        numbers = ", ".join(map(str, self.seeds))
        several = "s" if len(self.seeds) > 1 else ""
        seeds = [f"training seed{several} {numbers}"] if numbers else []
        bars = "standard deviation" if self.several_seeds else "95 % interval"
        if self.mixed_seeds:
            bars += ", of a single model the 95 % interval"
        text = "; ".join([*self.threats, n, *seeds, f"error bars: {bars}"])
        return text.replace(" = ", "\xa0=\xa0")  # no line may break there


def summarise(results: Results) -> Summary:
    """Average a study's results over seeds.

    Where no attack is ``clean``, the clean accuracy on the first attack's images is the first
    column.
    """
    measured = [
        [by_setting(run) for run in row.runs if run.status == "done"] for row in results.rows
    ]
    columns = _columns([setting for row in measured for run in row for setting in run])
    first = next((images for row in results.rows for images in _test_images(row)), None)
    reference = results.reference
    return Summary(
        title=results.title,
        columns=columns,
        rows=tuple(
            _row(row, accuracies, columns, _other_images(row, first))
            for row, accuracies in zip(results.rows, measured, strict=True)
        ),
        reference_label=reference.label if reference else "",
        reference_columns=tuple(reference.columns) if reference else (),
    )


def by_setting(run: RunResult) -> dict[Setting, Accuracy]:
    """Return the accuracies of a run, the clean one among them, one for each setting."""
    return {(_as_text(a.attack), a.n, a.seed): a for a in run.figures()}


def _as_text(attack: Attack) -> Attack:
    """Return an attack with its radius and step as texts, as a flag has them and YAML may not."""
    sizes = {name: attack.settings().get(name) for name in ("eps", "step_size")}
    return replace(attack, **{name: str(size) for name, size in sizes.items() if size is not None})


def _columns(measured: Sequence[Setting]) -> tuple[Column, ...]:
    settings = list(dict.fromkeys(measured))
    titles = []
    for attack, n, seed in settings:
        alike = [_details(*other) for other in settings if other[0].short == attack.short]
        details = _details(attack, n, seed)
        differing = [key for key in details if len({other.get(key) for other in alike}) > 1]
        titles.append(" ".join([attack.short, *(details[key] for key in differing)]))
    return tuple(Column(t, *setting) for t, setting in zip(titles, settings, strict=True))


def _details(attack: Attack, n: int, seed: int) -> dict[str, str]:
    return {**attack.details(), "n": f"n={n}", "seed": f"seed {seed}"}


def _row(
    row: RowResult,
    measured: Sequence[Mapping[Setting, Accuracy]],
    columns: Sequence[Column],
    other_images: str,
) -> Row:
    values, warnings = {}, {}
    doubts = _failed_sanity(row)  # of the first attack
    told = [other_images] if other_images else []
    for column in columns:
        setting = (column.attack, column.n, column.seed)
        found = [run[setting] for run in measured if setting in run]
        if found:
            values[column.title] = Value(tuple(a.value for a in found), found[0].interval())
            said = dict.fromkeys(warning for accuracy in found for warning in accuracy.warnings)
            warnings[column.title] = [*told, *said]
            if column.attacked:
                warnings[column.title] += doubts
                doubts = []
    return Row(
        name=row.name,
        overrides=overrides(row.changes),
        reference=row.reference,
        parameters=row.parameters,
        size_ratio=row.size_ratio,
        relative_cost=row.relative_cost,
        done=tuple(run.seed for run in row.runs if run.status == "done"),
        failed={
            run.seed: run.error or "unknown error" for run in row.runs if run.status == "failed"
        },
        not_run=tuple(run.seed for run in row.runs if run.status == "not run"),
        values=values,
        warnings=warnings,
        other_images=other_images,
    )


def _other_images(row: RowResult, first: str | None) -> str:
    """Say how a row's test images aren't those of the first run; nothing where they are."""
    own = _test_images(row)
    if len(own) > 1:  # data that no recipe names may change between two runs
        return SEVERAL_IMAGES
    return OTHER_IMAGES if own and own != [first] else ""


def _test_images(row: RowResult) -> list[str]:
    """Digests of the test images of a row's runs, each once."""
    runs = [run for run in row.runs if run.status == "done"]
    return list(dict.fromkeys(run.test_images for run in runs if run.test_images))


def _failed_sanity(row: RowResult) -> list[str]:
    """What should hold of a row's attack and doesn't, each once, in order."""
    lines = [line for run in row.runs if run.status == "done" for line in run.sanity]
    failed = [f"{line.name}: {line.figures}" for line in lines if not line.holds]
    return [f"sanity, {what}: does not hold" for what in dict.fromkeys(failed)]
