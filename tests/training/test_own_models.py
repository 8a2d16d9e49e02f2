"""Models of one's own: what they do to the images that they share, and when they call modules."""

import pytest

from architectures import between, end, pairs_of
from mixacm_plugin import RecipeError, Training
from recipes import CPU, recipe

RELU = pairs_of(
    end("relu"), end("relu"), transform={"side": "student", "kind": "adaptive_max_pool"}
)
GRID = pairs_of(end("grid"), end("grid"))


def test_a_module_that_the_student_calls_twice_in_training_alone_is_refused():
    pairs = pairs_of(end("relu"), end("relu"))
    Training(recipe(between("CallsTwiceInTraining", "tiny_resnet", RELU)), CPU)  # in eval mode
    with pytest.raises(RecipeError, match=r"only.student: 'relu' is called 2 times in a pass"):
        Training(recipe(between("CallsTwiceInTraining", "CallsTwiceInTraining", pairs)), CPU)


def test_features_that_validation_would_take_for_logits_are_refused():
    text = between("FeaturesFirst", "FeaturesFirst", RELU).replace("path: '.'", "path: fc")
    text = text.replace("output: [relu]", "output: [relu, fc]")
    with pytest.raises(RecipeError, match="labels have 10 classes, the student has 16"):
        Training(recipe(text), CPU)


def test_a_teacher_that_changes_the_images_that_the_student_gets_is_refused():
    with pytest.raises(RecipeError, match=r"changes its images in place, .* x - mean") as error:
        Training(recipe(between("ChangesImages", "Patches", GRID)), CPU)
    assert error.value.where == "models.teacher_model"
    Training(recipe(between("Patches", "ChangesImages", GRID)), CPU)  # who is the last to see them
