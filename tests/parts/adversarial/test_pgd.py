"""PGD, against foolbox and by its promises."""

import copy

import foolbox
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import nn

from mixacm_plugin import Digits, pgd
from mixacm_plugin.parts.adversarial.threat_model import perturbation_size
from recipes import soft

# norm -> foolbox's attack, and a radius at which some of the digits fool the model below
NORMS = {"Linf": (foolbox.attacks.LinfPGD, 0.1), "L2": (foolbox.attacks.L2PGD, 1.0)}
every_norm = pytest.mark.parametrize("norm", NORMS)


def test_images_outside_0_to_1_are_refused_instead_of_clamped(trained):
    images = Digits("train").images[:4] * 255
    with pytest.raises(ValueError, match=r"images range from 0 to 255; expected \[0, 1\]"):
        pgd(trained, images, torch.zeros(4, dtype=torch.long), eps=0.1, step_size=0.1, steps=1)


@pytest.fixture(scope="module")
def trained():
    """A small classifier of the digits, in eval mode."""
    torch.manual_seed(0)
    digits = Digits("train")
    images, labels = digits.images, torch.tensor(digits.targets)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(6):
        for batch in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    model.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def digits():
    data = Digits("test")
    return data.images, torch.tensor(data.targets)


@every_norm
def test_pgd_takes_foolboxs_steps_from_foolboxs_start(norm, trained, digits):
    attack, eps = NORMS[norm]
    model = copy.deepcopy(trained).double()
    images, labels = digits[0][:50].double(), digits[1][:50]
    theirs = attack(abs_stepsize=eps / 3, steps=7, random_start=False)
    expected, _, _ = theirs(
        foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=eps
    )
    ours = pgd(
        model, images, labels, eps=eps, step_size=eps / 3, steps=7, norm=norm, random_start=False
    )
    assert (ours - images).abs().max() > 0
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)


@every_norm
def test_pgd_from_random_points_fools_as_often_as_foolboxs(norm, trained, digits):
    attack, eps = NORMS[norm]
    images, labels = digits
    theirs = attack(abs_stepsize=eps / 4, steps=10, random_start=True)
    bounded = foolbox.PyTorchModel(trained, bounds=(0, 1))
    _, _, fooled_by_theirs = theirs(bounded, images, labels, epsilons=eps)
    ours = pgd(trained, images, labels, eps=eps, step_size=eps / 4, steps=10, norm=norm)
    fooled_by_ours = trained(ours).argmax(1) != labels
    assert 0.2 < fooled_by_theirs.float().mean() < 0.8
    # McNemar: of the images that fool one and not the other, each has its half.
    only_ours = int((fooled_by_ours & ~fooled_by_theirs).sum())
    only_theirs = int((fooled_by_theirs & ~fooled_by_ours).sum())
    assert only_ours + only_theirs < 25
    assert binomtest(only_ours, max(1, only_ours + only_theirs)).pvalue > 0.01


@every_norm
@pytest.mark.parametrize("steps", [0, 3])
def test_pgd_stays_in_the_ball_and_in_the_pixels_range(norm, steps, trained, digits):
    images, labels = digits[0][:50], digits[1][:50]
    adversarial = pgd(trained, images, labels, eps=0.2, step_size=0.3, steps=steps, norm=norm)
    size = perturbation_size(adversarial - images, norm)
    assert size.min() > 0 and size.max() <= 0.2 + 1e-6
    assert adversarial.min() >= 0 and adversarial.max() <= 1


@every_norm
def test_pgd_starts_at_another_point_every_time(norm, trained, digits):
    images, labels = digits[0][:5], digits[1][:5]
    first, second = (
        pgd(trained, images, labels, eps=0.2, step_size=0.1, steps=0, norm=norm) for _ in range(2)
    )
    assert not torch.equal(first, second)


@every_norm
@pytest.mark.parametrize("kind", [lambda labels: labels, soft])
def test_pgd_raises_the_loss_of_every_image(norm, kind, trained, digits):
    images, labels = digits[0][:100], kind(digits[1][:100])
    adversarial = pgd(trained, images, labels, eps=0.2, step_size=0.05, steps=5, norm=norm)
    before = F.cross_entropy(trained(images), labels, reduction="none")
    after = F.cross_entropy(trained(adversarial), labels, reduction="none")
    assert (after > before).all()


def test_pgd_takes_one_hot_labels_for_classes(trained, digits):
    images, labels = digits[0][:20], digits[1][:20]
    attack = {"eps": 0.2, "step_size": 0.05, "steps": 3, "random_start": False}
    by_class = pgd(trained, images, labels, **attack)
    by_probability = pgd(trained, images, F.one_hot(labels, 10).float(), **attack)
    torch.testing.assert_close(by_probability, by_class)


@torch.no_grad()  # as evaluation may call it
def test_pgd_leaves_no_trace_in_the_model_or_the_images(trained, digits):
    model, images = copy.deepcopy(trained), digits[0][:20].clone()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    pgd(model, images, digits[1][:20], eps=0.2, step_size=0.1, steps=2)
    grads = [p.grad for p in model.parameters()]
    assert torch.equal(grads[0], torch.ones_like(model[0].weight)) and grads[1:] == [None] * 5
    assert all(p.requires_grad for p in model.parameters())
    assert not any(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name
    assert torch.equal(images, digits[0][:20]) and not images.requires_grad
