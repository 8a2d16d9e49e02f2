"""Gradients that torch leaves unset are refused before training."""

import pytest
import torch
from torch import nn

from mixacm_plugin import RecipeError, Training
from mixacm_plugin.training.unset_gradients import refused_unset_gradients
from recipes import CPU, recipe, scratch

SMALL = ("models.model.key=resnet18", "models.model.kwargs={num_classes: 10}")  # 1×1 at the end


def test_a_student_whose_gradients_would_be_wrong_in_bf16_is_refused():
    with pytest.raises(RecipeError, match=r"'layer3\.0\.conv1'.*take --precision fp32"):
        Training(recipe(scratch(), *SMALL, "compute.precision=bf16"), CPU, seed=0)


def test_it_is_trained_in_float32():
    Training(recipe(scratch(), *SMALL), CPU, seed=0)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "refused"),
    [(1, 3, 2, True), (1, 5, 2, True), (1, 3, 1, False), (1, 1, 2, False), (2, 3, 2, False)],
)
def test_strided_convolutions_of_a_single_position_are_refused(size, kernel, stride, refused):
    model = nn.Sequential(nn.Conv2d(4, 4, kernel, stride, kernel // 2))
    images = torch.rand(2, 4, size, size)
    with torch.autocast("cpu", torch.bfloat16), refused_unset_gradients(model):
        if refused:
            with pytest.raises(ValueError, match="'0' is a strided convolution"):
                model(images)
        else:
            model(images)
    with refused_unset_gradients(model):  # in float32
        model(images)
        model[0](input=images)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (1, 2)])
def test_what_is_taken_has_the_gradient_of_float32(kernel, stride):
    model = nn.Conv2d(4, 4, kernel, stride, kernel // 2)
    images, found = torch.rand(2, 4, 1, 1), []
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model(images).float().square().sum().backward()
        found.append(model.weight.grad)
        model.weight.grad = None
    torch.testing.assert_close(*found, rtol=0.05, atol=0.05)
