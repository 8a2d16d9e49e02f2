"""Marks of figures that something speaks against, in a study's table."""

import pytest

from made_up_results import accuracy, done, made, results, row
from mixacm_plugin.reporting.markup import latex, markdown
from mixacm_plugin.reporting.summary import summarise
from mixacm_plugin.reporting.tables import lay_out


def table(content):
    return lay_out(summarise(made(content)))


def test_what_speaks_against_a_figure_stands_with_it_in_every_markup():
    doubtful = done(0, 490, 335)
    doubtful["accuracies"][1]["warnings"] = ["zero gradient (7 of 490 images)"]
    laid_out = table(results([row("a", [doubtful]), row("b", [done(0, 490, 335)])]))
    assert [line[3].text for line in laid_out.rows] == ["67.0 †", "67.0"]
    said = "a, PGD-20: zero gradient (7 of 490 images)"
    assert f"\n† {said}\n" in markdown(laid_out)
    assert rf"$\dagger$ {said}" in latex(laid_out)


def test_a_row_of_other_test_images_is_marked_and_has_no_difference():
    rows = [
        row(name, [done(0, 490, 335, test_images=images)])
        for name, images in (("a", "one"), ("b", "other"), ("c", "one"), ("old", None))
    ]
    laid_out = table(results(rows, reference=None))
    assert [line[3].text for line in laid_out.rows] == ["67.0", "67.0 †", "67.0", "67.0"]
    assert [line[4].text for line in laid_out.rows] == ["–", "–", "+0.0", "+0.0"]
    assert laid_out.warnings == (
        "b, clean: measured on other test images than the first row",
        "b, PGD-20: measured on other test images than the first row",
    )


@pytest.mark.parametrize(("mixed", "images"), [("a", "xyxx"), ("b", "xxxy")])
def test_a_row_whose_seeds_saw_other_test_images_than_each_other_is_marked(mixed, images):
    runs = [done(n % 2, 490 - n, 335, test_images=seen) for n, seen in enumerate(images)]
    laid_out = table(results([row("a", runs[:2]), row("b", runs[2:])], reference=None))
    assert [line[0].text for line in laid_out.rows if "†" in line[3].text] == [mixed]
    assert [line[4].text for line in laid_out.rows] == ["–", "–"]
    said = "its seeds were measured on other test images than each other"
    assert laid_out.warnings == (f"{mixed}, clean: {said}", f"{mixed}, PGD-20: {said}")


def test_a_sanity_check_that_does_not_hold_speaks_against_the_first_attack():
    name, figures = "an attack without bounds leaves nothing", "PGD-20, Linf ε = 1.0, 93.0 %"
    bad = {"name": name, "holds": False, "figures": figures}
    runs = [done(seed, 490, 335, sanity=[bad]) for seed in range(2)]
    good = done(0, 490, 335, sanity=[{**bad, "holds": True}])
    for each in [*runs, good]:
        each["accuracies"].append(accuracy("pgd", 300, 490, 500, steps=50))
    laid_out = table(results([row("a", runs), row("b", [good])], reference=None))
    assert [line[1].text + line[5].text for line in laid_out.rows] == [
        "98.0 ± 0.060.0 ± 0.0",
        "98.060.0",
    ]
    assert [line[3].text for line in laid_out.rows] == ["67.0 ± 0.0 †", "67.0"]
    assert laid_out.warnings == (f"a, PGD-20: sanity, {name}: {figures}: does not hold",)
