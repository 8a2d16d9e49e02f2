"""Studies with one thing wrong: refused when the file is read, or before training, in one line."""

import re
from pathlib import Path

import pytest

import recipes
from mixacm_plugin import RecipeError
from mixacm_plugin.studies.runs import resolve
from mixacm_plugin.studies.study import read_study
from studies import REFERENCE, done_here, write_study

BAD = {
    "no rows": ({"rows": []}, "rows"),
    "unknown key": ({"row": []}, "row: unknown key"),
    "misspelt key of a row": ({"rows": [{"name": "a", "sets": {}}]}, "rows.0.sets: unknown key"),
    "row twice": ({"rows": [{"name": "a"}, {"name": "a"}]}, "rows.1.name: 'a' is given twice"),
    "no such base": ({"base": "nowhere"}, r"study\.yaml: base: no file"),
    "no such base of a row": (
        {"rows": [{"name": "a"}, {"name": "b", "base": "nowhere"}]},
        r"study\.yaml: rows\.1\.base: no file",
    ),
    "no such attack": ({"evaluate": [{"attack": "fgsm"}]}, "evaluate.0"),
    "no such override file": (
        {"rows": [{"name": "a", "set": "changes"}]},
        "rows.0.set: no file changes and no shipped override file",
    ),
    "set of a row": ({"rows": [{"name": "a", "set": [3]}]}, "rows.0.set: expected key paths"),
    "row that is no mapping": ({"rows": ["abc"]}, "rows.0: expected a mapping"),
    "seeds that are no list": ({"seeds": 3}, "seeds: expected a list; found 3"),
    "seed that is no number": ({"seeds": ["a"]}, "seeds.0: expected a whole number"),
    "seed that no generator takes": (
        {"seeds": [2**32]},
        "seeds.0: .* 4294967295; found 4294967296",
    ),
    "seed given twice": ({"seeds": [0, 1, 0]}, "seeds.2: 0 is given twice"),
    "title that is no text": ({"title": 3}, "title: expected text; found 3"),
    "scales that are no mapping": ({"scales": ["s"]}, "scales: expected a mapping"),
    "figures of fewer columns": (
        {"reference": REFERENCE, "rows": [{"name": "a", "reference": [1.0]}]},
        r"rows.0.reference: expected a number for each of clean, robust.*found \[1.0\]",
    ),
    "figures that are no list": (
        {"reference": REFERENCE, "rows": [{"name": "a", "reference": 1.0}]},
        "rows.0.reference: .*found 1.0",
    ),
    "figures of no one": (
        {"rows": [{"name": "a", "reference": [1.0]}]},
        "rows.0.reference: the study has no reference",
    ),
    "reference that is no mapping": (
        {"reference": 1.0},
        "reference: expected a mapping; found 1.0",
    ),
    "reference without columns": ({"reference": {"label": "a"}}, "reference.columns: missing"),
    "steps that are no whole number": (
        {"evaluate": [{"attack": "pgd", "steps": 1.5}]},
        "evaluate.0: .*steps must be a whole number of at least 1; found 1.5",
    ),
    "steps that are a switch": (
        {"evaluate": [{"attack": "pgd", "steps": True}]},
        "evaluate.0: .*found True",
    ),
    "attacks that are no list": ({"evaluate": 3}, "evaluate: expected a list"),
    "number of images": ({"evaluate": [{"attack": "clean", "n": "many"}]}, "evaluate.0: .*'many'"),
    "base that is no name": ({"base": 3}, "base: expected the name of a file; found 3"),
    "scale's row": ({"scales": {"s": {"rows": {"two": 3}}}}, "scales.s.rows.two: expected a map"),
    "name that is a list": ({"rows": [{"name": ["a", "b"]}]}, "rows.0.name: expected a name"),
    "name that is empty": ({"rows": [{"name": ""}]}, "rows.0.name: expected a name"),
    "name that is a space": ({"rows": [{"name": " "}]}, "rows.0.name: expected a name"),
    "name of two lines": ({"rows": [{"name": "a\nb"}]}, "rows.0.name: .* in one line"),
    "rows of a scale that are no names": (
        {"scales": {"s": {"rows": {1: {}, "x": {}}}}},
        "scales.s.rows: the study has no row 1",
    ),
    "scale that is no name": ({"scales": {2024: {}}}, "no scale 's'; there are: 2024"),
    "row of a scale": ({"scales": {"s": {"rows": {"three": {}}}}}, "no row 'three'"),
}


@pytest.mark.parametrize(("changes", "words"), BAD.values(), ids=BAD)
def test_a_malformed_study_is_refused_with_its_key_path(changes, words):
    with pytest.raises(RecipeError, match=words):
        write_study(**changes)
        read_study("study.yaml", "s")


@pytest.mark.parametrize("command", [("study", "study.yaml"), ("quickstart",)])
def test_a_seed_given_twice_is_refused(command, capsys):
    write_study()
    assert recipes.run("main", *command, "--seeds", "0", "1", "0") == 2
    assert capsys.readouterr().err == "mixacm: error: --seeds: 0 is given twice\n"


def test_a_key_given_twice_is_refused_and_not_half_of_it_dropped():
    write_study()
    with open("study.yaml", "a") as file:
        file.write("seeds: [7]\n")
    with pytest.raises(RecipeError, match="'seeds' is given twice"):
        read_study("study.yaml")


def test_more_images_than_there_are_are_refused_before_training():
    study = write_study(rows=[{"name": "one"}], evaluate=[{"attack": "clean", "n": 51}])
    (run,) = resolve(study, Path("cache"))
    with pytest.raises(RecipeError, match="test: clean: n must be between 1 and the 50 images"):
        done_here(study, [run])
    assert not (run.folder / "student.pt").exists()


def test_too_few_classes_for_autoattack_are_refused_before_training():
    study = write_study(rows=[{"name": "one"}], evaluate=[{"attack": "autoattack", "n": 5}])
    recipe = recipes.scratch().replace("num_classes: 10", "num_classes: 3")
    recipes.write(
        re.sub(r"recipes.Few(.*)n: \d+", r"mixacm_plugin.Digits\1classes: [0, 1, 2]", recipe)
    )
    (run,) = resolve(study, Path("cache"))
    with pytest.raises(RecipeError, match=r"test: AutoAttack needs .* 4 classes; found 3"):
        done_here(study, [run])
    assert not (run.folder / "student.pt").exists()
