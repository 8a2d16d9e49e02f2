"""``mixacm study``: which runs it makes, lists and reports."""

import json
from pathlib import Path

import pytest

import recipes
from mixacm_plugin.studies.runs import resolve
from studies import LR, done_here, write_study

pytestmark = pytest.mark.usefixtures("processes_that_find_the_tests_data")


@pytest.mark.slow
def test_a_study_with_a_failed_run_ends_with_exit_code_1():
    write_study(rows=[{"name": "bad", "set": {"train.num_epochs": None}}])
    assert recipes.run("main", "study", "study.yaml", "--device", "cpu") == 1


def test_the_command_lists_runs_and_writes_results(capsys):
    study = write_study(rows=[{"name": "one"}])
    (run,) = resolve(study, Path("runs/studies/cache"))
    assert recipes.run("main", "study", "study.yaml", "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"to run  {run.key}  one, seed 0", "1 runs, 0 cached"]
    done_here(study, [run])
    assert recipes.run("main", "study", "study.yaml", "--device", "cpu") == 0
    assert "| one" in capsys.readouterr().out
    results = json.loads(Path("runs/studies/study/results.json").read_text())
    assert results["rows"][0]["runs"][0]["status"] == "done"


@pytest.mark.slow
def test_some_rows_can_be_run_now_and_the_others_later(capsys):
    rows = [
        {"name": name, "set": {LR: lr}} for name, lr in (("a [x]", 0.01), ("b", 0.02), ("ab", 0.03))
    ]
    first, *others = resolve(write_study(rows=rows), Path("runs/studies/cache"))

    def states(*arguments):
        assert recipes.run("main", "study", "study.yaml", "--device", "cpu", *arguments) == 0
        results = json.loads(Path("runs/studies/study/results.json").read_text())
        return [row["runs"][0]["status"] for row in results["rows"]]

    assert states("--rows", "a [x]") == ["done", "not run", "not run"]
    assert "| b (not run)" in capsys.readouterr().out
    assert not any(run.folder.exists() for run in others)
    trained = (first.folder / "student.pt").stat().st_mtime_ns
    assert states("--rows", "b", "*b") == ["done"] * 3
    assert (first.folder / "student.pt").stat().st_mtime_ns == trained


def test_a_row_that_is_not_there_is_one_line_and_nothing_runs(capsys):
    write_study()
    assert recipes.run("main", "study", "study.yaml", "--rows", "one", "tow") == 2
    assert capsys.readouterr().err == (
        "mixacm: error: study.yaml: --rows: no row 'tow'; there are: one, two. "
        "Did you mean 'two'?\n"
    )
    assert not Path("runs").exists()


def test_more_images_than_there_are_are_refused_before_anything_is_listed_or_run(capsys):
    write_study(evaluate=[{"attack": "clean"}, {"attack": "pgd", "n": 51}])
    for flags in (("--list",), ()):
        assert recipes.run("main", "study", "study.yaml", *flags) == 2
        assert capsys.readouterr() == (
            "",
            "mixacm: error: study.yaml: evaluate.1: row 'one': n must be between 1 and the 50 "
            "images of the dataset; found 51\n",
        )
    assert not Path("runs").exists()


def test_a_study_whose_images_are_not_here_is_listed_all_the_same(capsys):
    recipe = recipes.mixacm().replace(
        "recipes.Few, init: {kwargs: {split: test, n: 50}}", "recipes.OutOfReach"
    )
    write_study(rows=[{"name": "one"}])
    Path("recipe.yaml").write_text(recipe)
    assert recipes.run("main", "study", "study.yaml", "--list") == 0
    assert "1 runs, 0 cached" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ("study", "recipe.yaml"),
            "recipe.yaml: it is a recipe: torchdistill --config recipe.yaml",
        ),
        (("train", "--config", "study.yaml"), "study.yaml: it is a study: mixacm study study.yaml"),
        (("train", "--config", "lr.yaml"), "lr.yaml: it is an override file: --set lr.yaml"),
        (
            ("train", "--config", "recipe.yaml", "--set", "study.yaml"),
            "study.yaml: it is a study: mixacm study study.yaml",
        ),
    ],
)
def test_a_file_of_another_kind_is_answered_with_its_use(argv, words, capsys):
    write_study()
    Path("lr.yaml").write_text(f"{LR}: 0.1\n")
    assert recipes.run("main", *argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mixacm: error: {words}")
    assert error.count("\n") == 1
