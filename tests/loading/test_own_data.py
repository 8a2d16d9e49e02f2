"""Datasets of one's own: labels, samples and attributes of other kinds than torchvision's."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import default_collate

from mixacm_plugin import Training, dm_wide_resnet
from mixacm_plugin.common.images import labels_of
from mixacm_plugin.loading.datasets import Collated
from own_data import TARGETS, Own
from recipes import CPU, mixacm, recipe, run, write

VALIDATE = "\nvalidate: {attack: pgd, eps: 0.1, steps: 1, step_size: 0.1, n: 8}\n"
PARTS = ("train", "val", "test")


def on(text, parts=PARTS, **kinds):
    """The recipe, with own datasets in some parts."""
    given = "".join(f", {name}: {kind}" for name, kind in kinds.items())
    for part in parts:
        old = f"few/{part}: !import_call {{key: recipes.Few, init: {{kwargs: {{split: {part}"
        assert old in text
        text = text.replace(old, old.replace("recipes.Few", "own_data.Own") + given)
    return text


@pytest.mark.parametrize("kind", ["int32", "int16", "list"])
def test_labels_of_any_whole_numbers_are_trained_on_and_attacked(kind):
    training = Training(recipe(on(mixacm(), samples=kind) + VALIDATE), CPU)
    training.run()
    for attack in (("pgd", "--steps", "1"), ("clean",)):
        argv = ("--config", "recipe.yaml", "--device", "cpu", "--n", "8", "--attack", *attack)
        assert run("main", "evaluate", *argv) == 0


def test_labels_that_are_true_or_false_are_two_classes():
    text = on(mixacm(), samples="bool").replace("num_classes: 10", "num_classes: 2")
    write(text)
    torch.save(dm_wide_resnet(10, 1, 2).state_dict(), "teacher.pt")
    assert run("main", "check", "recipe.yaml", "--device", "cpu") == 0


@pytest.mark.parametrize("kind", TARGETS)
def test_targets_of_another_meaning_are_no_labels(kind):
    told = labels_of(Own("train", 16, targets=kind))
    assert (told is not None) == (kind == "number of classes")
    Training(recipe(on(mixacm(), targets=kind)), CPU)


@pytest.mark.parametrize(
    ("kind", "parts", "words"),
    [
        ("mapping", ["test"], "test.test_data_loader: … found a dict with image, label: let the"),
        ("mapping", ["train"], "train.train_data_loader: … found a dict of 2 from Own"),
        ("with index", ["train"], "train.train_data_loader: … found a tuple of 3 from Own"),
        ("label in words", ["val"], "train.val_data_loader: … found list(Tensor, tuple)"),
        ("no label later", ["val"], "train.val_data_loader: found label -1 … is measured"),
    ],
)
def test_samples_of_another_kind_are_told_as_what_they_are(capsys, kind, parts, words):
    write(on(mixacm(), parts, samples=kind))
    assert run("torchdistill", "--config", "recipe.yaml", "--device", "cpu") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(part in line for part in words.split(" … "))


def test_what_a_loaders_collate_function_makes_is_measured_by_all_commands(capsys):
    loader = "    kwargs: {batch_size: 25}"
    text = mixacm().replace(loader, f"    collate_fn: one_class\n{loader}")
    text = text.replace("- name: mixacm_plugin", "- name: mixacm_plugin\n  - name: own_data")
    write(text + VALIDATE.replace("n: 8", "n: 40").replace("0.1", "1.0e-7"))
    assert run("torchdistill", "--config", "recipe.yaml", "--device", "cpu") == 0
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["robust_val_accuracy"] == pytest.approx(line["val_accuracy"], abs=0.03)
    (tested,) = re.findall(r"teacher_model: (\S+) % of 50 test images", capsys.readouterr().out)
    argv = ("--config", "recipe.yaml", "--device", "cpu", "--attack", "clean", "--model", "teacher")
    assert run("main", "evaluate", *argv, "--json", "found.json") == 0
    (found,) = json.loads(Path("found.json").read_text())
    assert 100 * found["accuracy"] == pytest.approx(float(tested), abs=0.01)


def test_a_collate_function_that_makes_several_images_of_one_is_told():
    with pytest.raises(ValueError, match="makes 2 images and 2 labels of one sample"):
        Collated(Own("test", 4), lambda samples: default_collate(2 * samples))[0]
