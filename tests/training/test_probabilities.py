"""Models that return probabilities where losses take logits: refused, or warned of."""

import pytest

from last_layers import ending_in
from mixacm_plugin import Training
from mixacm_plugin.preflight.inspection import inspect_recipe
from recipes import CPU, recipe, scratch, write

WORDS = "answers are probabilities, and KDLoss takes logits"


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_probabilities_are_refused_by_losses_that_take_logits(role, assert_refused):
    write(ending_in(role, "softmax"))
    assert_refused("train.criterion.kwargs.sub_terms.kd: ", f"the {role}'s {WORDS}")


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_the_logarithms_of_probabilities_are_logits(role):
    Training(recipe(ending_in(role, "log_softmax")), CPU)


@pytest.mark.parametrize(("last", "warned"), [("softmax", True), ("log_softmax", False)])
def test_a_student_that_returns_probabilities_is_warned_of(last, warned):
    old = "key: dm_wide_resnet\n    kwargs: {depth: 10, width: 1, num_classes: 10}"
    text = scratch().replace(old, f"key: ends_in\n    kwargs: {{last: {last}}}")
    assert text != scratch()
    own = text.replace("- name: mixacm_plugin", "- name: mixacm_plugin\n  - name: last_layers")
    found = inspect_recipe(recipe(own), CPU, seconds=0).warnings
    assert any("models.model: it returns probabilities" in line for line in found) == warned
