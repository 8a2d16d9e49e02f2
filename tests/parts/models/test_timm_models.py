"""timm's models by their keys: in recipes, for the host, and where timm isn't installed."""

import re
import sys
from types import SimpleNamespace

import pytest
from torch import nn
from torchdistill.models.registry import get_model, register_model

from hook_recipes import hooked_recipe, inspected
from mixacm_plugin import Training, UserError, normalized
from recipes import CPU, mixacm, run, write

NAMES = ["resnet10t", "vit_tiny_patch16_224"]


def create_model(name, num_classes=1000, **kwargs):
    assert name in NAMES
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(num_classes))
    model.made_of = kwargs
    return model


@pytest.fixture
def timm(monkeypatch):
    """A package of two models that is found as timm."""
    made = SimpleNamespace(
        create_model=create_model, list_models=lambda: NAMES, is_model=NAMES.__contains__
    )
    monkeypatch.setitem(sys.modules, "timm", made)


def test_the_host_builds_a_model_of_timm_by_its_key(timm):
    model = get_model("timm:resnet10t", None, num_classes=5, pretrained=False)
    assert model.made_of == {"pretrained": False}
    inside = normalized("timm:resnet10t", {"num_classes": 5})
    assert hasattr(inside, "normalization_mean")


def test_models_that_are_registered_later_are_found_beside_them(timm):
    @register_model
    def registered_later():
        return nn.Identity()

    assert isinstance(get_model("registered_later"), nn.Identity)
    with pytest.raises(ValueError, match="no_such_model"):
        get_model("no_such_model")


def test_a_name_that_timm_lacks_is_refused_with_one_like_it(timm):
    with pytest.raises(UserError, match=r"no model 'resnet10'. Did you mean 'resnet10t'\?"):
        get_model("timm:resnet10")


@pytest.mark.parametrize("command", ["torchdistill", "main"])
def test_without_timm_a_recipe_is_refused_in_a_line(monkeypatch, capsys, command):
    monkeypatch.setitem(sys.modules, "timm", None)
    student = "key: timm:resnet10t\n    kwargs: {num_classes: 10}"
    write(re.sub(r"(?<=student_model:\n    )key: .*\n.*", student, mixacm()))
    check = ["check"] if command == "main" else []
    assert run(command, *check, "--config", "recipe.yaml", "--device", "cpu") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "recipe.yaml: models.student_model.key: timm:resnet10t: timm isn't installed; "
        "pip install 'mixacm-plugin[timm]'"
    )


def test_teacher_and_student_may_be_of_timm():
    pytest.importorskip("timm")
    models = [(f"timm:{name}", {"num_classes": 10}) for name in ("test_resnet", "test_convnext")]
    recipe = hooked_recipe(*models, (3, 32, 32))
    training = Training(recipe, CPU)
    training.run()
    assert [type(m).__module__ for m in training.models.values()] == [
        "timm.models.resnet",
        "timm.models.convnext",
    ]
    assert inspected(recipe).stages[0].pairs
