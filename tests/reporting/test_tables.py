"""Tables of a study, against figures worked out by hand."""

import csv
import io
from pathlib import Path

import pytest

from made_up_results import LABEL, accuracy, done, failed, made, not_run, results, row, write
from mixacm_plugin.common.errors import RecipeError
from mixacm_plugin.reporting.markup import comma_separated, latex, markdown, write_tables
from mixacm_plugin.reporting.summary import summarise
from mixacm_plugin.reporting.tables import lay_out
from mixacm_plugin.studies.results import read_results


def table(content=None):
    return lay_out(summarise(made(content or results())))


def cells(content=None):
    """The cells' texts by row and column; an own column's Δ by its title and Δ."""
    found, laid_out = {}, table(content)
    for line in laid_out.rows:
        by_column, title = {}, ""
        for head, cell in zip(laid_out.heads[1:], line[1:], strict=True):
            title = f"{title} Δ" if head == "Δ" else head
            # The published columns come last, and one has the name of an own one.
            by_column[f"paper {head}" if head in by_column else title] = cell
        found[line[0].text] = by_column
    return found


# clean 98.0, 97.6, 98.2; PGD 67, 68, 66 | clean 99, 98; PGD 60, 62 | the same each time
@pytest.mark.parametrize(
    ("name", "clean", "pgd"),
    [
        ("full", "97.9 ± 0.3", "67.0 ± 1.0"),
        ("no KD (1 of 3 seeds failed)", "98.5 ± 0.7", "61.0 ± 1.4"),
        ("no ACM", "97.0 ± 0.0", "40.0 ± 0.0"),
        ("diverged (3 of 3 seeds failed)", "failed", "failed"),
    ],
)
def test_a_cell_is_mean_and_sample_deviation_of_the_seeds_that_finished(name, clean, pgd):
    line = cells()[name]
    assert (line["clean"].text, line["PGD-20"].text) == (clean, pgd)


def test_a_single_seed_is_just_its_value():
    content = results([row("only", [done(4, 490, 335)])])
    assert cells(content)["only"]["PGD-20"].text == "67.0"
    assert "training seed 4." in table(content).caption
    assert "±" not in markdown(table(content))


def test_the_caption_says_so_where_only_some_rows_have_several_seeds():
    rows = [row("a", [done(0, 490, 335), done(1, 490, 340)]), row("b", [done(0, 490, 335)])]
    assert table(results(rows)).caption.startswith(
        "Accuracy in %, mean ± standard deviation over training seeds 0, 1 "
        "(without ±: of a single model). clean: n = 500"
    )


def test_a_measurement_that_is_given_two_ways_counts_each_seed_once():
    runs = [done(0, 490, 335), done(1, 480, 340)]
    for each in runs:
        each["accuracies"].append(each["accuracies"][0])
    clean = cells(results([row("a", runs)]))["a"]["clean"]
    assert clean.text == "97.0 ± 1.4"  # of 98 and 96; twice each would be ± 1.2


def test_the_best_of_each_column_is_bold_and_so_is_what_reads_the_same():
    bold = {name: [h for h, c in line.items() if c.bold] for name, line in cells().items()}
    assert [*bold.values()] == [["PGD-20"], ["clean"], [], []]
    # 67.00 and 67.04 can't be told apart with one digit.
    fine = done(0, 490, 0)
    fine["accuracies"][1] = accuracy("pgd", 1676, 2450, 2500)
    rough = done(0, 490, 0)
    rough["accuracies"][1] = accuracy("pgd", 1675, 2450, 2500)
    alike = cells(results([row("a", [fine]), row("b", [rough])]))
    assert [line["PGD-20"].bold for line in alike.values()] == [True, True]


def test_a_lone_row_has_no_best_no_difference_and_no_cost():
    laid_out = table(results([row("only", [done(0, 490, 335)])]))
    assert laid_out.heads == ("row", "clean", "PGD-20")
    assert not any(cell.bold for cell in laid_out.rows[0])


