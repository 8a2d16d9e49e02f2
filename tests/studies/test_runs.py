"""A study's rows are resolved into runs, each known by its content."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import recipes
from mixacm_plugin import RecipeError
from mixacm_plugin.studies.changes import override_files, overrides, sets
from mixacm_plugin.studies.runner import collect
from mixacm_plugin.studies.runs import resolve
from mixacm_plugin.studies.study import read_study
from studies import LR, WEIGHT, studies, write_study


def keys_of_two_contents():
    """Keys of the run that init.yaml changes, of two contents of init.pt."""
    study = write_study(rows=[{"name": "a", "set": "init.yaml"}])
    keys = set()
    for content in (b"one", b"two"):
        Path("init.pt").write_bytes(content)
        keys.update(run.key for run in resolve(study, Path("cache")))
    return keys


def test_a_file_below_the_home_folder_belongs_to_a_runs_content(monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    Path("init.yaml").write_text("models.student_model.src_ckpt: ~/init.pt\n")
    assert len(keys_of_two_contents()) == 2


@pytest.mark.parametrize("part", ["models.student_model.kwargs", "datasets.few/train.init.kwargs"])
def test_a_checkpoint_that_a_model_or_a_dataset_reads_belongs_to_a_runs_content(part):
    Path("init.yaml").write_text(f"{part}.init_ckpt: init.pt\n")
    assert len(keys_of_two_contents()) == 2


def test_a_teacher_can_only_be_measured_where_there_is_one():
    Path("alone.yaml").write_text(recipes.scratch())
    study = write_study(rows=[{"name": "a", "base": "alone.yaml", "measure": "teacher"}])
    with pytest.raises(RecipeError, match="row 'a': measure: no teacher in alone"):
        resolve(study, Path("cache"))


def test_a_moving_average_can_only_be_measured_where_the_recipe_keeps_one():
    with pytest.raises(RecipeError, match="row 'a': measure: no ema in"):
        resolve(write_study(rows=[{"name": "a", "measure": "ema"}]), Path("cache"))


def test_a_run_is_known_by_its_content():
    def keys(**changes):
        return [run.key for run in resolve(write_study(**changes), Path("cache"))]

    same_twice = keys(rows=[{"name": "a"}, {"name": "b", "set": {LR: 0.05}}])
    assert same_twice[0] == same_twice[1]
    assert keys(rows=[{"name": "a", "set": {LR: 0.1}}]) != same_twice[:1]
    assert keys(rows=[{"name": "a"}], seeds=[1]) != same_twice[:1]
    study = write_study(rows=[{"name": "a"}])
    assert [run.key for run in resolve(study, Path("cache"), tasks=2)] != same_twice[:1]
    torch.save({}, "teacher.pt")
    assert [run.key for run in resolve(study, Path("cache"))] != same_twice[:1]


def test_another_version_of_the_package_trains_anew(monkeypatch):
    study = write_study(rows=[{"name": "a"}])
    (now,) = resolve(study, Path("cache"))
    monkeypatch.setattr("mixacm_plugin.studies.runs.version", lambda package: "1000.0")
    (later,) = resolve(study, Path("cache"))
    assert later.key != now.key


def test_an_override_that_does_not_fit_names_the_row():
    study = write_study(rows=[{"name": "wrong", "set": {"train.epochs": 3}}])
    with pytest.raises(RecipeError, match=r"row 'wrong'.*no 'epochs' in train.*'num_epochs'"):
        resolve(study, Path("cache"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": None}, "models: empty"),
        ({"models.teacher_model.src_ckpt": ["a.pt"]}, "src_ckpt: expected a path or URL"),
    ],
)
def test_a_row_without_models_or_with_a_wrong_checkpoint_is_refused(changes, words):
    with pytest.raises(RecipeError, match=f"row 'a': .*{words}"):
        resolve(write_study(rows=[{"name": "a", "set": changes}]), Path("cache"))


def test_an_override_for_all_rows_is_for_those_that_have_its_key():
    rows = [{"name": "taught"}, {"name": "alone", "base": "alone.yaml"}]
    Path("alone.yaml").write_text(recipes.scratch())
    study = write_study(rows=rows)
    teacher = "models.teacher_model.src_ckpt=other.pt"
    runs = resolve(study, Path("cache"), [teacher, "train.log_freq=7"])
    assert runs[0].recipe.build("models", "teacher_model", "src_ckpt") == "other.pt"
    assert [teacher in sets(run.changes) for run in runs] == [True, False]
    assert [run.recipe.build("train", "log_freq") for run in runs] == [7, 7]
    with pytest.raises(RecipeError, match="no 'train_epochs' in the recipe"):
        resolve(study, Path("cache"), ["train_epochs=7"])


def test_a_scale_replaces_what_it_names():
    write_study(
        seeds=[0, 1, 2],
        scales={
            "small": {"seeds": [5], "set": {LR: 0.5}, "rows": {"two": {"set": {WEIGHT: 3.0}}}},
            "other": {"rows": [{"name": "three"}]},
        },
    )
    small = read_study("study.yaml", "small")
    assert small.seeds == [5]
    assert [overrides(row.changes) for row in small.rows] == [{LR: 0.5}, {LR: 0.5, WEIGHT: 3.0}]
    assert [row.name for row in read_study("study.yaml", "other").rows] == ["three"]


def test_a_row_takes_override_files_in_their_place_among_overrides():
    Path("changes.yaml").write_text(f"{WEIGHT}: 3.0\n{LR}: 0.3\n")
    study = write_study(
        set={WEIGHT: 7.0},
        rows=[
            {"name": "file", "set": "changes.yaml"},
            {"name": "file, then a value", "set": ["changes.yaml", {LR: 0.4}]},
            {"name": "value, then a file", "set": [{LR: 0.4}, "changes.yaml"]},
        ],
    )
    runs = resolve(study, Path("cache"))
    lrs = [run.recipe.build("train", "optimizer", "kwargs", "lr") for run in runs]
    assert lrs == [0.3, 0.4, 0.3]
    terms = runs[0].recipe.build("train", "criterion", "kwargs", "sub_terms")
    assert terms["acm"]["weight"] == 3.0
    row = collect(study, runs, {}).rows[1]
    command = shlex.join(row.training_command(row.runs[0]))
    assert f"--set changes.yaml --set {LR}=0.4" in command
    assert override_files(row.changes) == ["changes.yaml"]


@pytest.mark.exhaustive(each=("name",))
@pytest.mark.parametrize(("name", "scale"), studies())
def test_every_shipped_study_resolves_at_every_scale(name, scale):
    study = replace(read_study(name, scale), seeds=[0])
    assert len(resolve(study, Path("cache"))) == len(study.rows)
