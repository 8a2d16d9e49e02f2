"""Sanity lines: they hold of a plain network, and not where attacks fail to do their work."""

import json
from pathlib import Path

import pytest

from classifiers import Scaled, trained_network
from mixacm_plugin import PGD, AutoAttack, Clean, Square, evaluate
from mixacm_plugin.evaluation.sanity import sanity
from mixacm_plugin.reporting.study_page import study_page
from mixacm_plugin.studies.runner import collect
from mixacm_plugin.studies.runs import resolve
from recipes import Few, digits, run, write
from studies import done_here, write_study

NAMES = [
    "more steps aren't weaker",
    "an attack without bounds leaves nothing",
    "gradients do no worse than none",
    "the loss grows along the attack",
]


@pytest.fixture(scope="module")
def model():
    return trained_network()


@pytest.mark.parametrize(
    "attack",
    [PGD(eps=0.1, steps=10), PGD("L2", 0.5, 10), AutoAttack(eps=0.1)],
    ids=["Linf", "L2", "AutoAttack"],
)
def test_all_sanity_lines_hold_of_a_plain_network(model, attack):
    lines = sanity(model, digits("test"), attack, n=40)
    assert [line.name for line in lines] == NAMES
    assert [line.holds for line in lines] == [True] * 4, list(map(str, lines))


def test_sanity_lines_do_not_hold_of_masked_gradients(model):
    lines = sanity(Scaled(model, 1e4), digits("test"), PGD(eps=0.1, steps=10), n=40)
    holds = {line.name: line.holds for line in lines}
    assert not holds["an attack without bounds leaves nothing"]
    assert not holds["gradients do no worse than none"]
    assert "DOES NOT HOLD" in str(lines[1])


def test_clean_accuracy_has_no_sanity(model):
    with pytest.raises(ValueError, match="'clean' has none"):
        sanity(model, digits("test"), Clean())


def test_square_is_an_attack_of_its_own(model):
    plain = evaluate(model, Few("test", 30), Square(eps=0.1, queries=200))
    masked = evaluate(Scaled(model, 1e4), Few("test", 30), Square(eps=0.1, queries=200))
    assert plain.attack.title == "Square (200 queries)"
    assert plain.correct == masked.correct < plain.clean_correct  # it needs no gradient
    with pytest.raises(ValueError, match="queries must be a whole number of at least 1; found 0"):
        Square(queries=0)


def test_the_command_prints_the_lines_and_writes_them(capsys):
    write()
    argv = ("evaluate", "--config", "recipe.yaml", "--device", "cpu", "--model", "teacher")
    pgd = ("--attack", "pgd", "--eps", "0.1", "--steps", "2", "--step-size", "0.1", "--n", "5")
    assert run("main", *argv, *pgd, "--sanity", "--json", "out.json") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sanity, ")]
    assert [line.split(": ")[0].removeprefix("sanity, ") for line in lines] == NAMES
    (figure,) = json.loads(Path("out.json").read_text())
    assert [line["name"] for line in figure["sanity"]] == NAMES
    assert run("main", *argv, "--attack", "clean", "--sanity") == 2
    assert "--sanity: needs an attack with a threat model" in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_keeps_sanity_lines_and_its_report_shows_them():
    study = write_study(rows=[{"name": "one"}], sanity=True)
    runs = resolve(study, Path("cache"))
    done_here(study, runs)
    results = collect(study, runs, {})
    assert [line.name for line in results.rows[0].runs[0].sanity] == NAMES
    html = study_page(results, [])
    assert "Sanity of the attack" in html
    assert "an attack without bounds leaves nothing" in html
    without = write_study(rows=[{"name": "one"}])
    assert "Sanity of the attack" not in study_page(collect(without, runs, {}), [])
