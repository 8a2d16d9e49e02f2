"""Robust validation: the figure, the best checkpoint that follows it, patience, refusals."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from mixacm_plugin import PGD, RecipeError, Training, dm_wide_resnet, evaluate
from mixacm_plugin.common.distributed import init_process_group
from mixacm_plugin.common.signals import Stopped
from mixacm_plugin.evaluation.logits import UnsuitedModelError, check_class_count
from mixacm_plugin.studies.execute import execute
from mixacm_plugin.studies.runs import resolve
from mixacm_plugin.studies.tasks import is_done, prepare
from mixacm_plugin.training.best import Best
from mixacm_plugin.training.robust_validation import RobustValidation, accuracies
from processes import run_processes
from recipes import CPU, Few, mixacm, recipe, run, scratch, two_stages, write
from runs import metrics, saved, trained
from studies import write_study
from weights import differing, state

ATTACK = "validate: {attack: pgd, eps: 0.05, steps: 3, step_size: 0.03"


def validated(extra="n: 20", text=None):
    return f"{mixacm() if text is None else text}\n{ATTACK}, {extra}}}\n"


def longer(epochs, text=None):
    text = validated() if text is None else text
    return text.replace("num_epochs: 2", f"num_epochs: {epochs}").replace("T_max: 2", "T_max: 9")


def scripted(monkeypatch, *figures):
    """Let a run's validations give these pairs of clean and robust accuracy."""
    left = iter(figures)
    monkeypatch.setattr("mixacm_plugin.training.validating.accuracies", lambda *_: next(left))


def test_robust_accuracy_is_that_of_evaluate_on_the_validation_images(caplog):
    with caplog.at_level("INFO", logger="mixacm"):
        training = trained(validated())
    attack = PGD(eps=0.05, steps=3, step_size=0.03)
    expected = evaluate(training.models["student"], Few("val", 40), attack, n=20, batch_size=25)
    line = metrics()[-1]
    assert line["robust_val_accuracy"] == expected.value
    assert line["best_robust_val_accuracy"] == max(m["robust_val_accuracy"] for m in metrics())
    assert f"robust {100 * expected.value:.1f} %" in caplog.text


@pytest.mark.parametrize("text", [mixacm(), scratch()], ids=["mixacm", "no teacher"])
def test_training_is_untouched_by_robust_validation(text):
    plain = state(trained(text).models["student"])
    assert not differing(plain, state(trained(validated(text=text)).models["student"]))
    assert "robust_val_accuracy" in metrics()[0]


def test_a_student_keeps_its_mode():
    student = dm_wide_resnet(10, 1, 10).train()
    validation = RobustValidation(PGD(eps=0.05, steps=1), n=5)
    accuracies(student, DataLoader(Few("val", 10), 5), CPU, validation)
    assert all(module.training for module in student.modules())


def test_it_comes_every_so_many_epochs_and_after_the_last():
    trained(longer(5, validated("n: 5, every: 2")))
    assert ["robust_val_accuracy" in line for line in metrics()] == [False, True, False, True, True]


FOLLOWED = {  # clean and robust accuracy of each epoch; the best one, counted from 0
    "robust before clean": ([(0.9, 0.1), (0.2, 0.3), (0.8, 0.2)], 1),
    "clean where robust is the same": ([(0.2, 0.0), (0.5, 0.0), (0.4, 0.0)], 1),
    "the first of equal ones": ([(0.5, 0.3), (0.5, 0.3), (0.5, 0.3)], 0),
}


@pytest.mark.parametrize("figures, best", FOLLOWED.values(), ids=FOLLOWED)
def test_the_best_checkpoint_follows_robust_accuracy(figures, best, monkeypatch):
    scripted(monkeypatch, *figures)
    trained(longer(3))
    assert saved("out/best_student.pt")["epoch"] == best


def test_an_epoch_without_robust_validation_is_the_best_only_until_another_has_it():
    best = Best()
    assert best.update(0.9, None, judged=False)
    assert not best.update(0.95, None, judged=False)
    assert best.update(0.1, 0.0)
    assert not best.update(0.99, None, judged=False)


