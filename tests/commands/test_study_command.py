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
