"""A study as one HTML page that needs nothing else: tables, pictures, settings, commands."""

import base64
import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..plots.study import draw_all, stems
from ..recipe import RecipeError
from .results import Column, accuracies_of, read_results, summarise
from .tables import Table, lay_out

STYLE = """
:root { color-scheme: light dark; --line: #d0d4d9; --faint: #5c6570; --box: #f3f4f6;
  --bad: #a32a00; }
@media (prefers-color-scheme: dark) {
  :root { --line: #444a52; --faint: #a4adb8; --box: #24282e; --bad: #ff9a73; }
  body { background: #16191d; color: #e8eaed; }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
h1, h3, p, li, td, th { overflow-wrap: break-word; }
.note { color: var(--faint); font-size: .85rem; }
.bad { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th[scope=row], th:first-child, th.text, td.text { text-align: left; font-weight: normal; }
th[scope=row] { white-space: normal; min-width: 8rem; }
thead th { font-weight: 600; border-bottom-width: 2px; vertical-align: bottom; }
th.reference, td.reference { background: var(--box); }
thead th.label { white-space: normal; min-width: 15rem; text-align: center;
  border-bottom-width: 1px; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
.pictures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
figure { margin: 1rem 0; }
img { display: block; max-width: 100%; height: auto; background: #fff; }
pre { background: var(--box); padding: .6rem .8rem; border-radius: 4px; font-size: .8rem;
  white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0; }
pre code { display: block; padding-left: 1.5em; text-indent: -1.5em; }
pre code + code { margin-top: .4rem; }
@media print {
  :root { color-scheme: light; --line: #bbb; --faint: #444; --box: #f3f3f3; --bad: #802000; }
  body { font-size: 10pt; max-width: none; padding: 0; background: #fff; color: #000; }
  .scroll { overflow: visible; }
  .pictures { display: block; }
  table { font-size: 7.5pt; }
  th, td { padding: .15rem .3rem; }
  thead th { white-space: normal; }
  thead th.label { min-width: 0; }
  figure, tr, pre code { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""


def write_report(
    folder: str | os.PathLike[str], file: str | os.PathLike[str] | None = None
) -> Path:
    """Write a study's page; pictures that are missing are drawn first.

    Args:
        folder: of the study, with its ``results.json``.
        file: to write; by default ``report.html`` in the folder.

    Returns:
        The file.

    Raises:
        RecipeError: if the folder has no results of a study.
    """
    folder = Path(folder)
    results = read_results(folder)
    try:
        draw_all(results, folder, missing_only=True)
    except ValueError as error:
        raise RecipeError(folder / "results.json", "plots", str(error)) from error
    pictures = []
    for stem, spec in stems(results.get("plots") or []):
        picture = folder / f"{stem}.svg"
        if picture.is_file():
            pictures.append((_describe(spec), picture.read_bytes()))
    file = folder / "report.html" if file is None else Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page(results, pictures), encoding="utf-8")
    return file


def page(results: Mapping[str, Any], pictures: Sequence[tuple[str, bytes]]) -> str:
    """Lay out a study's page.

    Args:
        results: content of ``results.json``.
        pictures: what each shows, and its SVG.
    """
    summary = summarise(results)
    table = lay_out(summary)
    scale = f", scale {results['scale']}" if results.get("scale") else ""
    parts = [
        f"<h1>{escape(results['title'])}</h1>",
        f'<p class="note">Study {escape(str(results.get("study", "")))}{escape(scale)}</p>',
        "<h2>Results</h2>",
        _results_table(table),
        f'<p class="note">{escape(table.caption)}</p>',
        *_failures(results),
    ]
    if pictures:
        parts.append("<h2>Pictures</h2>")
        figures = "\n".join(_picture(title, content) for title, content in pictures)
        parts.append(f'<div class="pictures">\n{figures}\n</div>')
    parts += ["<h2>Settings</h2>", _settings(results)]
    parts += ["<h2>Every run</h2>", _runs(results, summary.columns)]
    parts += ["<h2>Reproduce a row</h2>", *_commands(results, summary.columns)]
    parts += ["<h2>Versions</h2>", _versions(results)]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(results['title'])}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _results_table(table: Table) -> str:
    own = len(table.heads) - table.references
    classes = [' class="reference"' if i >= own else "" for i in range(len(table.heads))]
    lines = ["<thead>"]
    if table.references:
        label = escape(table.reference)
        lines.append(
            f'<tr><td colspan="{own}"></td><th class="reference label" scope="colgroup" '
            f'colspan="{table.references}">{label}</th></tr>'
        )
    heads = zip(classes, table.heads, strict=True)
    lines.append(
        "<tr>" + "".join(f'<th{c} scope="col">{escape(h)}</th>' for c, h in heads) + "</tr>"
    )
    lines.append("</thead>\n<tbody>")
    for row in table.rows:
        cells = [f'<th scope="row">{escape(row[0].text)}</th>']
        for style, cell in zip(classes[1:], row[1:], strict=True):
            text = escape(cell.text)
            cells.append(f"<td{style}>{f'<strong>{text}</strong>' if cell.bold else text}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return _scroll("\n".join([*lines, "</tbody>"]), "Results")


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]], label: str, text: int = 0) -> str:
    """Lay out a plain table; of its columns after the first, ``text`` hold running text."""
    styles = [' class="text"' if 0 < i <= text else "" for i in range(len(heads))]
    head = "".join(
        f'<th scope="col"{style}>{escape(h)}</th>' for style, h in zip(styles, heads, strict=True)
    )
    lines = [f"<thead><tr>{head}</tr></thead>\n<tbody>"]
    for first, *others in rows:
        cells = [f'<th scope="row">{escape(first)}</th>']
        cells += [
            f"<td{style}>{escape(cell)}</td>"
            for style, cell in zip(styles[1:], others, strict=True)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return _scroll("\n".join([*lines, "</tbody>"]), label)


def _scroll(table: str, label: str) -> str:
    # Focusable, so that a keyboard can scroll it.
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">\n'
        f"<table>\n{table}\n</table>\n</div>"
    )


def _failures(results: Mapping[str, Any]) -> list[str]:
    lines = []
    for row in results["rows"]:
        for run in row["runs"]:
            if run["status"] == "failed":
                where = f"{row['name']}, seed {run['seed']}"
                lines.append(
                    f"<li>{escape(where)}: {escape(run.get('error') or 'no message')}</li>"
                )
    return [f'<h3 class="bad">Failed runs</h3>\n<ul>{"".join(lines)}</ul>'] if lines else []


def _describe(spec: Mapping[str, Any]) -> str:
    last = str(spec.get("x", "")).rpartition(".")[2]
    what = {
        "bars": "Accuracy of each row",
        "curve": f"Accuracy against {spec.get('label') or last}",
        "size_ratio": "Accuracy against the student's size",
        "depth_width": "Accuracy against depth and width",
        "cost": "Robust accuracy against the cost of a training step",
        "channel_maps": "Sorted mean channel maps",
    }[spec["kind"]]
    dotted = f", dotted: {spec['reference']}" if spec.get("reference") else ""
    grouped = ", in groups" if spec.get("group") else ""
    return spec.get("title") or f"{what}{grouped}{dotted}"


def _picture(title: str, content: bytes) -> str:
    # An image of its own: inlined, the ids of several SVGs would collide.
    data = base64.b64encode(content).decode()
    text = escape(title)
    return (
        f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{data}">'
        f'<figcaption class="note">{text}</figcaption></figure>'
    )


def _settings(results: Mapping[str, Any]) -> str:
    def setting(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def settings(row: Mapping[str, Any]) -> list[tuple[str, str]]:
        files = [(file, "override file") for file in row.get("override_files") or ()]
        return files + [(key, setting(v)) for key, v in (row.get("overrides") or {}).items()]

    rows = [
        (name if index == 0 else "", key, value)
        for name, given in ((r["name"], settings(r)) for r in results["rows"])
        for index, (key, value) in enumerate(given or [("as the base recipe", "")])
    ]
    return _table(("row", "override", "value"), rows, "Settings", text=2)


def _runs(results: Mapping[str, Any], columns: Sequence[Column]) -> str:
    rows = []
    for row in results["rows"]:
        for run in row["runs"]:
            found = accuracies_of(run)
            accuracies = []
            for column in columns:
                accuracy = found.get((column.attack, column.n, column.seed))
                accuracies.append("–" if accuracy is None else f"{100 * accuracy.value:.1f} %")
            seconds = run.get("train_seconds")
            rows.append(
                (
                    row["name"],
                    str(run["seed"]),
                    run["status"],
                    *accuracies,
                    "–" if seconds is None else f"{seconds:.0f} s",
                    f"{row['parameters']:,}" if row.get("parameters") else "–",
                    str(run.get("recipe_hash", "–")),
                )
            )
    titles = [column.title for column in columns]
    heads = ("row", "seed", "state", *titles, "training", "parameters", "recipe hash")
    return _table(heads, rows, "Every run")


def _commands(results: Mapping[str, Any], columns: Sequence[Column]) -> list[str]:
    note = "Train a student, a command for each seed; then measure the one trained last."
    parts = [f'<p class="note">{note}</p>']
    for row in results["rows"]:
        commands = [run["command"] for run in row["runs"] if run.get("command")]
        parts.append(f"<h3>{escape(row['name'])}</h3>")
        if commands:
            commands += [_evaluation(commands[-1], column) for column in columns]
        lines = "".join(f"<code>{escape(command)}</code>" for command in commands or ["not run"])
        parts.append(f"<pre>{lines}</pre>")
    return parts


def _evaluation(command: str, column: Column) -> str:
    """Turn a command that trains into the one that measures what it trained."""
    _, *arguments = shlex.split(command)
    if "--seed" in arguments:
        place = arguments.index("--seed")
        del arguments[place : place + 2]
    attack = column.attack
    arguments += ["--attack", attack.name]
    if attack.name != "clean":
        arguments += ["--norm", attack.norm, "--eps", str(attack.eps)]
    if attack.name == "pgd":
        arguments += ["--steps", str(attack.steps), "--step-size", str(attack.step_size)]
        arguments += ["--restarts", str(attack.restarts)]
    arguments += ["--n", str(column.n), "--seed", str(column.seed)]
    return shlex.join(["mixacm", "evaluate", *arguments])


def _versions(results: Mapping[str, Any]) -> str:
    packages = results.get("packages") or {}
    return f"<p>{escape(', '.join(f'{name} {version}' for name, version in packages.items()))}</p>"
