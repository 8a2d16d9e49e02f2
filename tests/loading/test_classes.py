"""The classes of a recipe's datasets: held against each other, and against labels."""

from pathlib import Path

import pytest
from PIL import Image
from torch.utils.data import Subset
from torchdistill.datasets.wrapper import BaseDatasetWrapper
from torchvision.datasets import ImageFolder

from mixacm_plugin import Digits, RecipeError, Training
from mixacm_plugin.loading.datasets import class_names
from recipes import CPU, recipe, run, scratch

NAMES = ["ant", "bee", "cat", "dog"]


def folder(path, names):
    for name in names:
        for index in range(4):
            file = Path(path, name, f"{index}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (9 * index, 90, 200)).save(file)


def on_folders(**names):
    """A recipe without a teacher that trains, validates and tests on folders of images."""
    text = scratch().replace("num_classes: 10", "num_classes: 4")
    for split in ("train", "val", "test"):
        folder(split, names.get(split, NAMES))
        start = text.index(f"few/{split}: ") + len(f"few/{split}: ")
        end = text.index("\n", start)
        transform = "!import_call {key: torchvision.transforms.ToTensor}"
        call = f"{{root: {split}, transform: {transform}}}"
        call = f"!import_call {{key: torchvision.datasets.ImageFolder, init: {{kwargs: {call}}}}}"
        text = text[:start] + call + text[end:]
    return text.replace("batch_size: 16", "batch_size: 8")


def test_datasets_of_the_same_folders_are_fine():
    Training(recipe(on_folders()), CPU).run()


@pytest.mark.parametrize(
    ("names", "where", "words"),
    [
        ({"test": ["ant", "cat", "dog"]}, "test.test_data_loader", "differ in bee"),
        ({"val": [*NAMES, "elk"]}, "train.val_data_loader", "5 classes, .* 4 .*differ in elk"),
        ({"train": ["ant", "bee", "cat", "eel"]}, "train.val_data_loader", "differ in dog, eel"),
    ],
)
def test_a_folder_that_lacks_a_class_or_has_another_is_refused(names, where, words):
    with pytest.raises(RecipeError, match=words) as error:
        Training(recipe(on_folders(**names)), CPU)
    assert error.value.where == f"{where}.dataset_id"


def test_a_number_of_classes_that_differs_is_refused():
    digits = "!import_call {key: mixacm_plugin.Digits, init: {kwargs: {split: test"
    text = scratch().replace("!import_call {key: recipes.Few, init: {kwargs: {split: test", digits)
    text = text.replace("split: test, n: 50", "split: test, classes: [0, 1, 2]")
    with pytest.raises(RecipeError, match=r"few/test has 3 classes, few/train has 10"):
        Training(recipe(text), CPU)


def test_commands_tell_a_missing_class_in_one_line(capsys):
    recipe(on_folders(test=["ant", "cat", "dog"]))
    for command in (("torchdistill",), ("main", "check")):
        assert run(*command, "--config", "recipe.yaml", "--device", "cpu") == 2
        error = capsys.readouterr().err
        assert "test.test_data_loader.dataset_id: few/test has 3 classes" in error
        assert error.count("\n") == 1


def test_names_are_told_through_parts_and_wrappers():
    folder("some", NAMES)
    images = ImageFolder("some")
    assert class_names(images) == NAMES
    assert class_names(Subset(BaseDatasetWrapper(Subset(images, [0, 3])), [1])) == NAMES
    assert class_names(Digits("test", classes=[7, 3])) == ["7", "3"]
    assert class_names(ImageFolder("some", target_transform=lambda label: label)) is None
    assert class_names([1, 2]) is None


def test_classes_in_another_order_are_refused():
    turned = "{split: test, classes: [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]}"
    digits = "!import_call {key: mixacm_plugin.Digits, init: {kwargs: %s}}"
    named = {"train": "{split: train}", "val": "{split: val}", "test": turned}
    sets = [f"datasets.few/{split}={digits % kwargs}" for split, kwargs in named.items()]
    with pytest.raises(RecipeError, match=r"10 classes, .* has 10 in another order"):
        Training(recipe(scratch(), *sets), CPU)
