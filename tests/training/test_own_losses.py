"""Losses of people's own: what they may return, and what of them is trained."""

import pytest
import torch.nn.functional as F
from torch import nn
from torchdistill.losses.registry import register_mid_level_loss

from mixacm_plugin import RecipeError, Training
from mixacm_plugin.training.prepare import prepare
from recipes import CPU, mixacm, recipe

KD = "train.criterion.kwargs.sub_terms.kd"
RETURNED = {
    "float": (lambda loss: loss.item(), "a float, which has no gradient"),
    "vector": (lambda loss: loss.expand(16), r"a tensor of shape \(16,\)"),
    "none": (lambda loss: None, "a NoneType"),
    "mapping": (lambda loss: {"loss": loss}, "a dict"),
    "tensor of one": (lambda loss: loss.view(1), None),
}


@register_mid_level_loss
class Own(nn.Module):
    """Squared error of the logits, through a layer of its own."""

    def __init__(self, returned="tensor of one", layer=False, late=False):
        super().__init__()
        self.returned, self.late, self.calls = returned, late, 0
        if layer:
            self.layer = nn.Linear(10, 10)

    def forward(self, student, teacher, targets, *args, **kwargs):
        logits = student["."]["output"]
        logits = self.layer(logits) if hasattr(self, "layer") else logits
        loss = F.mse_loss(logits, teacher["."]["output"])
        self.calls += 1
        return 0.0 if self.late and self.calls > 3 else RETURNED[self.returned][0](loss)


def with_own(**kwargs):
    given = ", ".join(f"{name}: {value}" for name, value in kwargs.items())
    return recipe(mixacm(), f"{KD}.criterion={{key: Own, kwargs: {{{given}}}}}")


@pytest.mark.parametrize("returned", RETURNED)
def test_a_loss_that_is_no_number_is_told_by_its_term(returned):
    words = RETURNED[returned][1]
    if words is None:
        Training(with_own(returned=returned), CPU).run()
        return
    with pytest.raises(
        RecipeError, match=f"expected a loss, a tensor of one .*; found {words}"
    ) as e:
        Training(with_own(returned=returned), CPU)
    assert e.value.where == KD


def test_a_loss_that_is_a_plain_zero_later_on_ends_no_training():
    Training(with_own(late=True), CPU).run()


@pytest.mark.parametrize(("layer", "warned"), [(True, 1), (False, 0)])
def test_a_loss_whose_own_layer_is_never_trained_is_warned_of(layer, warned):
    warnings = [w for w in prepare(with_own(layer=layer), CPU).warnings if "stay random" in w]
    assert len(warnings) == warned
    assert all(w.startswith(f"{KD}: 2 tensors of the loss, e.g. 'layer.weight'") for w in warnings)
