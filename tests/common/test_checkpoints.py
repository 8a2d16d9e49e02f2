"""Checkpoint files: never half written, never executed, told apart from others."""

import argparse
import os
from pathlib import Path

import pytest
import torch
from torchdistill.common.main_util import save_ckpt

from hostile import Code
from mixacm_plugin import UserError, dm_wide_resnet
from mixacm_plugin.common.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from mixacm_plugin.common.state_dicts import load_weights
from weights import differing, state


class Unpicklable:
    def __reduce__(self):
        raise OSError("disk full")


@pytest.fixture
def model():
    return dm_wide_resnet(10, 1, 10)


def test_a_checkpoint_comes_back_as_it_was_saved(model):
    save_checkpoint("new/folder/a.pt", {"model": model.state_dict(), "epoch": 3})
    loaded = load_checkpoint("new/folder/a.pt")
    assert loaded["epoch"] == 3
    assert not differing(state(model), loaded["model"])


def test_a_failing_save_leaves_the_old_file_and_nothing_else():
    save_checkpoint("a.pt", {"epoch": 1})
    with pytest.raises(UserError, match="disk full"):
        save_checkpoint("a.pt", {"epoch": 2, "weights": torch.ones(9999), "x": Unpicklable()})
    assert os.listdir() == ["a.pt"]
    assert load_checkpoint("a.pt") == {"epoch": 1}


def test_a_file_is_not_there_before_it_is_complete(monkeypatch):
    seen = []
    save = torch.save

    def watched(content, path):
        save(content, path)
        seen.append(Path("a.pt").exists())

    monkeypatch.setattr(torch, "save", watched)
    save_checkpoint("a.pt", {"epoch": 1})
    assert seen == [False]
    assert os.listdir() == ["a.pt"]


def test_the_hosts_checkpoint_with_its_arguments_loads(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    save_ckpt(model, optimizer, None, 0.5, argparse.Namespace(config="a.yaml"), "host.pt")
    assert load_checkpoint("host.pt")["args"].config == "a.yaml"
    fresh = dm_wide_resnet(10, 1, 10)
    load_weights(fresh, "host.pt")
    assert not differing(state(fresh), state(model))


@pytest.mark.parametrize("wrap", [lambda weights: weights, lambda weights: {"model": weights}])
def test_weights_load_plain_and_under_model(wrap, model):
    torch.save(wrap(model.state_dict()), "a.pt")
    fresh = dm_wide_resnet(10, 1, 10)
    load_weights(fresh, "a.pt")
    assert not differing(state(fresh), state(model))


@pytest.mark.parametrize("place", ["model", "args"])
def test_code_in_a_checkpoint_is_refused_and_not_run(place):
    torch.save({"model": {}, place: Code()}, "a.pt")
    with pytest.raises(CheckpointError, match=r"can't read checkpoint a\.pt") as caught:
        load_checkpoint("a.pt")
    assert not Path("executed").exists()
    assert "set to `False`" not in str(caught.value)  # torch's own advice is to run it


def test_namespace_is_allowed_only_while_a_checkpoint_is_read():
    save_checkpoint("a.pt", {"args": argparse.Namespace()})
    load_checkpoint("a.pt")
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda w: w.pop("init_conv.weight"),
            r"WideResNet expects 'init_conv\.weight' \(1 missing",
        ),
        (lambda w: w.update(fc=torch.ones(1)), r"the file has 'fc' \(0 missing and 1 unexpected"),
        (
            lambda w: w.update({"module.logits.bias": w.pop("logits.bias")}),
            r"expects 'logits\.bias' where the file has 'module\.logits\.bias' \(1 missing and 1",
        ),
        (
            lambda w: w.update({"logits.bias": torch.ones(7)}),
            r"'logits\.bias' is \(7,\) in the file and \(10,\) in WideResNet",
        ),
    ],
    ids=["missing", "surplus", "renamed", "shape"],
)
def test_another_architecture_is_named_by_its_first_difference(change, words, model):
    weights = model.state_dict()
    change(weights)
    torch.save(weights, "a.pt")
    before = state(model)
    with pytest.raises(CheckpointError, match=rf"a\.pt is of another architecture: .*{words}"):
        load_weights(model, "a.pt")
    assert not differing(before, state(model))


@pytest.mark.parametrize("content", [[1], {"model": 3}, {"a": "text"}, torch.ones(3), None])
def test_what_holds_no_weights_is_refused(content, model):
    torch.save(content, "a.pt")
    with pytest.raises(CheckpointError, match="expected a state dict, or one under"):
        load_weights(model, "a.pt")
