"""A study's table, not yet in any markup."""

from collections.abc import Sequence
from dataclasses import dataclass

from .summary import Row, Summary

NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """A cell as people read it.

    Args:
        text: the figure.
        bold: whether it is the best.
        interval: of an accuracy of a single model, the 95 % interval over test images, where there
            is room for it.
    """

    text: str
    bold: bool = False
    interval: str = ""


@dataclass(frozen=True)
class Table:
    """A study's table, not yet in any markup.

    Args:
        caption: attacks, norms, ε, images, seeds, and what the other columns mean.
        heads: title of each column, the first of the rows' names.
        reference: label of the last columns that hold published figures; empty without any.
        references: how many columns those are.
        rows: cells of each row.
        warnings: what speaks against the figures that are marked with a dagger.
    """

    caption: str
    heads: tuple[str, ...]
    reference: str
    references: int
    rows: tuple[tuple[Cell, ...], ...]
    warnings: tuple[str, ...] = ()


def lay_out(summary: Summary) -> Table:
    """Lay out a study's table, the best of each column in bold, as far as its digits tell."""
    rows = summary.rows
    several = len(rows) > 1
    heads = ["row"]
    columns = [[Cell(row.label) for row in rows]]
    notes = [summary.caption()]
    for column in summary.columns:
        heads.append(column.title)
        columns.append(_accuracies(rows, column.title))
        if several:
            heads.append("Δ")
            columns.append([Cell(_points(delta(row, rows[0], column.title))) for row in rows])
    if several and summary.columns:
        notes.append("Δ: points from the first row.")
    if len({row.size_ratio for row in rows} - {None}) > 1:
        heads.append("size %")
        columns.append([Cell(_percent(row.size_ratio)) for row in rows])
        notes.append("Size: the student's trainable parameters in % of the teacher's.")
    costs = [row.relative_cost for row in rows]
    if several and any(value is not None for value in costs):
        heads.append("cost")
        columns.append([Cell(NOTHING if c is None else f"×{c:.2f}") for c in costs])
        notes.append("Cost: seconds per training step, relative to the first row.")
    references = 0
    if any(row.reference is not None for row in rows):
        references = len(summary.reference_columns)
        heads.extend(summary.reference_columns)
        for index in range(references):
            columns.append([Cell(_reference(row, index)) for row in rows])
    return Table(
        caption=" ".join(notes),
        heads=tuple(heads),
        reference=summary.reference_label if references else "",
        references=references,
        rows=tuple(zip(*columns, strict=True)),
        warnings=tuple(summary.warnings()),
    )


def delta(row: Row, first: Row, column: str) -> float | None:
    """Points that a row's mean accuracy lies above the first row's, of the same test images."""
    if row is first or row.other_images or first.other_images:
        return None
    if column not in row.values or column not in first.values:
        return None
    return 100 * (row.values[column].mean - first.values[column].mean)


def _accuracies(rows: Sequence[Row], column: str) -> list[Cell]:
    means = [round(100 * row.values[column].mean, 1) for row in rows if column in row.values]
    best = max(means) if len(means) > 1 else None
    cells = []
    for row in rows:
        value = row.values.get(column)
        if value is not None:
            alone = percent_interval(value.interval) if value.std is None else ""
            is_best = round(100 * value.mean, 1) == best
            cells.append(Cell(value.text() + row.mark(column), is_best, alone))
        else:
            cells.append(Cell("failed" if row.failed and not row.done else NOTHING))
    return cells


def percent_interval(interval: tuple[float, float]) -> str:
    """Write the ends of an interval of fractions in %."""
    return " – ".join(f"{100 * end:.1f}" for end in interval)


def _points(value: float | None) -> str:
    if value is None:
        return NOTHING
    # A hyphen can be broken at; and no minus before a zero.
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def _percent(fraction: float | None) -> str:
    return NOTHING if fraction is None else f"{100 * fraction:.2f}"


def _reference(row: Row, index: int) -> str:
    return NOTHING if row.reference is None else f"{row.reference[index]:.2f}"
