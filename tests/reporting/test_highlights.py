"""What the first screen of a study's page says came out highest."""

from made_up_results import done, made, results, row
from mixacm_plugin.reporting.highlights import highlights
from mixacm_plugin.reporting.summary import summarise


def test_a_teacher_that_was_only_measured_is_no_winner():
    teacher = {**done(0, 499, 499), "seed": None}
    rows = [row("a", [done(0, 490, 335)]), row("b", [done(0, 490, 235)])]
    content = results([*rows, row("teacher", [teacher], measure="teacher")])
    summary = summarise(made(content))
    assert dict(highlights(made(content), summary))["Highest"][1] == "PGD-20: a, 67.0 %"


def test_highest_figures_carry_the_tables_mark():
    best = done(0, 480, 460)
    best["accuracies"][1]["warnings"] = ["zero gradient"]
    near = done(0, 490, 455, test_images="other")
    rows = [row("a", [done(0, 490, 335, test_images="x")]), row("b", [best]), row("c", [near])]
    content = made(results(rows))
    highest = dict(highlights(content, summarise(content)))["Highest"]
    assert highest[1] == "PGD-20: b, 92.0 % †; within its error bar: c †"
