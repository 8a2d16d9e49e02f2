"""Tables in Markdown and LaTeX, and figures for a spreadsheet."""

import csv
import io
import os
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..common.files import replacing
from ..studies.results import Results
from .summary import Summary, summarise
from .tables import Table, delta, lay_out


def write_tables(results: Results, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``table.md``, ``table.csv`` and ``table.tex``.

    Args:
        results: of a study.
        folder: where to; made where it is missing.

    Returns:
        The files written.
    """
    folder, summary = Path(folder), summarise(results)
    table = lay_out(summary)
    texts = {
        "table.md": markdown(table),
        "table.csv": comma_separated(summary),
        "table.tex": latex(table),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return [folder / name for name in texts]


def markdown(table: Table) -> str:
    """Write a table in GitHub's Markdown; the published columns carry their label."""
    own = len(table.heads) - table.references
    heads = [h if i < own else f"{table.reference}: {h}" for i, h in enumerate(table.heads)]
    lines = [
        _markdown_line([_markdown_cell(head) for head in heads]),
        "|---" + "|---:" * (len(heads) - 1) + "|",
        *(
            _markdown_line(
                [
                    _markdown_name(row[0].text),
                    *(_markdown_cell(cell.text, bold=cell.bold) for cell in row[1:]),
                ]
            )
            for row in table.rows
        ),
        "",
        _one_line(table.caption),
        *(f"\n† {_one_line(warning)}" for warning in table.warnings),
    ]
    return "\n".join(lines) + "\n"


def _markdown_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_name(text: str) -> str:
    """Escape a row's name, in which stars and underscores are no emphasis."""
    return re.sub(r"[\\*_`|]", lambda m: rf"\{m[0]}", _one_line(text)).replace("<", "&lt;")


def _markdown_cell(text: str, *, bold: bool = False) -> str:
    escaped = _one_line(text).replace("|", r"\|").replace("<", "&lt;")
    return f"**{escaped}**" if bold else escaped


def _one_line(text: str) -> str:
    """Return a text without line breaks, which would end a row of a table."""
    return " ".join(text.split())


def comma_separated(summary: Summary) -> str:
    """Write the figures for a spreadsheet: a column each for mean, standard deviation and Δ."""
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
                delta(row, summary.rows[0], column.title),
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
    "†": r"$\dagger$",
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
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    lines += [rf"  \par {_latex('† ' + warning)}" for warning in table.warnings]
    lines += [r"\end{table}"]
    return "% needs \\usepackage{booktabs}\n" + "\n".join(lines) + "\n"


def _latex_line(cells: Iterable[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in _one_line(text))
