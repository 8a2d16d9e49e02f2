"""The watch for catastrophic overfitting: what it sees, when it warns, its traces."""

import logging
import re

import pytest
import torch
from torch import nn
from torchdistill.core.interfaces.registry import get_post_epoch_proc_func

from boxes import train_epoch, training_box
from mixacm_plugin import RecipeError, Training, watch_overfitting
from mixacm_plugin.parts.adversarial.overfitting import has_overfitted
from recipes import CPU, mixacm, recipe, scratch, two_stages
from weights import differing, state

EPS = 0.1
WATCH = {"eps": EPS, "step_size": EPS / 10}
PROCESS = "!import_call {key: mixacm_plugin.watch_overfitting, init: {kwargs: {%s}}}"
LINE = "  log_freq: 100\n"


class Score(nn.Module):
    """Two classes by the sign of a mean over pixels; a margin as its one parameter."""

    def __init__(self, pixel_score):
        super().__init__()
        self.pixel_score = pixel_score
        self.margin = nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        score = self.margin * self.pixel_score(images).flatten(1).mean(1)
        return torch.stack([score, -score], 1)


# What a single step of ε can't see: the score falls and rises again on the way to the ball's edge.
MASKED = Score(lambda images: torch.cos(2 * torch.pi * (images - 0.5) / EPS + 0.3))
ROBUST = Score(lambda images: images - 0.5 + 2 * EPS)
FRAGILE = Score(lambda images: images - 0.5 + EPS / 2)


def grey_box(model, **watch):
    """A box that validates the model on 20 grey images of the first class, under a watch."""
    images, labels = torch.full((20, 3, 4, 4), 0.5), torch.zeros(20, dtype=torch.int64)
    key = watch_overfitting(**{**WATCH, **watch})
    return training_box(model, images, labels, lr=0.0, post_epoch_process=key)


@pytest.fixture
def log(caplog):
    """Call it for the watch's lines so far as pairs of level and text."""
    caplog.set_level(logging.INFO, logger="mixacm")

    def lines():
        return [(r.levelname, r.message) for r in caplog.records if "FGSM" in r.message]

    return lines


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_model_that_withstands_single_steps_only_is_reported_once(norm, log):
    if norm == "L2":  # a step of this length moves each of the 48 pixels by ε
        watch = {"eps": EPS * 48**0.5, "step_size": EPS * 48**0.5 / 20, "norm": norm, "steps": 40}
    else:
        watch = {"eps": EPS, "step_size": EPS / 10, "norm": norm}
    box = grey_box(MASKED, **watch)
    box.post_epoch_process()
    (info, warning) = log()
    assert info[0] == "INFO" and warning[0] == "WARNING" and warning[1].startswith(info[1])
    setting = f"{norm}, ε {watch['eps']}, step {watch['step_size']}, 20 validation images, seed 0"
    figures = f"FGSM 100.0 %, PGD-{watch.get('steps', 10)} 0.0 %, clean 100.0 % ({setting})"
    assert info[1] == f"epoch 1: accuracy {figures}"
    assert "catastrophic overfitting" in warning[1] and "smaller step_size" in warning[1]
    assert "\n" not in warning[1]
    box.post_epoch_process()
    assert [level for level, _ in log()] == ["INFO", "WARNING", "INFO"]


@pytest.mark.parametrize("model, accuracy", [(ROBUST, 100), (FRAGILE, 0)])
def test_a_model_for_which_fgsm_and_pgd_agree_is_not_reported(model, accuracy, log):
    grey_box(model).post_epoch_process()
    ((level, text),) = log()
    assert level == "INFO"
    assert f"FGSM {accuracy}.0 %, PGD-10 {accuracy}.0 %, clean 100.0 %" in text


@pytest.mark.parametrize(
    "clean, fgsm, pgd, overfitted",
    [
        (0.85, 0.83, 0.00, True),
        (0.85, 0.83, 0.16, True),
        (0.85, 0.52, 0.46, False),  # Fast-AT as it should be
        (0.94, 0.15, 0.00, False),  # ordinary training
        (0.05, 0.04, 0.00, False),  # hardly trained at all
        (0.00, 0.00, 0.00, False),
    ],
)
def test_overfitting_is_told_from_robustness_and_from_its_lack(clean, fgsm, pgd, overfitted):
    assert has_overfitted(clean=clean, fgsm=fgsm, pgd=pgd) == overfitted


@pytest.mark.parametrize("n, used", [(5, 5), (8, 8), (11, 11), (500, 20)])
def test_the_first_validation_images_are_measured(n, used, log):
    box, seen = grey_box(ROBUST, n=n), []
    hook = ROBUST.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    box.post_epoch_process()
    hook.remove()
    assert f"{used} validation images" in log()[0][1]
    forwards = 1 + 2 + (10 + 1)  # clean, FGSM with its prediction, PGD with its own
    assert sum(seen) == used * forwards and max(seen) <= 8


