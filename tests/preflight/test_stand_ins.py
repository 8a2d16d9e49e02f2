"""Random images in place of a recipe's data, and smaller batches."""

import re

import pytest
import torch
import yaml

from mixacm_plugin import RandomImages, RecipeError, read_recipe
from mixacm_plugin.preflight.inspection import inspect_recipe
from mixacm_plugin.preflight.stand_ins import use_batch_size, use_random_images, use_random_weights
from recipes import CPU, mixacm, recipe

SHAPE = (3, 8, 8)
DIGITS = "mixacm_plugin.Digits"


def test_random_images_have_the_shape_and_the_labels_that_are_asked_for():
    images = RandomImages(20, (1, 4, 6), 3)
    assert len(images) == 20
    assert {label for _, label in images} == {0, 1, 2}
    assert all(
        image.shape == (1, 4, 6) and 0 <= image.min() <= image.max() <= 1 for image, _ in images
    )
    assert torch.equal(images[5][0], images[5][0])
    assert not torch.equal(images[5][0], images[6][0])
    with pytest.raises(ValueError, match="shape=\\(8, 8\\)"):
        RandomImages(2, (8, 8), 3)


def test_loaders_lose_their_workers_and_get_another_batch_size_but_aliases_keep_theirs():
    workers = "{batch_size: &n 16, num_workers: 4, persistent_workers: True, drop_last: True}"
    text = mixacm().replace("kwargs: {batch_size: 16}", f"kwargs: {workers}", 1)
    changed = recipe(text.replace("T_max: 2", "T_max: *n"))
    use_random_images(changed, SHAPE)
    use_batch_size(changed, 3)
    built = yaml.load(re.sub(r"!\w+", "", changed.text()), yaml.SafeLoader)
    assert built["train"]["train_data_loader"]["kwargs"] == {"batch_size": 3, "drop_last": True}
    assert built["test"]["test_data_loader"]["kwargs"] == {"batch_size": 3}
    assert built["train"]["scheduler"]["kwargs"] == {"T_max": 16}


def test_random_weights_leave_out_downloads_too():
    inner = "{model: resnet20, model_kwargs: {pretrained: True}}"
    changed = recipe(
        None,
        "models.teacher_model.kwargs={weights: IMAGENET1K_V1, pretrained: True}",
        f"models.student_model.kwargs={inner}",
    )
    use_random_weights(changed)
    teacher, student = changed.build("models").values()
    assert teacher["kwargs"] == {"weights": None, "pretrained": False}
    assert "src_ckpt" not in teacher
    assert student["kwargs"]["model_kwargs"] == {"pretrained": False}


def test_a_dataset_wrapper_gets_pictures_and_their_transform():
    to_tensor = "!import_call {key: torchvision.transforms.ToTensor}"
    several = "!import_call {key: torchvision.transforms.Compose, init: {args: [["
    kwargs = f"{{split: train, transform: {several}{to_tensor}]]}}}}}}"
    digits = f"datasets.digits/train=!import_call {{key: {DIGITS}, init: {{kwargs: {kwargs}}}}}"
    hosts = "train.stage1.train_data_loader.dataset_wrapper={key: SSKDDatasetWrapper, kwargs: {}}"
    read = read_recipe("quickstart/mixacm", ["compare/sskd", digits, hosts])
    small = {"input_shape": SHAPE, "batch_size": 4, "random_weights": True}
    assert len(inspect_recipe(read, CPU, **small, seconds=0).stages) == 2


@pytest.mark.parametrize("block", ["ema: {decay: 2.0}", "validate: {attack: pdg}"])
def test_blocks_of_this_package_are_checked_on_random_images_too(block):
    changed = recipe(f"{mixacm()}\n{block}\n")
    use_random_images(changed, SHAPE)
    with pytest.raises(RecipeError, match=block.split(":")[0]):
        inspect_recipe(changed, CPU)