def test_patience_ends_the_run_and_it_is_then_finished(monkeypatch, caplog):
    scripted(monkeypatch, (0.5, 0.3), (0.6, 0.2), (0.7, 0.3), (0.8, 0.9))
    text = longer(9, validated("n: 5, patience: 1"))
    with caplog.at_level("INFO", logger="mixacm"):
        trained(text)
    assert "ended after epoch 2: 1 robust validations without improvement" in caplog.text
    assert saved()["epoch"] == 1
    before = Path("out/student.pt").read_bytes()
    training = Training(recipe(text), CPU)
    training.resume("out/student.pt")
    assert training.finished
    training.run()
    assert Path("out/student.pt").read_bytes() == before


def test_a_study_takes_a_run_that_patience_ended_as_done(monkeypatch):
    scripted(monkeypatch, (0.5, 0.3), (0.6, 0.2))
    study = write_study(rows=[{"name": "one"}])
    Path("recipe.yaml").write_text(longer(9, validated("n: 5, patience: 1")))
    (one,) = resolve(study, Path("cache"))
    execute(prepare(one, study, "cpu"))
    assert is_done(one, study)


def test_patience_that_is_lengthened_goes_on(monkeypatch):
    scripted(monkeypatch, (0.5, 0.3), (0.6, 0.2), (0.7, 0.2), (0.8, 0.2))
    trained(longer(9, validated("n: 5, patience: 1")))
    training = Training(recipe(longer(9, validated("n: 5, patience: 2"))), CPU)
    training.resume("out/student.pt")
    training.run()
    assert saved()["epoch"] == 2


@pytest.mark.parametrize("every", [1, 2])
def test_a_resumed_run_has_the_same_best_and_patience(every):
    text = longer(4, validated(f"n: 20, every: {every}, patience: 3"))
    trained(text)
    whole, whole_metrics = saved(), metrics()
    asked = iter([0, 0, 0, 0, 15])  # in the middle of the second epoch
    with pytest.raises(Stopped):
        Training(recipe(text), CPU, 0).run(asked_to_stop=lambda: next(asked))
    training = Training(recipe(text), CPU)
    training.resume("out/student.pt")
    training.run()
    assert saved()["best"] == whole["best"]
    assert not differing(whole["model"], saved()["model"])
    timed = ("seconds", "images_per_second")
    assert [{k: v for k, v in m.items() if k not in timed} for m in metrics()] == [
        {k: v for k, v in m.items() if k not in timed} for m in whole_metrics
    ]


def test_a_run_from_before_robust_validation_can_go_on_with_it():
    trained(None, "train.num_epochs=1")
    old = saved()
    del old["best"]
    torch.save(old, "old.pt")
    training = Training(recipe(validated()), CPU)
    training.resume("old.pt")
    training.run()
    assert saved("out/best_student.pt")["epoch"] == 1


REFUSED = {
    "attack": ("{attack: pdg}", "validate.attack: expected pgd, autoattack, square; found 'pdg'"),
    "clean": ("{attack: clean}", "validate.attack: expected pgd"),
    "no attack": ("{n: 5}", "validate.attack: missing"),
    "kind of attack": ("{attack: [pgd]}", "validate.attack: expected a name"),
    "no mapping": ("pgd", "validate: expected a mapping; found 'pgd'"),
    "key": ("{attack: pgd, stepz: 3}", "validate.stepz: unknown key; expected attack, n, every"),
    "another attack's": ("{attack: pgd, queries: 3}", "validate.queries: unknown key"),
    "eps": ("{attack: pgd, eps: 8}", "validate: eps is in pixels of [0, 1]; found 8"),
    "kind of eps": ("{attack: pgd, eps: [1]}", "validate: eps: expected a number"),
    "norm": ("{attack: pgd, norm: L1}", "validate: norm must be one of Linf, L2"),
    "steps": ("{attack: pgd, steps: many}", "validate: steps"),
    "n": ("{attack: pgd, n: 41}", "validate.n: expected at most the 40 images of few/val"),
    "no n": ("{attack: pgd, n: 0}", "validate.n: expected a whole number of at least 1"),
    "kind of n": ("{attack: pgd, n: 0.5}", "validate.n: expected a whole number"),
    "patience": ("{attack: pgd, patience: 0}", "validate.patience: expected a whole number"),
}


