"""``mixacm tune``: from a recipe and some values to an override file, and what it refuses."""

import json
from pathlib import Path

import pytest
import yaml

import recipes
from mixacm_plugin import read_recipe
from mixacm_plugin.commands import tune as command
from mixacm_plugin.common.errors import UserError
from studies import LR, WEIGHT

TUNE = ("tune", "recipe.yaml", "--device", "cpu", "--factor", "2")
REFUSED = {
    "unknown key": (
        ("train.lrr=1,2",),
        "recipe.yaml: --over train.lrr=1: no 'lrr' in train; it has",
    ),
    "wrong kind": (
        (f"{LR}=abc,0.1",),
        f"recipe.yaml: {LR}: expected a number above 0; found 'abc'",
    ),
    "no number": ((f"{LR}=5e-4,0.1",), f"recipe.yaml: {LR}: YAML reads 5e-4 as text"),
    "what only building shows": (
        ("train.optimizer.kwargs.momentum=0.9,null",),
        "recipe.yaml: train",
    ),
    "single candidate": ((f"{LR}=0.1",), "--over: gives a single candidate"),
    "key twice": ((f"{LR}=0.1,0.2", f"{LR}=0.3"), f"--over: {LR} is given twice"),
    "length of the run": (("train.num_epochs=2,3",), "--over: candidates need the same num_epochs"),
    "what judges": (("validate.eps=0.1,0.2",), "--over validate.eps: candidates are compared by"),
    "images that judge": (
        ("train.val_data_loader.dataset_id=few/val,few/test",),
        "--over train.val_data_loader.dataset_id: candidates are compared by",
    ),
    "data that judge": (
        ("datasets.few/val.init.kwargs.n=20,40",),
        "--over datasets.few/val.init.kwargs.n: candidates are compared by",
    ),
    "an average, which isn't judged": (("ema.decay=0.9,0.99",), "--over ema.decay: the moving"),
    "a whole average": (("ema={decay: 0.9},{decay: 0.99}",), "--over ema: the moving average"),
}


@pytest.mark.parametrize(("over", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_tuned_is_one_line_and_nothing_is_trained(over, words, capsys):
    recipes.write()
    flags = [part for text in over for part in ("--over", text)]
    assert recipes.run("main", *TUNE, *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mixacm: error: {words}")
    assert error.count("\n") == 1
    assert not Path("runs").exists()


def test_nothing_is_chosen_by_the_test_images(capsys):
    recipes.write(recipes.mixacm().replace("dataset_id: few/val", "dataset_id: few/test"))
    assert recipes.run("main", *TUNE, "--over", f"{LR}=0.1,0.2") == 2
    words = "train.val_data_loader.dataset_id: few/test are the test images, by which nothing may"
    assert words in capsys.readouterr().err


def test_nothing_is_chosen_by_the_test_images_under_another_name(capsys):
    recipes.write(recipes.mixacm().replace("split: val, n: 40", "split: test, n: 40"))
    assert recipes.run("main", *TUNE, "--over", f"{LR}=0.1,0.2") == 2
    words = "train.val_data_loader.dataset_id: 40 of 50 images of few/test are in few/val, too: by"
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--factor", "1"), "--factor: expected a whole number of at least 2; found 1"),
        (("--rungs", "1", "3"), "--rungs: 3 is after the last of the recipe's 2 epochs"),
        (("--seeds", "0", "0"), "--seeds: 0 is given twice"),
    ],
)
def test_a_wrong_flag_is_one_line(flags, words, capsys):
    recipes.write()
    assert recipes.run("main", *TUNE, "--over", f"{LR}=0.1,0.2", *flags) == 2
    assert capsys.readouterr().err == f"mixacm: error: {words}\n"


def test_rungs_lie_in_the_last_stage_where_candidates_differ_at_the_latest(monkeypatch):
    recipes.write(recipes.two_stages(recipes.mixacm()))
    rungs = []

    def stopped(study, candidates, runs, at, *_, **__):
        rungs.extend(at)
        raise UserError("far enough")

    monkeypatch.setattr(command, "tune", stopped)
    over = "train.stage2.optimizer.kwargs.lr=0.01,0.02,0.05,0.1"
    assert recipes.run("main", *TUNE, "--over", over) == 2
    assert rungs == [3, 4]  # of two epochs each


@pytest.mark.slow
@pytest.mark.usefixtures("processes_that_find_the_tests_data")
def test_the_choice_is_an_override_file_and_nothing_is_trained_twice(capsys):
    recipes.write()
    over = ("--over", f"{WEIGHT}=1,1000", "--over", f"{LR}=0.01,0.05")
    assert recipes.run("main", *TUNE, "--set", "train.log_freq=50", *over) == 0
    out = capsys.readouterr().out
    assert out.count("doesn't show robustness") == 1
    assert out.count("started") == 4 + 2

    results = json.loads(Path("runs/tune/recipe/tune.json").read_text())
    first, second, *others = results["candidates"]
    assert results["rungs"] == [1, 2]
    assert [len(c["accuracies"]) for c in results["candidates"]] == [2, 2, 1, 1]
    assert first["accuracies"][1] >= second["accuracies"][1]
    assert min(c["accuracies"][0] for c in (first, second)) >= max(
        c["accuracies"][0] for c in others
    )

    file = "runs/tune/recipe/tuned.yaml"
    assert yaml.safe_load(Path(file).read_text()) == first["values"]
    assert f"--config recipe.yaml --set train.log_freq=50 --set {file}" in out
    changed = read_recipe("recipe.yaml", [file])
    assert changed.build("train", "optimizer", "kwargs", "lr") == first["values"][LR]

    assert recipes.run("main", *TUNE, "--set", "train.log_freq=50", *over) == 0
    again = capsys.readouterr().out
    assert "started" not in again
    assert again.endswith(out[out.index("val_accuracy in %") :])


@pytest.mark.slow
@pytest.mark.usefixtures("processes_that_find_the_tests_data")
def test_a_candidate_that_fails_is_told_and_the_others_go_on(capsys):
    recipes.write()
    assert recipes.run("main", *TUNE, "--over", f"{LR}=0.05,1.0e+30") == 0
    out = capsys.readouterr().out
    assert "failed lr 1e+30, seed 0: " in out
    assert "\n1e+30  failed " in out
    assert yaml.safe_load(Path("runs/tune/recipe/tuned.yaml").read_text()) == {LR: 0.05}
