"""Module paths of a recipe mean what they mean to the host."""

import pytest
import torch
from torch import nn
from torchdistill.common.module_util import get_module
from torchdistill.models.registry import register_model

from mixacm_plugin import RecipeError, Training
from mixacm_plugin.common.modules import find_module
from recipes import CPU, recipe, scratch

MODEL = "models.model={key: UnderTwoNames, kwargs: {}, dst_ckpt: out/student.pt}"
INPUT = "train.criterion.kwargs.sub_terms.ce.criterion_wrapper.kwargs.input"


@register_model
class UnderTwoNames(nn.Module):
    """A row of blocks whose last one has another name too."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [
            nn.Sequential(nn.Linear(8 * 8 * 3, 16), nn.ReLU()),
            nn.Sequential(nn.Linear(16, 10)),
        ]
        self.blocks = nn.Sequential(nn.Flatten(), *blocks)
        self.last = blocks[-1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.blocks(images)


def hooked(path):
    """Train a recipe that hooks a module and puts its loss there."""
    model = (
        f"train.model={{forward_proc: forward_batch_only, forward_hook: {{output: ['{path}']}}}}"
    )
    loss = f"{INPUT}={{is_from_teacher: False, module_path: '{path}', io: output}}"
    Training(recipe(scratch(), MODEL, model, loss), CPU, seed=0).run()


@pytest.mark.parametrize("path", ["blocks.-1", "blocks.2", "last", "blocks.-1.0", "last.0"])
def test_a_module_is_hooked_by_each_of_its_names_and_from_the_end(path):
    assert find_module(UnderTwoNames(), path) is not None
    hooked(path)


@pytest.mark.parametrize("path", ["blocks.7", "lst", "blocks.-4", "last.weight.0"])
def test_a_path_that_leads_nowhere_is_refused(path):
    with pytest.raises(RecipeError, match=r"not found in (\S+ of )?UnderTwoNames"):
        hooked(path)


def test_a_plus_before_a_path_is_passed_over_as_by_the_host():
    model = UnderTwoNames()
    assert find_module(model, "+last") is model.last
    assert find_module(model, "blocks.1") is get_module(model, "blocks.1")
