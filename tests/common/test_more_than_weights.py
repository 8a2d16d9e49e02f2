"""Checkpoints that hold more than a model's weights: a normaliser, other sets, a larger model."""

import pytest
import torch
from torch import nn

from mixacm_plugin import dm_wide_resnet
from mixacm_plugin.common.checkpoints import CheckpointError
from mixacm_plugin.common.state_dicts import load_weights
from weights import differing, prefixed, state


@pytest.fixture
def model():
    torch.manual_seed(1)
    return dm_wide_resnet(10, 1, 10)


NORMALISER = {"mean": torch.tensor([0.5, 0.4, 0.3]), "std": torch.tensor([0.2, 0.3, 0.4])}


def madry(weights):
    """The layout of MadryLab's library, which holds model and normaliser twice."""
    once = {
        **prefixed(weights, "model."),
        **{f"normalizer.new_{name}": value.view(3, 1, 1) for name, value in NORMALISER.items()},
    }
    return {"model": {**prefixed(once, "module."), **prefixed(once, "module.attacker.")}}


WITH_NORMALISER = [
    madry,
    lambda weights: {"state_dict": madry(weights)["model"], "epoch": 3},
    lambda weights: {**prefixed(NORMALISER, "0."), **prefixed(weights, "1.")},
    lambda weights: {**prefixed(NORMALISER, "module.0."), **prefixed(weights, "module.1.")},
    lambda weights: {"mu": NORMALISER["mean"], "sigma": NORMALISER["std"], **weights},
]


@pytest.mark.parametrize("wrap", WITH_NORMALISER)
def test_a_file_with_a_normaliser_is_loaded_into_a_model_that_normalises_alike(wrap, model):
    torch.save(wrap(model.state_dict()), "foreign.pt")
    kwargs = {name: values.tolist() for name, values in NORMALISER.items()}
    fresh = dm_wide_resnet(10, 1, 10, **kwargs)
    load_weights(fresh, "foreign.pt")
    assert not differing(state(fresh), state(model))
    with pytest.raises(CheckpointError, match=r"normalises with mean \(0.5, 0.4, 0.3\), the model"):
        load_weights(model, "foreign.pt")


def test_a_file_with_a_normaliser_says_what_a_model_without_one_needs():
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    torch.save({**prefixed(NORMALISER, "0."), **prefixed(plain.state_dict(), "1.")}, "foreign.pt")
    with pytest.raises(CheckpointError, match=r"doesn't; .* mean: \[0.5, 0.4, 0.3\], std: \[0.2, "):
        load_weights(plain, "foreign.pt")


@pytest.mark.parametrize("prefix", ["1.", "module.1.", "1.module."])
def test_a_model_behind_a_part_without_weights_is_refused(prefix, model):
    # as of torch.nn.Sequential(normaliser, model) whose mean and std are plain attributes
    torch.save({"state_dict": prefixed(model.state_dict(), prefix)}, "foreign.pt")
    message = f"foreign.pt: its weights lie under '{prefix}', behind a part without weights, which"
    with pytest.raises(CheckpointError, match=message):
        load_weights(dm_wide_resnet(10, 1, 10), "foreign.pt")


def test_a_model_behind_a_part_without_weights_is_loaded_into_another_such(model):
    torch.save(nn.Sequential(nn.Identity(), model).state_dict(), "foreign.pt")
    fresh = dm_wide_resnet(10, 1, 10)
    load_weights(nn.Sequential(nn.Identity(), fresh), "foreign.pt")
    assert not differing(state(fresh), state(model))


class WithMean(nn.Module):
    """A model with a normaliser of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.rand(3, 1, 1))
        self.attacker = nn.Linear(3, 2)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_models_own_mean_is_loaded(prefix):
    model, fresh = WithMean(), WithMean()
    torch.save(prefixed(model.state_dict(), prefix), "foreign.pt")
    load_weights(fresh, "foreign.pt")
    assert not differing(state(fresh), state(model))


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda w: {"ema": w, "params": w, "step": 3}, "found tensors under ema and params; keep "),
        (lambda w: {"step": 3, "args": {}}, "found a dict with step, args"),
        (
            lambda w: {**prefixed(w, "model."), "criterion.weight": torch.ones(10)},
            "its weights lie under 'model.', and 'criterion.weight' beside them; keep one part",
        ),
        (
            lambda w: {**prefixed(w, "student."), **prefixed(w, "teacher.")},
            "its weights lie under 'student.' and 'teacher.'; keep one part",
        ),
    ],
)
def test_weights_that_cannot_be_told_are_refused_with_where_they_lie(wrap, words, model):
    torch.save(wrap(model.state_dict()), "foreign.pt")
    with pytest.raises(CheckpointError) as error:
        load_weights(dm_wide_resnet(10, 1, 10), "foreign.pt")
    message = str(error.value)
    assert words in message and message.startswith("foreign.pt: ")
    assert "architecture" not in message and "\n" not in message


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (lambda w: {"extra": {"scale": torch.ones(1)}}, "expected tensors only; 'extra' isn't one"),
        (lambda w: prefixed(w, "teacher."), "has 'teacher.init_conv.weight' (0 missing and 46 "),
    ],
)
def test_what_lies_beside_a_models_own_names_is_told(more, words, model):
    weights = model.state_dict()
    torch.save({**weights, **more(weights)}, "foreign.pt")
    with pytest.raises(CheckpointError) as error:
        load_weights(dm_wide_resnet(10, 1, 10), "foreign.pt")
    assert words in str(error.value)


def test_what_the_line_says_of_two_sets_of_weights_is_right(model):
    torch.save({"ema": model.state_dict(), "params": model.state_dict()}, "foreign.pt")
    fresh = dm_wide_resnet(10, 1, 10)
    with pytest.raises(CheckpointError) as error:
        load_weights(fresh, "foreign.pt")
    exec(str(error.value).partition("keep one: ")[2], {"torch": torch, "FILE": "foreign.pt"})
    load_weights(fresh, "weights.pt")
    assert not differing(state(fresh), state(model))


def test_a_file_that_holds_itself_ends(model):
    content = {}
    content["model"] = content
    torch.save(content, "foreign.pt")
    with pytest.raises(CheckpointError, match=r"expected a state dict.*; found a dict with model"):
        load_weights(model, "foreign.pt")
