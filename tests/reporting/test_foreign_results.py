"""Results that others wrote: read, or refused in a line with the key path."""

import copy
import json
from pathlib import Path

import pytest

from made_up_results import done, results, row, write
from mixacm_plugin.common.errors import UserError
from mixacm_plugin.reporting.markup import comma_separated, latex, markdown, write_tables
from mixacm_plugin.reporting.study_page import study_page
from mixacm_plugin.reporting.summary import summarise
from mixacm_plugin.reporting.tables import lay_out
from mixacm_plugin.studies.results import read_results
from recipes import run

WRONG = [None, True, 0, -1, 3.5, 1e400, 10**400, "", "x", "\ud800", [], {}, [1], {"a": 1}, [None]]
RUN = "rows.0.runs.0"
MISTAKES = {
    "title": (1, "title: expected text; found 1"),
    "rows": ({"a": 1}, "rows: expected a list"),
    "rows.0": ({"a": 1}, "rows.0.a: unknown key; expected name, base, "),
    "rows.0.reference": ([1.0], "rows.0.reference: expected a number for each of clean, robust"),
    "reference": (None, "rows.0.reference: expected a number for each of nothing"),
    f"{RUN}.seed": ("0", f"{RUN}.seed: expected a whole number; found '0'"),
    f"{RUN}.train_seconds": (1e400, f"{RUN}.train_seconds: expected a finite number"),
    f"{RUN}.accuracies.0.n": (0, f"{RUN}.accuracies.0: expected correct, clean_correct and n"),
    f"{RUN}.accuracies.0.correct": (-1, f"{RUN}.accuracies.0: expected correct"),
    f"{RUN}.accuracies.1.attack.name": ("pdg", f"{RUN}.accuracies.1.attack: attack must be one"),
}


def places(content, path=()):
    yield path
    children = content.items() if isinstance(content, dict) else ()
    if isinstance(content, list):
        children = enumerate(content[:1])
    for name, child in children:
        yield from places(child, (*path, name))


def put(content, path, value):
    content = copy.deepcopy(content)
    inner = content
    for name in path[:-1]:
        inner = inner[int(name) if isinstance(inner, list) else name]
    inner[int(path[-1]) if isinstance(inner, list) else path[-1]] = value
    return content


@pytest.mark.parametrize(("path", "mistake"), MISTAKES.items(), ids=MISTAKES)
def test_results_of_wrong_types_are_refused_with_their_key_path(path, mistake, capsys):
    value, words = mistake
    write(put(results(), path.split("."), value))
    assert run("main", "report", "study") == 2
    error = capsys.readouterr().err
    assert f"study/results.json: {words}" in error
    assert all(line.startswith("mixacm: error: study/") for line in error.splitlines())


def test_rows_and_seeds_that_were_put_together_twice_are_refused(capsys):
    runs = [done(0, 490, 335), done(1, 488, 340)]
    write(results([row("a", [*runs, done(0, 490, 335)]), row("b", runs), row("a", runs)]))
    assert run("main", "report", "study") == 2
    error = capsys.readouterr().err
    assert "study/results.json: rows.0.runs.2.seed: 0 is given twice" in error
    assert "study/results.json: rows.2.name: 'a' is given twice" in error
    assert error.count("\n") == 2


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"title": "\\ud800", "rows": []}', "\0"])
def test_what_is_not_json_is_one_line(text, capsys):
    Path("results.json").write_text(text)
    assert run("main", "report", ".") == 2
    assert capsys.readouterr().err.startswith("mixacm: error: results.json: not JSON: ")


@pytest.mark.parametrize("value", WRONG, ids=lambda value: str(value)[:9])
def test_whatever_stands_at_a_place_is_read_or_refused(value):
    good = results()
    for path in places(good):
        if path:
            write(put(good, path, value))
            try:
                found = read_results("study")
            except UserError:
                continue
            summary = summarise(found)
            texts = [markdown(lay_out(summary)), latex(lay_out(summary)), comma_separated(summary)]
            assert all(text.encode() for text in (*texts, study_page(found, [])))


def test_line_breaks_in_names_do_not_end_a_row_of_a_table():
    content = results([row("a\n| b |", [done(0, 490, 335)]), row("c\n\nd", [done(0, 490, 335)])])
    write(content)
    write_tables(read_results("study"), "study")
    lines = Path("study/table.md").read_text().splitlines()
    first, second = [line for line in lines if line.startswith("|")][2:]
    assert first.startswith(r"| a \| b \| | ")
    assert second.startswith("| c d | ")
    assert "    c d & " in Path("study/table.tex").read_text()
    assert json.loads(Path("study/results.json").read_text()) == content
