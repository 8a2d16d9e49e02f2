"""Losses on clean and adversarial images: against their formulas, on the host's dictionaries."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from torchdistill.losses.registry import get_mid_level_loss

from mixacm_plugin import CleanAndAdversarial, ard_loss, igdm_loss, rslad_loss, trades_loss
from mixacm_plugin.parts.adversarial.losses import kl_divergence

CLASSES = torch.tensor([0, 2, 1, 2, 0])
SOFT = torch.eye(3, dtype=torch.float64)[CLASSES] * 0.7 + 0.1
every_kind = pytest.mark.parametrize("labels", [CLASSES, SOFT], ids=["classes", "soft"])


@pytest.fixture
def logits():
    """Of the student on clean and adversarial images, and of the teacher."""
    return [4 * torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]


def kl(target, predicted, temperature=1):
    """Image by image, the mean."""
    target, predicted = (
        softmax(values.detach().numpy() / temperature, axis=1) for values in (target, predicted)
    )
    return np.mean([rel_entr(p, q).sum() for p, q in zip(target, predicted, strict=True)])


def cross_entropy(predicted, labels):
    labels = SOFT.numpy() if labels is SOFT else np.eye(3)[CLASSES]
    return -np.mean((labels * log_softmax(predicted.detach().numpy(), axis=1)).sum(1))


@every_kind
def test_trades_is_cross_entropy_and_the_divergence_of_adversarial_from_clean(labels, logits):
    clean, adversarial, _ = logits
    expected = cross_entropy(clean, labels) + 6 * kl(clean, adversarial)
    assert trades_loss(clean, adversarial, labels).item() == pytest.approx(expected)
    swapped = cross_entropy(clean, labels) + 6 * kl(adversarial, clean)
    assert expected != pytest.approx(swapped, rel=0.01)


@every_kind
@pytest.mark.parametrize("alpha, temperature", [(1.0, 30.0), (0.9, 5.0), (0.0, 1.0)])
def test_ard_distils_adversarial_images_and_classifies_clean_ones(
    alpha, temperature, labels, logits
):
    clean, adversarial, teacher = logits
    expected = alpha * temperature**2 * kl(teacher, adversarial, temperature)
    expected += (1 - alpha) * cross_entropy(clean, labels)
    loss = ard_loss(clean, adversarial, teacher, labels, alpha=alpha, temperature=temperature)
    assert loss.item() == pytest.approx(expected)


def test_igdm_is_the_divergence_of_the_students_difference_from_the_teachers(logits):
    student, teacher, _ = logits
    assert igdm_loss(student, teacher).item() == pytest.approx(kl(teacher, student))
    assert igdm_loss(student, student + 1).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("weight", [0.0, 5 / 6, 1.0])
def test_rslad_distils_clean_and_adversarial_images(weight, logits):
    clean, adversarial, teacher = logits
    expected = (1 - weight) * kl(teacher, clean) + weight * kl(teacher, adversarial)
    loss = rslad_loss(clean, adversarial, teacher, adversarial_weight=weight)
    assert loss.item() == pytest.approx(expected)
    assert expected != pytest.approx(kl(adversarial, teacher), rel=0.01)


def test_temperature_squared_keeps_the_size_of_the_gradient(logits):
    _, adversarial, teacher = logits
    sizes = []
    for temperature in (30.0, 300.0):
        loss = ard_loss(None, adversarial, teacher, None, temperature=temperature)
        (gradient,) = torch.autograd.grad(loss, adversarial)
        sizes.append(gradient.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)


@pytest.mark.parametrize(
    "loss",
    [
        lambda clean, adversarial, teacher: trades_loss(clean, adversarial, CLASSES, beta=2.0),
        lambda clean, adversarial, teacher: trades_loss(clean, adversarial, SOFT),
        lambda *logits: ard_loss(*logits, CLASSES, alpha=0.7, temperature=3.0),
        rslad_loss,
        lambda clean, adversarial, teacher: kl_divergence(clean, adversarial, temperature=2.0),
    ],
    ids=["TRADES", "TRADES soft", "ARD", "RSLAD", "KL"],
)
def test_the_gradient_is_that_of_the_loss(loss, logits):
    assert torch.autograd.gradcheck(loss, logits)


def test_trades_pulls_both_outputs_towards_each_other(logits):
    clean, adversarial, _ = logits
    divergence = trades_loss(clean, adversarial, CLASSES) - trades_loss(
        clean, adversarial, CLASSES, beta=0.0
    )
    gradients = torch.autograd.grad(divergence, (clean, adversarial))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_confident_outputs_that_disagree_give_finite_losses():
    sure = torch.tensor([[1e4, 0.0, 0.0]]), torch.tensor([[0.0, 1e4, 0.0]])
    assert trades_loss(*sure, torch.tensor([0])).item() == pytest.approx(6e4)
    assert math.isfinite(rslad_loss(*sure, sure[1]).item())
    assert math.isfinite(ard_loss(*sure, sure[1], torch.tensor([1]), alpha=0.5).item())


def module(name, **kwargs):
    return get_mid_level_loss({"key": name, "kwargs": kwargs})


def io_dict(output):
    return {".": {"output": output}}


@pytest.mark.parametrize(
    "name, kwargs, function",
    [
        ("TRADESLoss", {}, lambda c, a, t, y: trades_loss(c, a, y, beta=6)),
        ("TRADESLoss", {"beta": 1}, lambda c, a, t, y: trades_loss(c, a, y, beta=1)),
        ("ARDLoss", {}, lambda *args: ard_loss(*args, alpha=1, temperature=30)),
        (
            "ARDLoss",
            {"alpha": 0.5, "temperature": 4},
            lambda *args: ard_loss(*args, alpha=0.5, temperature=4),
        ),
        ("RSLADLoss", {}, lambda c, a, t, y: rslad_loss(c, a, t, adversarial_weight=5 / 6)),
        (
            "RSLADLoss",
            {"adversarial_weight": "1/2"},
            lambda c, a, t, y: rslad_loss(c, a, t, adversarial_weight=0.5),
        ),
    ],
)
def test_the_host_builds_each_loss_and_gives_it_outputs_and_labels(name, kwargs, function, logits):
    clean, adversarial, teacher = logits
    loss = module(name, **kwargs)(
        io_dict(CleanAndAdversarial(clean, adversarial)), io_dict(teacher), CLASSES
    )
    assert torch.equal(loss, function(*logits, CLASSES))
    assert all(f"{key}=" in repr(module(name, **kwargs)) for key in kwargs)


@pytest.mark.parametrize(
    "name, away_from", [("TRADESLoss", "clean"), ("ARDLoss", "labels"), ("RSLADLoss", "teacher")]
)
def test_another_output_is_refused_with_the_forward_process_to_use(name, away_from, logits):
    clean, _, teacher = logits
    with pytest.raises(ValueError, match="the student's output is a Tensor, not Clean") as error:
        module(name)(io_dict(clean), io_dict(teacher), CLASSES)
    assert "the student's forward_proc to !import_call" in str(error.value)
    assert f"clean_and_adversarial_forward, init: {{kwargs: {{away_from: {away_from}" in str(
        error.value
    )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["ARDLoss", "RSLADLoss"])
@pytest.mark.parametrize(
    "teacher, words",
    [
        ({}, "there is no teacher; the recipe has no models.teacher_model"),
        (io_dict(("logits",)), "the teacher's output is a tuple, not Tensor"),
    ],
)
def test_a_missing_teacher_is_named(teacher, words, name, logits):
    student = io_dict(CleanAndAdversarial(*logits[:2]))
    with pytest.raises(ValueError, match=words):
        module(name)(student, teacher, CLASSES)


@pytest.mark.parametrize(
    "name, kwargs",
    [
        ("TRADESLoss", {"beta": -1}),
        ("TRADESLoss", {"beta": "six"}),
        ("ARDLoss", {"alpha": 1.1}),
        ("ARDLoss", {"alpha": None}),
        ("ARDLoss", {"temperature": 0}),
        ("ARDLoss", {"temperature": math.inf}),
        ("RSLADLoss", {"adversarial_weight": "6/5"}),
        ("RSLADLoss", {"adversarial_weight": True}),
    ],
)
def test_an_invalid_argument_is_refused_by_name(name, kwargs):
    with pytest.raises(ValueError, match=f"{name}: {next(iter(kwargs))}"):
        module(name, **kwargs)