def test_weights_modes_gradients_and_generators_stay_as_they_are(log):
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.BatchNorm2d(3), Score(lambda x: x))
    box = grey_box(model)
    train_epoch(box)
    model.train()
    model[2].eval()
    model[3].margin.grad = torch.tensor(2.0)
    before, generator = state(model), torch.get_rng_state()
    box.post_epoch_process()
    assert len(log()) >= 2
    assert not differing(before, state(model))
    assert torch.equal(generator, torch.get_rng_state())
    assert [module.training for module in model] == [True, True, False, True]
    assert model[3].margin.grad == 2 and model[0].weight.grad is None


def watched(text):
    return text.replace(
        LINE, f"{LINE}  post_epoch_process: {PROCESS % 'eps: 0.1, step_size: 0.02'}\n"
    )


@pytest.mark.parametrize("text", [scratch(), mixacm()], ids=["alone", "with a teacher"])
def test_training_goes_on_as_it_would_without_the_watch(text, log):
    weights, rates = [], []
    for variant in (text, watched(text)):
        training = Training(recipe(variant), CPU, seed=0)
        training.run()
        weights.append(state(training.models["student"]))
        rates.append(training.box.optimizer.param_groups[0]["lr"])
    assert not differing(*weights) and rates[0] == rates[1] < 0.05
    assert [re.match("epoch (.)", line)[1] for _, line in log()] == ["1", "2"]


@pytest.mark.slow
def test_epochs_count_through_stages_and_from_a_checkpoint(log):
    Training(recipe(two_stages(watched(scratch()))), CPU, seed=0).run()
    Training(recipe(watched(scratch())), CPU, seed=0).run()
    resumed = Training(recipe(watched(scratch()), "train.num_epochs=4"), CPU)
    resumed.resume("out/student.pt")
    resumed.run()
    epochs = [re.match("epoch (.)", line)[1] for _, line in log()]
    assert epochs == [*"1234", *"12", *"34"]


class InParts(nn.Module):
    """A model whose output has its logits and something else."""

    def __init__(self, model, put):
        super().__init__()
        self.model, self.put = model, put

    def forward(self, images):
        return self.put(self.model(images))


PUT = {"tuple": lambda logits: (logits, None), "mapping": lambda logits: {"logits": logits}}


@pytest.mark.parametrize("put", PUT.values(), ids=PUT)
def test_a_model_of_several_outputs_is_watched_as_one_of_logits(put, log):
    grey_box(MASKED).post_epoch_process()
    alone = log()
    grey_box(InParts(MASKED, put)).post_epoch_process()
    assert log() == alone + alone and len(alone) == 2


@pytest.mark.parametrize("stages", [1, 2])
def test_images_that_are_no_pixels_are_refused(stages):
    text = watched(scratch()).replace("key: dm_wide_resnet", "key: resnet18")
    text = text.replace("{depth: 10, width: 1, num_classes: 10}", "{num_classes: 10}")
    text = text.replace("recipes.Few", "recipes.Normalised")
    with pytest.raises(RecipeError, match="so that ε means pixels"):
        Training(recipe(text if stages == 1 else two_stages(text)), CPU)


@pytest.mark.parametrize("step_size, warned", [(0.01, False), (0.009, True)])
def test_a_watch_whose_steps_cannot_reach_the_edge_is_warned_of(step_size, warned, caplog):
    watch_overfitting(eps=0.1, step_size=step_size, steps=10)
    lines = [record.message for record in caplog.records]
    said = (
        "watch_overfitting: 10 steps of 0.009 from near the image can't reach the edge of the "
        "ball, ε = 0.1"
    )
    assert lines == [said] * warned


def test_each_configuration_has_a_key_of_its_own():
    changes = [{}, {"eps": 0.2}, {"step_size": 0.2}, {"norm": "L2"}, {"steps": 1}, {"n": 1}]
    keys = {watch_overfitting(**{**WATCH, **change}) for change in changes}
    assert len(keys) == 6
    assert all(callable(get_post_epoch_proc_func(key)) for key in keys)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"n": 0}, "n must be a whole number of at least 1; found 0"),
        ({"n": 500.0}, "n must be a whole number of at least 1; found 500.0"),
        ({"n": None}, "n must be a whole number of at least 1; found None"),
        ({"n": True}, "n must be a whole number of at least 1; found True"),
        ({"steps": 0}, "steps must be a whole number of at least 1; found 0"),
        ({"eps": "eight"}, "eps: expected a number"),
        ({"eps": 8}, "eps is in pixels"),
        ({"step_size": -1}, "step_size: expected a finite number"),
        ({"norm": "L1"}, "norm must be one of"),
    ],
)
def test_an_invalid_argument_is_refused_by_name(wrong, said):
    with pytest.raises(ValueError, match=f"^watch_overfitting: {said}"):
        watch_overfitting(**{**WATCH, **wrong})