@pytest.mark.parametrize(
    ("name", "clean", "pgd"),
    [
        ("full", "–", "–"),
        ("no KD (1 of 3 seeds failed)", "+0.6", "−6.0"),
        ("no ACM", "−0.9", "−27.0"),
        ("diverged (3 of 3 seeds failed)", "–", "–"),
    ],
)
def test_delta_is_points_from_the_first_row(name, clean, pgd):
    line = cells()[name]
    assert (line["clean Δ"].text, line["PGD-20 Δ"].text) == (clean, pgd)


def test_without_a_first_row_that_finished_there_is_no_difference():
    content = results([row("first", [failed(0)]), row("second", [done(0, 490, 335)])])
    assert cells(content)["second"]["PGD-20 Δ"].text == "–"


def test_costs_are_shown_where_they_were_measured():
    assert [line["cost"].text for line in cells().values()] == ["×1.00", "×1.00", "×0.80", "–"]


def test_the_size_is_shown_where_rows_differ_in_it():
    assert [line["size %"].text for line in cells().values()] == [
        "100.00",
        "25.00",
        "5.00",
        "100.00",
    ]
    same = results([row("a", [done(0, 1, 1)]), row("b", [failed(0)], size_ratio=None)])
    assert "size %" not in table(same).heads


def test_published_figures_stand_apart_with_their_label():
    laid_out = table()
    assert (laid_out.reference, laid_out.references) == (LABEL, 2)
    assert laid_out.heads[-2:] == ("clean", "robust")
    assert [c.text for c in laid_out.rows[0][-2:]] == ["90.76", "56.65"]
    assert [c.text for c in laid_out.rows[2][-2:]] == ["–", "–"]
    assert f"| {LABEL}: clean | {LABEL}: robust |" in markdown(laid_out)
    label = r"\shortstack{paper, WRN-34-10 \\ (attack not stated)}"
    assert rf"\multicolumn{{2}}{{c}}{{{label}}}" in latex(laid_out)
    assert table(results(reference=None)).references == 0


def test_the_caption_carries_all_that_a_figure_is_quoted_with():
    assert table().caption.startswith(
        "Accuracy in %, mean ± standard deviation over training seeds 0, 1, 2. "
        "clean: n = 500, seed 0; PGD-20 (step 0.02): Linf, ε = 0.15, n = 500, seed 0."
    )


@pytest.mark.parametrize(
    ("change", "titles"),
    [
        ({"eps": "0.2"}, ("PGD-20 ε=0.15", "PGD-20 ε=0.2")),
        ({"norm": "L2", "eps": "1"}, ("PGD-20 Linf ε=0.15", "PGD-20 L2 ε=1")),
        ({"restarts": 5}, ("PGD-20 1 restart", "PGD-20 5 restarts")),
        ({"steps": 100}, ("PGD-20", "PGD-100")),
    ],
)
def test_columns_of_the_same_attack_are_told_apart_by_what_differs(change, titles):
    run = done(0, 490, 335)
    run["accuracies"].append(accuracy("pgd", 250, 490, 500, **change))
    assert table(results([row("a", [run])], reference=None)).heads == ("row", "clean", *titles)


def test_a_number_and_its_text_are_the_same_setting():
    number = done(0, 490, 340)
    number["accuracies"][1]["attack"].update(eps=0.15, step_size=0.02)
    laid_out = table(results([row("text", [done(0, 490, 335)]), row("number", [number])]))
    assert laid_out.heads[:5] == ("row", "clean", "Δ", "PGD-20", "Δ")
    assert laid_out.heads.count("PGD-20") == 1
    assert laid_out.rows[1][4].text == "+1.0"


def test_clean_accuracy_is_a_column_also_where_no_attack_is_named_clean():
    run = done(0, 490, 335)
    del run["accuracies"][0]
    assert cells(results([row("a", [run])]))["a"]["clean"].text == "98.0"


