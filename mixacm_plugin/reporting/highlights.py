"""What a reader of a study asks first: what was compared, against which attack, and what won."""

from collections.abc import Sequence

from ..studies.results import Results
from .summary import Column, Row, Summary

FEW = 8  # names


def highlights(results: Results, summary: Summary) -> list[tuple[str, list[str]]]:
    """Return heads and lines for a page's first screen."""
    runs = [run for row in results.rows for run in row.runs]
    states = [run.status for run in runs]
    finished = f"{states.count('done')} of {len(runs)} runs finished"
    failed = f", {states.count('failed')} failed" if "failed" in states else ""
    seeds = ", ".join(map(str, summary.seeds))
    said = [
        ("Compared", [names([row.name for row in results.rows])]),
        ("Training seeds", [f"{seeds or 'none'}; {finished}{failed}"]),
        ("Threat model", summary.threats),
        ("Measured", [_images(column) for column in summary.columns]),
        ("Highest", [line for c in summary.columns for line in _best(c, summary.rows)]),
    ]
    return [(head, lines) for head, lines in said if lines]


def names(all_names: Sequence[str]) -> str:
    """Join names, of many the first ones."""
    more = f" and {len(all_names) - FEW} more" if len(all_names) > FEW else ""
    return ", ".join(all_names[:FEW]) + more


def _images(column: Column) -> str:
    of_what = column.attack.title if column.attacked else "clean accuracy"
    return f"{of_what} on {column.n} test images, seed {column.seed}"


def _best(column: Column, rows: Sequence[Row]) -> list[str]:
    """Say which students are the best, and which ones can't be told from them."""
    trained = [row for row in rows if column.title in row.values and row.done != (None,)]
    if len(trained) < 2:
        return []
    best = max(trained, key=lambda row: row.values[column.title].mean)
    value = best.values[column.title]
    _, low, _ = value.error_bar
    others = [r for r in trained if r is not best and r.values[column.title].mean >= low]
    near = names([f"{row.label}{row.mark(column.title)}" for row in others])
    near = f"; within its error bar: {near}" if others else ""
    return [f"{column.title}: {best.label}, {value.text()} %{best.mark(column.title)}{near}"]
