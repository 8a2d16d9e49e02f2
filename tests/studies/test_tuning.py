"""Tuning: which candidates there are, which go on, and that a paused run is no other run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import recipes
from mixacm_plugin import Training
from mixacm_plugin.common.errors import UserError
from mixacm_plugin.studies.execute import execute
from mixacm_plugin.studies.runs import resolve
from mixacm_plugin.studies.study import Study
from mixacm_plugin.studies.tasks import is_done, prepare
from mixacm_plugin.studies.tuning import (
    accuracy_at,
    judged_by,
    read_candidates,
    rung_epochs,
    short_names,
    tune,
    values_over,
)
from studies import LR, WEIGHT
from weights import differing


def tuned(over, seeds=(0,)):
    """The candidates of the tiny recipe, as a study, and its runs."""
    candidates = read_candidates(recipes.write(), [], over)
    study = Study("recipe.yaml", "t", "t", None, list(seeds), [], [c.row for c in candidates])
    return study, candidates, resolve(study, Path("cache"))


@pytest.mark.parametrize(
    ("text", "path", "values"),
    [
        ("a.b=1,2.5", "a.b", [1, 2.5]),
        ("a=[1, 2]", "a", [1, 2]),
        ("a=[1, 2],[3, 4]", "a", [[1, 2], [3, 4]]),
        ("a=x,null,'1,2'", "a", ["x", None, "1,2"]),
    ],
)
def test_values_are_yaml_split_by_commas(text, path, values):
    assert values_over(text) == (path, values)


@pytest.mark.parametrize(
    "text", ["a", "=1,2", "a=", "a=1,1", "a=1,'1'", "a=[1", "a=!import_get {key: b},2"]
)
def test_anything_else_is_refused_by_its_flag(text):
    with pytest.raises(UserError, match=r"^--over "):
        values_over(text)


@pytest.mark.parametrize(
    ("epochs", "candidates", "factor", "rungs"),
    [
        (40, 10, 3, [4, 13, 40]),
        (40, 3, 3, [13, 40]),
        (40, 2, 3, [40]),
        (100, 16, 2, [6, 12, 25, 50, 100]),
        (2, 100, 3, [2]),
    ],
)
def test_a_rung_has_a_share_of_the_epochs_for_each_time_that_candidates_are_cut(
    epochs, candidates, factor, rungs
):
    assert rung_epochs(epochs, candidates, factor) == rungs


def test_names_are_as_short_as_tells_keys_apart():
    assert short_names([WEIGHT, LR]) == {WEIGHT: "weight", LR: "lr"}
    assert short_names(["a.lr", "b.lr", "lr"]) == {"a.lr": "a.lr", "b.lr": "b.lr", "lr": "lr"}


def test_candidates_are_all_combinations_and_change_the_recipe():
    _, candidates, runs = tuned({WEIGHT: [1, 2], LR: [0.1, 0.2]}, seeds=(0, 1))
    names = ["weight 1, lr 0.1", "weight 1, lr 0.2", "weight 2, lr 0.1", "weight 2, lr 0.2"]
    assert [candidate.row.name for candidate in candidates] == names
    assert [(run.row.name, run.seed) for run in runs[:3]] == [
        (names[0], 0),
        (names[0], 1),
        (names[1], 0),
    ]
    assert runs[-1].recipe.build("train", "optimizer", "kwargs", "lr") == 0.2
    assert len({run.key for run in runs}) == 8


def test_the_better_share_goes_on_and_the_best_at_the_end_is_chosen():
    study, candidates, runs = tuned({LR: [0.1, 0.2, 0.3, 0.4, 0.5]})
    figures = {1: [0.1, 0.9, 0.5, 0.7, 0.3], 2: [None, 0.2, 0.4, 0.3, None]}
    trained = []

    def train(at, wanted):
        trained.append((at.until_epoch, [run.row.name for run in wanted]))
        return {runs[4].key: "it diverged"} if at.until_epoch == 1 else {}

    order = tune(
        study,
        candidates,
        runs,
        [1, 2],
        train,
        factor=2,
        accuracy=lambda run, epoch: figures[epoch][runs.index(run)],
    )
    first = [f"lr {lr}" for lr in (0.1, 0.2, 0.3, 0.4, 0.5)]
    assert trained == [(1, first), (None, ["lr 0.2", "lr 0.4"])]
    assert [c.row.name for c in order] == ["lr 0.4", "lr 0.2", "lr 0.3", "lr 0.1", "lr 0.5"]
    assert [c.error for c in order] == [None] * 4 + ["it diverged"]


def test_among_equals_the_first_listed_goes_on_whatever_an_earlier_rung_said(caplog):
    study, candidates, runs = tuned({LR: [0.1, 0.2, 0.3, 0.4]})
    figures = {"lr 0.1": 0.6, "lr 0.2": 0.7, "lr 0.3": 0.5, "lr 0.4": 0.5}
    order = tune(
        study,
        candidates,
        runs,
        [1, 2, 3],
        lambda at, wanted: {},
        factor=2,
        accuracy=lambda run, epoch: figures[run.row.name] if epoch == 1 else 0.8,
    )
    assert [len(c.accuracies) for c in candidates] == [3, 2, 1, 1]
    assert order[0].row.name == "lr 0.1"
    assert [record.message for record in caplog.records if record.name == "mixacm"] == [
        "lr 0.2 is as good as lr 0.1 after epoch 2, and left out since it is listed after it"
    ]


def at_the_last_rung(study, candidates, runs, factor, accuracy):
    """The candidates in their order, where there is one rung and nothing fails."""
    return tune(
        study, candidates, runs, [2], lambda at, wanted: {}, factor=factor, accuracy=accuracy
    )


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ([0.5, 0.7, 0.6, 0.7], ["lr 0.4 is as good as lr 0.2 after epoch 2, and left out"]),
        ([0.7, 0.8, 0.7, 0.6], []),  # equals of which neither is chosen
    ],
)
def test_equals_at_the_last_rung_are_told_where_they_are_the_best(figures, told, caplog):
    rates = [0.1, 0.2, 0.3, 0.4]
    study, candidates, runs = tuned({LR: rates})
    by_name = {f"lr {rate}": figure for rate, figure in zip(rates, figures, strict=True)}
    order = at_the_last_rung(study, candidates, runs, 2, lambda run, epoch: by_name[run.row.name])
    assert order[0].row.name == "lr 0.2"
    messages = [record.message for record in caplog.records if record.name == "mixacm"]
    assert [message.partition(" since")[0] for message in messages] == told


def test_seeds_count_by_their_mean():
    study, candidates, runs = tuned({LR: [0.1, 0.2]}, seeds=(0, 1))
    figures = {("lr 0.1", 0): 0.9, ("lr 0.1", 1): 0.1, ("lr 0.2", 0): 0.6, ("lr 0.2", 1): 0.6}
    order = at_the_last_rung(
        study, candidates, runs, 3, lambda run, epoch: figures[run.row.name, run.seed]
    )
    assert [c.row.name for c in order] == ["lr 0.2", "lr 0.1"]


def test_a_run_that_is_paused_at_a_rung_ends_as_one_that_is_not():
    study, _, (run, _) = tuned({LR: [0.1, 0.2]})
    at_one = replace(study, until_epoch=1)
    execute(prepare(run, at_one, "cpu"))
    assert is_done(run, at_one)
    assert (len(run.epochs), run.result) == (1, {})
    assert not is_done(run, study)
    paused = (run.folder / "student.pt").stat().st_mtime_ns
    execute(prepare(run, at_one, "cpu"))  # again, as after an interruption
    assert (run.folder / "student.pt").stat().st_mtime_ns == paused

    execute(prepare(run, study, "cpu"))
    assert is_done(run, study)
    assert run.result["accuracies"] == {}  # of test images
    recipe = recipes.recipe(None, f"{LR}=0.1")
    Training(recipe, recipes.CPU, run.seed).run()
    files = (run.folder / "student.pt", Path("out/student.pt"))
    weights = [torch.load(file, weights_only=False)["model"] for file in files]
    assert differing(*weights) == []


def test_a_run_that_ended_early_is_final_at_every_rung():
    study, _, (run, _) = tuned({LR: [0.1, 0.2]})
    run.folder.mkdir(parents=True)
    (run.folder / "metrics.jsonl").write_text('{"epoch": 0, "val_accuracy": 0.5}\n')
    later = replace(study, until_epoch=2)
    assert not is_done(run, later)
    (run.folder / "result.json").write_text(json.dumps({"accuracies": {}}))
    assert is_done(run, later)
    assert accuracy_at(run, 2, "val_accuracy", best=False) == 0.5


@pytest.mark.parametrize(
    ("epoch", "best", "figure"), [(2, False, 0.4), (3, False, 0.4), (4, False, 0.2), (4, True, 0.4)]
)
def test_a_run_is_judged_by_its_epochs_until_the_rung(epoch, best, figure):
    _, _, (run, _) = tuned({LR: [0.1, 0.2]})
    run.folder.mkdir(parents=True)
    lines = [{"epoch": 0}, {"epoch": 1, "r": 0.4}, {"epoch": 2}, {"epoch": 3, "r": 0.2}]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert accuracy_at(run, epoch, "r", best=best) == figure


def test_a_recipe_with_robust_validation_is_judged_by_it():
    assert judged_by(recipes.recipe()) == ("val_accuracy", 1)
    text = recipes.mixacm() + "validate: {attack: pgd, eps: 0.1, every: 2}\n"
    assert judged_by(recipes.recipe(text)) == ("robust_val_accuracy", 2)
