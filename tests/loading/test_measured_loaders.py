"""Loaders on whose images accuracy is measured: tried before training, as evaluation tries them."""

from pathlib import Path

import pytest

from mixacm_plugin import RecipeError, Training
from recipes import CPU, recipe, run, scratch, two_stages, write

VAL, TEST = "train.val_data_loader", "test.test_data_loader"
IN_ORDER = "{class_or_func: !import_get {key: torch.utils.data.SequentialSampler}}"
HALF = "{class_or_func: !import_get {key: recipes.EverySecond}, kwargs: {first: 1}}"
MIXUP = (
    "!import_call {key: mixacm_plugin.mixup_collate, init: {kwargs: {alpha: 1, num_classes: 10}}}"
)


def mixed(name):
    kwargs = f"kwargs: {{batch_size: 25}}, sampler: {IN_ORDER}, collate_fn: {MIXUP}"
    return f"{{dataset_id: few/{name}, {kwargs}}}"


def dataset(name, call):
    return f"datasets.few/{name}=!import_call {{key: {call}}}"


@pytest.mark.parametrize("command", [("torchdistill",), ("main", "check")])
@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"{TEST}.kwargs={{batch_size: 30, drop_last: True}}", "kwargs.drop_last: leaves out 20"),
        (f"{TEST}.kwargs={{batch_size: 60, drop_last: True}}", "kwargs.drop_last: leaves out 50"),
        (f"{VAL}.kwargs={{batch_size: 30, drop_last: True}}", "kwargs.drop_last: leaves out 10"),
        (
            f"{TEST}={mixed('test')}",
            "a class for each image; found labels of shape (8, 10)",
        ),
        (f"{TEST}.sampler={HALF}", "sampler: EverySecond picks 25 of 50 images"),
        (f"{VAL}={mixed('val')}", "a class for each image; found labels of shape (8, 10)"),
        (
            dataset("test", "recipes.Normalised, init: {kwargs: {split: test, n: 50}}"),
            "images range from -1 to 1; expected [0, 1]",
        ),
        (
            dataset("test", "recipes.OneClass, init: {kwargs: {split: test, n: 50, label: 10}}"),
            "found label 10; the model has 10 classes",
        ),
    ],
)
def test_what_would_be_measured_wrong_is_refused_before_training(command, override, words, capsys):
    recipe(scratch(), override)
    argv = ("--config", "recipe.yaml", "--device", "cpu", "--set", override)
    assert run(*command, *argv) == 2
    error = capsys.readouterr().err
    where = VAL if VAL in override else TEST
    assert f"recipe.yaml: {where}" in error
    assert words in error
    assert error.count("\n") == 1
    assert not Path("out/student.pt").exists()


def test_drop_last_that_leaves_nothing_out_is_fine():
    even = [f"{path}.kwargs={{batch_size: 10, drop_last: True}}" for path in (VAL, TEST)]
    Training(recipe(scratch(), *even), CPU)


def test_a_model_that_normalises_inside_is_tested_on_images_in_0_to_1_only(capsys):
    Training(recipe(scratch()), CPU).run()
    shifted = dataset("test", "recipes.Normalised, init: {kwargs: {split: test, n: 50}}")
    argv = ("--config", "recipe.yaml", "--device", "cpu", "-test_only", "--set", shifted)
    assert run("torchdistill", *argv) == 2
    assert f"{TEST}: ValueError: images range from -1 to 1" in capsys.readouterr().err


def test_robust_validation_attacks_no_images_that_a_sampler_leaves_out(capsys):
    write(scratch() + "validate: {attack: pgd, eps: 0.1, steps: 1}\n")
    halves = ("--set", f"{VAL}.sampler={HALF}", "--set", f"{TEST}.sampler={IN_ORDER}")
    argv = ("main", "check", "--config", "recipe.yaml", "--device", "cpu", *halves)
    assert run(*argv) == 2
    assert f"{VAL}.sampler: EverySecond picks 20 of 40 images" in capsys.readouterr().err
    assert run(*argv, "--set", "validate=null") == 0  # the host's validation asks the sampler


def test_nor_those_that_a_later_stages_sampler_leaves_out():
    text = two_stages(scratch()) + "validate: {attack: pgd, eps: 0.1, steps: 1}\n"
    later = VAL.replace("train.", "train.stage2.", 1)
    with pytest.raises(RecipeError, match="EverySecond picks 20 of 40") as refused:
        Training(recipe(text, f"{later}.sampler={HALF}", f"{TEST}.sampler={IN_ORDER}"), CPU)
    assert refused.value.where == f"{later}.sampler"