@pytest.mark.parametrize("block, words", REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_with_the_block_is_told_before_training(block, words, assert_refused):
    write(f"{mixacm()}\nvalidate: {block}\n")
    where, _, words = words.partition(": ")
    assert_refused(where, words)


def test_patience_needs_a_single_stage():
    with pytest.raises(RecipeError, match=r"validate\.patience: expected a recipe of one stage"):
        Training(recipe(validated("patience: 1", two_stages(mixacm()))), CPU)


def test_images_that_are_no_pixels_are_refused_before_training(assert_refused):
    text = validated(text=scratch()).replace("key: dm_wide_resnet", "key: resnet18")
    text = text.replace("{depth: 10, width: 1, num_classes: 10}", "{num_classes: 10}")
    write(text.replace("recipes.Few", "recipes.Normalised"))
    assert_refused("train.val_data_loader", "expected [0, 1], so that ε means pixels")


def test_a_model_that_the_attack_cannot_attack_is_refused_before_training(assert_refused):
    text = scratch().replace("num_classes: 10", "num_classes: 3")
    text = text.replace("recipes.Few", "recipes.OneClass")
    write(f"{text}\nvalidate: {{attack: autoattack}}\n")
    assert_refused("validate", "the dataset has 10 classes and the model 3")


def test_a_single_class_cannot_be_attacked():
    with pytest.raises(UnsuitedModelError, match="at least 2 classes; the model has 1"):
        check_class_count(1, Few("val", 4))


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.val_data_loader.dataset_id=few/test"],
        ["datasets.few/val=!import_call {key: recipes.Few, init: {kwargs: {split: test, n: 40}}}"],
        [
            "train.val_data_loader.dataset_id=few/test",
            "test.test_data_loader.sampler={class_or_func: !import_call {key: functools.partial, "
            "init: {args: [!import_get {key: torch.utils.data.SequentialSampler}]}}}",
        ],
    ],
)
def test_robust_validation_on_test_images_is_warned_of_whatever_their_name(overrides, caplog):
    with caplog.at_level("WARNING", logger="mixacm"):
        Training(recipe(validated(), *overrides), CPU)
    assert "robust validation chooses the best checkpoint by them" in caplog.text


def test_the_flag_is_a_block_of_the_recipe():
    write(f"{mixacm()}\nvalidate: {{attack: square}}\n")
    flags = ("--config", "recipe.yaml", "--device", "cpu", "--seed", "0")
    assert run("torchdistill", *flags, "--validate", "pgd:0.05:2", "-student_only") == 0
    assert "steps: 2" in saved()["recipe"].replace('"', "")
    assert "square" not in saved()["recipe"]
    assert "robust_val_accuracy" in metrics()[0]


@pytest.mark.parametrize("flag", ["", "pgd:", "pgd:0.05:2:3", "pgd:0.05:many"])
def test_a_flag_that_is_no_validation_is_refused(flag, capsys):
    write()
    with pytest.raises(SystemExit) as exit_:
        run("torchdistill", "--config", "recipe.yaml", "--validate", flag)
    assert exit_.value.code == 2
    assert "--validate" in capsys.readouterr().err


def process(rank, folder):
    mine = Path(folder, str(rank))
    mine.mkdir()
    os.chdir(mine)
    init_process_group(CPU, f"file://{folder}/group")
    text = validated("n: 21").replace("batch_size: 16", "batch_size: 8")
    Training(recipe(text), CPU, 0).run()
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_share_the_images(tmp_path):
    run_processes(process, tmp_path)
    lines = Path(tmp_path, "0", "out", "metrics.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        assert (21 * line["robust_val_accuracy"]) % 1 == pytest.approx(0, abs=1e-9)
