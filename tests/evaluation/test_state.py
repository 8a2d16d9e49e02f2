"""An interrupted evaluation is gone on with, and its state is of nothing else."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from mixacm_plugin import PGD, AutoAttack, dm_wide_resnet, evaluate
from mixacm_plugin.common.errors import UserError
from mixacm_plugin.evaluation import attacking
from mixacm_plugin.evaluation.attacks.pyautoattack_suite import Suite
from recipes import Few

EPS = 0.15


class Interrupted(Exception):
    pass


@dataclass(frozen=True)
class Counting(PGD):
    """Notes each batch, and is interrupted before one."""

    calls: tuple = ()

    def settings(self):
        return PGD(self.norm, self.eps, self.steps, self.step_size, self.restarts).settings()

    def perturb(self, model, images, labels, seed):
        numbers, before = self.calls
        if len(numbers) == before:
            raise Interrupted
        numbers.append(len(images))
        return super().perturb(model, images, labels, seed)


def counting(before=None):
    return Counting(eps=EPS, steps=3, step_size=0.05, restarts=2, calls=([], before))


@pytest.mark.parametrize("chunk", [2**30, 30 * 192 * 4], ids=["one chunk", "chunks of 30"])
def test_an_interrupted_evaluation_goes_on_where_it_was(chunk, model, monkeypatch):
    monkeypatch.setattr(attacking, "CHUNK", chunk)
    setting = {"seed": 2, "batch_size": 8, "state": "aa.state"}
    whole = counting()
    expected = evaluate(model, Few("test", 80), whole, seed=2, batch_size=8)
    sizes = whole.calls[0]
    for before in (3, 2):
        with pytest.raises(Interrupted):
            evaluate(model, Few("test", 80), counting(before), **setting)
    rest = counting()
    figure = evaluate(model, Few("test", 80), rest, **setting)
    assert rest.calls[0] == sizes[5:]
    assert (figure.correct, figure.clean_correct) == (expected.correct, expected.clean_correct)
    assert figure.warnings == expected.warnings
    done = counting()
    assert evaluate(model, Few("test", 80), done, **setting).correct == expected.correct
    assert done.calls[0] == []


class Randomised(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        noise = 0.05 * torch.randn_like(images)
        self.last = noise.sum().item()
        return self.model(images + noise)


def test_a_randomised_model_draws_as_if_nothing_had_happened(model, monkeypatch):
    monkeypatch.setattr(attacking, "CHUNK", 16 * 192 * 4)
    setting = {"batch_size": 8}
    noisy, few = Randomised(model), Few("test", 80)
    whole = counting()
    expected = evaluate(noisy, few, whole, **setting)
    last = noisy.last
    for number in range(1, len(whole.calls[0])):
        with pytest.raises(Interrupted):
            evaluate(noisy, few, counting(number), **setting, state=f"{number}.state")
        rest = counting()
        figure = evaluate(noisy, few, rest, **setting, state=f"{number}.state")
        assert (figure.correct, figure.clean_correct) == (expected.correct, expected.clean_correct)
        assert rest.calls[0] == whole.calls[0][number:]
        assert noisy.last == last


@pytest.mark.slow
def test_autoattack_goes_on_within_its_parts(model, monkeypatch):
    monkeypatch.setattr(Suite.__init__, "__kwdefaults__", {"version": "standard", "queries": 50})
    few, attack = Few("test", 8), AutoAttack(eps=0.02)
    expected = evaluate(model, few, attack, batch_size=4)
    save, saved = attacking.Attacking._save, []

    def interrupted(self):
        save(self)
        saved.append((self.place.part, self.place.done))
        if len(saved) in (1, 4, 6):
            raise Interrupted

    monkeypatch.setattr(attacking.Attacking, "_save", interrupted)
    for _ in range(3):
        with pytest.raises(Interrupted):
            evaluate(model, few, attack, batch_size=4, state="state")
    assert evaluate(model, few, attack, batch_size=4, state="state") == expected
    assert len(set(saved)) == len(saved)  # no batch was attacked twice
    assert {part for part, _ in saved} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attack": PGD(eps=EPS, steps=2)}, "another attack"),
        ({"n": 19}, "another choice of images"),
        ({"seed": 1}, "another choice of images"),
        ({"batch_size": 7}, "another batch size"),
        ({"dataset": Few("val", 20)}, "another images"),
    ],
    ids=["attack", "n", "seed", "batch size", "images"],
)
def test_the_state_of_another_evaluation_is_refused(change, words, model):
    setting = {"dataset": Few("test", 20), "attack": PGD(eps=EPS, steps=1), "state": "state"}
    evaluate(model, **setting)
    before = Path("state").read_bytes()
    with pytest.raises(UserError, match=f"--state: state .*{words}.*; name another file"):
        evaluate(model, **{**setting, **change})
    assert Path("state").read_bytes() == before


def test_the_state_of_a_model_that_normalises_otherwise_is_refused():
    few, attack = Few("test", 20), PGD(eps=EPS, steps=1)
    models = []
    for std in (0.25, 0.2):
        torch.manual_seed(0)
        models.append(dm_wide_resnet(10, 1, 10, std=[std] * 3))
    evaluate(models[0], few, attack, state="state")
    with pytest.raises(UserError, match="another model"):
        evaluate(models[1], few, attack, state="state")


def test_the_state_of_another_model_is_refused(model):
    few, attack = Few("test", 20), PGD(eps=EPS, steps=1)
    evaluate(model, few, attack, state="state")
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model[1].bias[3] += 0.01
    try:
        with pytest.raises(UserError, match="another model"):
            evaluate(model, few, attack, state="state")
    finally:
        model.load_state_dict(weights)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x02K\x01."])
def test_what_is_no_state_is_refused(content, model):
    Path("state").write_bytes(content)
    with pytest.raises(UserError, match=r"--state: .*name another file, or remove it"):
        evaluate(model, Few("test", 5), PGD(eps=EPS, steps=1), state="state")
    assert Path("state").read_bytes() == content
    torch.save({"model": 1}, "state")
    with pytest.raises(UserError, match="isn't the state of an evaluation"):
        evaluate(model, Few("test", 5), PGD(eps=EPS, steps=1), state="state")


def test_the_state_of_another_version_is_refused(model):
    torch.save({"format": 1, "of": {}, "content": {}}, "state")
    with pytest.raises(UserError, match="by another version of this package; name another file"):
        evaluate(model, Few("test", 5), PGD(eps=EPS, steps=1), state="state")


def test_chunks_change_nothing_where_batches_are_the_same(model, monkeypatch):
    data = TensorDataset(
        torch.stack([image for image, _ in Few("test", 60)]),
        model(torch.stack([image for image, _ in Few("test", 60)])).argmax(1),
    )  # all of which are classified right
    attack = PGD(eps=EPS, steps=3, step_size=0.05)
    whole = evaluate(model, data, attack, batch_size=20)
    monkeypatch.setattr(attacking, "CHUNK", 20 * 192 * 4)
    assert evaluate(model, data, attack, batch_size=20) == whole
    assert 0 < whole.correct < 60
