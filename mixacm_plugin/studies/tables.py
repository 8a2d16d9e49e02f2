"""Tables of a study, for Markdown, LaTeX and a spreadsheet."""

import csv
import io
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .results import Row, Summary, Value, summarise

NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """A cell as people read it."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A study's table, not yet in any markup.

    Args:
        caption: attacks, norms, ε, images, seeds, and what the other columns mean.
        heads: title of each column, the first of the rows' names.
        reference: label of the last columns that hold published figures; empty without any.
        references: how many columns those are.
        rows: cells of each row.
    """

    caption: str
    heads: tuple[str, ...]
    reference: str
    references: int
    rows: tuple[tuple[Cell, ...], ...]


def write_tables(results: Mapping[str, Any], folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``table.md``, ``table.csv`` and ``table.tex``.

    Args:
        results: content of a study's ``results.json``.
        folder: where to; made where it is missing.

    Returns:
        The files written.
    """
    folder, summary = Path(folder), summarise(results)
    folder.mkdir(parents=True, exist_ok=True)
    table = lay_out(summary)
    texts = {
        "table.md": markdown(table),
        "table.csv": comma_separated(summary),
        "table.tex": latex(table),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [folder / name for name in texts]


def lay_out(summary: Summary) -> Table:
    """Lay out a study's table, the best of each column in bold, as far as its digits tell."""
    rows = summary.rows
    several = len(rows) > 1
    heads = ["row"]
    columns = [[Cell(f"{row.name} ({row.state})" if row.state else row.name) for row in rows]]
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
    )


def delta(row: Row, first: Row, column: str) -> float | None:
    """Points that a row's mean accuracy lies above the first row's; none for the first row."""
    if row is first or column not in row.values or column not in first.values:
        return None
    return 100 * (row.values[column].mean - first.values[column].mean)


def _accuracies(rows: Sequence[Row], column: str) -> list[Cell]:
    means = [round(100 * row.values[column].mean, 1) for row in rows if column in row.values]
    best = max(means) if len(means) > 1 else None
    cells = []
    for row in rows:
        value = row.values.get(column)
        if value is not None:
            cells.append(Cell(_accuracy(value), round(100 * value.mean, 1) == best))
        else:
            cells.append(Cell("failed" if row.failed and not row.done else NOTHING))
    return cells


def _accuracy(value: Value) -> str:
    spread = "" if value.std is None else f" ± {100 * value.std:.1f}"
    return f"{100 * value.mean:.1f}{spread}"


def _points(value: float | None) -> str:
    if value is None:
        return NOTHING
    # A hyphen can be broken at; and no minus before a zero.
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def _percent(fraction: float | None) -> str:
    return NOTHING if fraction is None else f"{100 * fraction:.2f}"


def _reference(row: Row, index: int) -> str:
    return NOTHING if row.reference is None else f"{row.reference[index]:.2f}"


def markdown(table: Table) -> str:
    """Write a table in GitHub's Markdown; the published columns carry their label."""
    own = len(table.heads) - table.references
    heads = [h if i < own else f"{table.reference}: {h}" for i, h in enumerate(table.heads)]
    lines = [
        _markdown_line(heads),
        "|---" + "|---:" * (len(heads) - 1) + "|",
        *(
            _markdown_line([f"**{cell.text}**" if cell.bold else cell.text for cell in row], row)
            for row in table.rows
        ),
        "",
        table.caption,
    ]
    return "\n".join(lines) + "\n"


def _markdown_line(texts: Sequence[str], cells: Sequence[Cell] = ()) -> str:
    escaped = [text.replace("|", r"\|").replace("<", "&lt;") for text in texts]
    # In names, stars and underscores are no emphasis.
    name = cells[0].text if cells else escaped[0]
    escaped[0] = re.sub(r"([\\*_`|<])", lambda m: "&lt;" if m[0] == "<" else rf"\{m[0]}", name)
    return f"| {' | '.join(escaped)} |"


def comma_separated(summary: Summary) -> str:
    """Write the figures for a spreadsheet: a column each for mean, standard deviation and Δ."""
    first = summary.rows[0] if summary.rows else None
    references = [f"{summary.reference_label}: {name}" for name in summary.reference_columns]
    heads = ["row", "seeds done", "seeds failed"]
    for column in summary.columns:
        heads += [f"{column.setting}: {what}" for what in ("mean %", "std", "delta to first row")]
    heads += ["parameters", "size ratio", "cost relative to first row", *references]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    for row in summary.rows:
        line: list[Any] = [row.name, " ".join(map(str, row.done)), " ".join(map(str, row.failed))]
        for column in summary.columns:
            value = row.values.get(column.title)
            line += [
                None if value is None else 100 * value.mean,
                None if value is None or value.std is None else 100 * value.std,
                delta(row, first, column.title),
            ]
        line += [row.parameters, row.size_ratio, row.relative_cost]
        line += row.reference or [None] * len(references)
        writer.writerow(
            ["" if x is None else f"{x:.6g}" if isinstance(x, float) else x for x in line]
        )
    return text.getvalue()


LATEX = {
    "\\": r"\textbackslash{}",
    **{character: rf"\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    "→": r"$\to$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "∞": r"$\infty$",
    "ℓ": r"$\ell$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "Δ": r"$\Delta$",
    **{
        letter: rf"$\{name}$"
        for letter, name in {
            "α": "alpha",
            "β": "beta",
            "γ": "gamma",
            "δ": "delta",
            "ε": "varepsilon",
            "η": "eta",
            "λ": "lambda",
            "μ": "mu",
            "σ": "sigma",
            "τ": "tau",
        }.items()
    },
}


def latex(table: Table) -> str:
    """Write a table for LaTeX with the package ``booktabs``."""
    own = len(table.heads) - table.references
    lines = [
        r"\begin{table}",
        r"  \centering\small",
        r"  \setlength{\tabcolsep}{4pt}",
        rf"  \caption{{{_latex(table.caption)}}}",
        r"  \medskip",
        rf"  \begin{{tabular}}{{l{'r' * (len(table.heads) - 1)}}}",
        r"    \toprule",
    ]
    if table.references:
        # Broken into lines, or it would widen the columns below it.
        label = r" \\ ".join(map(_latex, textwrap.wrap(table.reference, 20)))
        lines += [
            rf"    \multicolumn{{{own}}}{{c}}{{}} & "
            rf"\multicolumn{{{table.references}}}{{c}}{{\shortstack{{{label}}}}} \\",
            rf"    \cmidrule(lr){{{own + 1}-{len(table.heads)}}}",
        ]
    lines += [_latex_line(map(_latex, table.heads)), r"    \midrule"]
    lines += [
        _latex_line(rf"\textbf{{{_latex(c.text)}}}" if c.bold else _latex(c.text) for c in row)
        for row in table.rows
    ]
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "% needs \\usepackage{booktabs}\n" + "\n".join(lines) + "\n"


def _latex_line(cells: Any) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