def test_a_study_without_a_finished_run_still_has_a_table():
    laid_out = table(results([row("a", [failed(0)]), row("b", [])], reference=None))
    assert [line[0].text for line in laid_out.rows] == ["a (1 of 1 seeds failed)", "b (not run)"]
    assert laid_out.caption == "No run finished."


def test_seeds_that_were_not_run_are_counted_beside_those_that_failed():
    rows = [
        row("a", [done(0, 490, 335), not_run(1)]),
        row("b", [failed(0), done(1, 490, 335), not_run(2)]),
        row("c", [not_run(0), not_run(1)]),
    ]
    names = [line[0].text for line in table(results(rows, reference=None)).rows]
    assert names == [
        "a (1 of 2 seeds not run)",
        "b (1 of 3 seeds failed, 1 of 3 seeds not run)",
        "c (not run)",
    ]


def test_a_teacher_has_no_seeds_in_its_state_nor_in_a_captions():
    measured = {**done(0, 490, 335), "seed": None}
    broken = {**failed(0), "seed": None}
    summary = summarise(made(results([row("good", [measured]), row("bad", [broken])])))
    assert [row.label for row in summary.rows] == ["good", "bad (failed)"]
    assert summary.caption().startswith("Accuracy in %. clean: n = 500")
    assert "seed" not in summary.short_caption()


def test_the_spreadsheet_holds_full_figures_and_says_which():
    first, second, _, last = csv.DictReader(
        io.StringIO(comma_separated(summarise(made(results()))))
    )
    pgd = "PGD-20 (step 0.02): Linf, ε = 0.15, n = 500, seed 0"
    assert (first[f"{pgd}: mean %"], first[f"{pgd}: std"]) == ("67", "1")
    assert float(second[f"{pgd}: std"]) == pytest.approx(2**0.5, rel=1e-5)
    assert second[f"{pgd}: delta to first row"] == "-6"
    assert (second["seeds done"], second["seeds failed"]) == ("0 1", "2")
    assert (last[f"{pgd}: mean %"], last["size ratio"], last[f"{LABEL}: robust"]) == ("", "1", "")


def test_names_are_escaped_in_every_markup():
    laid_out = table(results([row("α_acm | 50 % & <b>", [done(0, 490, 335)])], reference=None))
    assert r"| α\_acm \| 50 % & &lt;b> |" in markdown(laid_out)
    escaped = r"$\alpha$\_acm \textbar{} 50 \% \& \textless{}b\textgreater{} &"
    assert escaped in latex(laid_out)
    assert latex(laid_out).isascii()


def test_the_latex_table_is_booktabs_with_a_cell_for_every_column():
    text = latex(table())
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    columns = len(table().heads)
    assert rf"\begin{{tabular}}{{l{'r' * (columns - 1)}}}" in text
    assert len(lines) == 2 + len(table().rows)
    assert all(line.count("&") == columns - 1 for line in lines[1:])
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"\textbf{67.0 $\pm$ 1.0}" in text


def test_the_three_files_are_written():
    files = write_tables(made(results()), "new/folder")
    assert [file.name for file in files] == ["table.md", "table.csv", "table.tex"]
    assert Path("new/folder/table.md").read_text(encoding="utf-8") == markdown(table())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "can't read it: No such file"),
        ("{", "not JSON"),
        ("[1]", "expected title and rows"),
        ('{"title": "t", "rows": []}', "format: of an older version"),
        ('{"title": "t", "rows": [], "format": 2, "packages": {}, "plots": []}', "study: missing"),
    ],
)
def test_a_folder_without_a_studys_results_is_one_line(text, message):
    folder = write(results())
    file = folder / "results.json"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(RecipeError, match=message) as error:
        read_results(folder)
    assert "\n" not in str(error.value)
