"""Hook points of every model of torchvision and of one of each of timm's families, in a recipe."""

import pytest

from all_models import REFUSED, TIMM, torchvision_models
from documents import GUIDE, table
from hook_recipes import hooked_recipe, inspected
from mixacm_plugin import UserError

TEACHER = ("resnet18", {"num_classes": 10})
MODELS = {
    **torchvision_models(),
    **{f"timm:{name}": (side, {}) for name, side in TIMM.items()},
}


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", MODELS)
def test_hook_points_of_any_model_pass_the_check(name):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    side, kwargs = MODELS[name]
    student = (name, {"num_classes": 10, **kwargs})
    if name in REFUSED:
        with pytest.raises((ValueError, UserError), match=REFUSED[name]):
            inspected(hooked_recipe(TEACHER, student, (3, side, side)))
        return
    (stage,) = inspected(hooked_recipe(TEACHER, student, (3, side, side))).stages
    assert stage.pairs
    assert all(term.gradient_norm > 0 for term in stage.terms)


def test_the_smallest_model_of_each_of_timms_families_is_tried():
    timm = pytest.importorskip("timm", minversion="1.0.31")  # earlier ones lack some of the names
    families = {
        timm.models.model_entrypoint(name).__module__ for name in TIMM if timm.is_model(name)
    }
    assert {family.rpartition(".")[2] for family in families} >= set(timm.list_modules())


def test_models_without_hook_points_are_listed_with_the_reason():
    assert table(GUIDE, "Hook points", "no hook points").column(0) == list(REFUSED)
