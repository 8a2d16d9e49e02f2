"""What ``mixacm new`` refuses, in a line."""

import io
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

from mixacm_plugin import dm_wide_resnet
from projects import MODELS, new
from shapes import SHAPES, draw_shapes


def one_class():
    draw_shapes("images", 5, ("circle",))


def few_images():
    draw_shapes("images", 5)
    draw_shapes("images", 2, ("star",))


def other_classes():
    draw_shapes("images/train", 5)
    draw_shapes("images/test", 5, (*SHAPES[:3], "star"))


def train_alone():
    draw_shapes("images/train", 5)


def empty_class():
    draw_shapes("images", 5)
    Path("images/star").mkdir()


def parts_by_other_names():
    draw_shapes("images/training_set", 5)
    draw_shapes("images/test_set", 5)


def two_for_training():
    draw_shapes("images/train", 5)
    draw_shapes("images/Training", 5)


def hidden_class():
    draw_shapes("images", 5)
    shutil.copytree("images/circle", "images/.thumbnails")


def hidden_class_in_a_part():
    draw_shapes("images/train", 5)
    draw_shapes("images/test", 5)
    Path("images/test/.ipynb_checkpoints").mkdir()


def damaged_image():
    draw_shapes("images", 5)
    min(Path("images/circle").iterdir()).write_text("a shopping list")


def fine():
    draw_shapes("images", 5)
    torch.save(dm_wide_resnet(10, 1, 7).state_dict(), "other.pt")


STUDENT, TEACHER = MODELS[:4], MODELS[4:]


@pytest.mark.parametrize(
    ("images", "argv", "models", "words"),
    [
        (lambda: None, [], MODELS, "--data: no folder images, and no torchvision.datasets.images."),
        (one_class, [], MODELS, "images has 1 class, circle; expected at least 2"),
        (few_images, [], MODELS, "images has 2 training images of star; expected at least 5"),
        (other_classes, [], MODELS, "other class folders than each other: star, triangle"),
        (train_alone, [], MODELS, "has train/ but neither test/ nor val/"),
        (empty_class, [], MODELS, "--data: images: Found no valid file for the classes star"),
        (damaged_image, [], MODELS, "--data: images: can't read the image "),
        (parts_by_other_names, [], MODELS, "has circle/ in both test_set/ and training_set/"),
        (two_for_training, [], MODELS, "has Training/ and train/; expected one of them"),
        (hidden_class, [], MODELS, "images/.thumbnails would be a class; remove it"),
        (hidden_class_in_a_part, [], MODELS, "test/.ipynb_checkpoints would be a class"),
        (fine, ["--data", "CIFAR11"], MODELS, "Did you mean 'CIFAR10'"),
        (fine, [], ("--student", "resnt18", *TEACHER), "--student: no model 'resnt18'"),
        (
            fine,
            [],
            (*STUDENT, "--teacher", "os.Nothing"),
            f"Put @register_model above it in {os.__file__}",
        ),
        (fine, [], ("--student", "./tiny.Net", *TEACHER), "--student: expected a model's key, or"),
        (fine, [], ("--student", "my_models.py", *TEACHER), "working folder; found 'my_models.py'"),
        (fine, [], ("--student", "a.b-c", *TEACHER), "expected a model's key, or MODULE.NAME"),
        (
            fine,
            [],
            (*STUDENT, "--teacher", "vit_b_16"),
            "vit_b_16 doesn't take images of … "
            "say another size, and all images get three channels here",
        ),
        (fine, [], (*STUDENT, "--teacher", "resnet18:no.pt"), "--teacher: checkpoint not found:"),
        (fine, [], (*STUDENT, "--teacher", "resnet18:other.pt"), "is of another architecture"),
        (fine, ["--compare", "kdd"], MODELS, "no method 'kdd'"),
        (fine, ["--compare", "crd"], MODELS, "compare/crd is for the models of the digits"),
        (fine, ["--compare", "kd", "kd"], MODELS, "--compare: kd is given twice"),
        (fine, [], STUDENT, "--teacher: missing; expected the teacher"),
    ],
)
def test_a_mistake_is_a_line_and_nothing_else(capsys, monkeypatch, images, argv, models, words):
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # no terminal to ask on
    images()
    assert new(*argv, models=models) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in words.split(" … "))
    assert error.startswith("mixacm: error: ")
    assert error.count("\n") == 1
    assert not Path("p").exists()
