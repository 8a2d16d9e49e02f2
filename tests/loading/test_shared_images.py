"""Images that are trained on, and validated or tested on too, whatever their dataset's name."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import Subset
from torchdistill.datasets.wrapper import BaseDatasetWrapper
from torchvision.datasets import ImageFolder

from mixacm_plugin import Digits
from mixacm_plugin.loading.shared_images import shared
from mixacm_plugin.preflight.inspection import inspect_recipe
from recipes import CPU, recipe, scratch

TRAIN, VAL = "train.train_data_loader.dataset_id", "train.val_data_loader.dataset_id"
WHOLE = "!import_call {key: recipes.FirstDigits, init: {kwargs: {split: train, n: 100}}}"
IN_ORDER = "{class_or_func: !import_get {key: torch.utils.data.SequentialSampler}}"
PICKED = "{class_or_func: !import_get {key: recipes.EverySecond}, kwargs: "


def few(split, n):
    return f"!import_call {{key: recipes.Few, init: {{kwargs: {{split: {split}, n: {n}}}}}}}"


def held_out(*seeds):
    """Two parts of the same images, each split with a seed of its own."""
    parts = zip(("train", "val"), seeds, strict=True)
    kwargs = [f"{{dataset: {WHOLE}, part: {p}, size: 20, seed: {s}}}" for p, s in parts]
    calls = [f"!import_call {{key: mixacm_plugin.hold_out, init: {{kwargs: {k}}}}}" for k in kwargs]
    return [f"datasets.few/train={calls[0]}", f"datasets.few/val={calls[1]}"]


def warnings(*overrides):
    found = inspect_recipe(recipe(scratch(), *overrides), CPU, seconds=0).warnings
    return [warning for warning in found if "images of" in warning or "test images" in warning]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([], []),
        (
            [f"datasets.few/val={few('train', 40)}"],
            [f"{VAL}: 32 of 40 images of few/val are trained on, too"],
        ),
        (
            [f"datasets.few/test={few('train', 50)}"],
            [f"{TRAIN}: 32 of 50 images of few/test are in few/train, too: trained on"],
        ),
        (
            [f"datasets.few/val={few('test', 40)}"],
            [
                f"{VAL}: 40 of 50 images of few/test are in few/val, too: the best checkpoint is "
                "chosen by them"
            ],
        ),
        ([f"{VAL}=few/train"], [f"{VAL}: 32 of 32 images of few/train are trained on, too"]),
        (held_out(0, 0), []),
        (held_out(0, 1), [f"{VAL}: 17 of 20 images of few/val are trained on, too"]),
        (  # halves of one dataset, by samplers
            [
                f"train.train_data_loader.sampler={PICKED} {{first: 0}}}}",
                f"{VAL}=few/train",
                f"train.val_data_loader.sampler={PICKED} {{first: 1}}}}",
                f"test.test_data_loader.sampler={IN_ORDER}",
            ],
            [],
        ),
    ],
)
def test_check_warns_of_images_that_are_used_twice(overrides, told):
    assert warnings(*overrides) == told


def test_random_images_in_place_of_data_arent_taken_for_the_same():
    found = inspect_recipe(recipe(scratch()), CPU, input_shape=(3, 8, 8), seconds=0)
    assert not [warning for warning in found.warnings if "images of" in warning]


def test_images_are_the_same_by_file_or_pixels_but_not_by_index():
    for file in ("a/0.png", "a/1.png", "b/0.png"):
        Path("some", file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(Path("some", file))
    one, other = ImageFolder("some"), ImageFolder("some/../some", transform=str)
    assert shared(one, BaseDatasetWrapper(Subset(other, [2, 1]))) == 2
    assert shared(Digits("val", transform=torch.Tensor.clone), Digits("val")) == 200
    assert shared(Digits("test"), Digits("train")) == 0
    assert shared(range(5), range(10)) == 0


def test_links_to_one_image_are_one_image():
    for name in "abcd":
        Path("pool/x").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(f"pool/x/{name}.png")
    Path("some/x").mkdir(parents=True)
    for name in "ab":
        Path(f"some/x/{name}.png").symlink_to(Path(f"pool/x/{name}.png").resolve())
    Path("whole").symlink_to("pool")
    pool, some, whole = map(ImageFolder, ("pool", "some", "whole"))
    assert shared(some, pool) == shared(some, whole) == 2
    assert shared(pool, whole) == 4
    assert shared(some, Subset(pool, [2, 3])) == 0
