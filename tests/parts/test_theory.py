"""Mixup as mixing inputs with kept labels (paper, appendix B), on batches of ``mixup_collate``."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import roots_jacobi
from scipy.stats import beta, kstest
from torch import nn
from torchdistill.datasets.registry import get_collate_func

from mixacm_plugin import mixup_collate

ALPHAS = [0.2, 1.0, 2.0]
CLASSES = 3
PAIRS = [(i, j) for i in range(4) for j in range(4)]
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(3, CLASSES, dtype=torch.float64))
nn.init.normal_(MODEL[1].weight, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(4, 3, 1, 1, generator=torch.Generator().manual_seed(2)).double() * 2
LABELS = torch.tensor([0, 1, 2, 0])
ONE_HOT = F.one_hot(LABELS, CLASSES).double()


def cross_entropy(images, targets):
    return F.cross_entropy(MODEL(images), targets.double(), reduction="none").detach()


def squared_error(images, targets):
    return (MODEL(images).softmax(1) - targets).square().sum(1).detach()


def batches(alpha, count):
    """Pairs of images, each mixed with the other, and λ as the images tell it."""
    mix = get_collate_func(mixup_collate(alpha, CLASSES))
    for number in range(count):
        i, j = PAIRS[number % len(PAIRS)]
        images, targets = mix([(IMAGES[i], LABELS[i]), (IMAGES[j], LABELS[j])])
        moved, apart = (images[0] - IMAGES[j]).flatten(), (IMAGES[i] - IMAGES[j]).flatten()
        yield i, j, images, targets, (moved @ apart / (apart @ apart)).item() if i != j else None


def kept_labels(loss, i, j, lam):
    """Loss of a pair of images mixed by λ and by 1 - λ, labels kept, each with its λ for weight."""
    lams = torch.tensor([lam, lam, 1 - lam, 1 - lam], dtype=torch.float64)
    first, second = torch.tensor([i, j, i, j]), torch.tensor([j, i, j, i])
    of_first = lams.view(-1, 1, 1, 1)
    mixed = of_first * IMAGES[first] + (1 - of_first) * IMAGES[second]
    return (lams * loss(mixed, ONE_HOT[first])).sum().item()


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_lambda_that_mixes_images_and_labels_follows_beta(alpha):
    lams = []
    for i, j, _, targets, of_images in batches(alpha, 3000):
        if LABELS[i] != LABELS[j]:
            of_labels = targets[0, LABELS[i]].item()
            assert of_labels == pytest.approx(of_images, abs=1e-5)
            lams.append(of_labels)
    assert kstest(lams, beta(alpha, alpha).cdf).pvalue > 0.01
    for other in set(ALPHAS) - {alpha}:  # which the test tells apart
        assert kstest(lams, beta(other, other).cdf).pvalue < 1e-6


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_mixed_pair_costs_what_its_images_mixed_with_kept_labels_cost_in_the_sum(alpha):
    for i, j, images, targets, lam in batches(alpha, 4 * len(PAIRS)):
        mixup = cross_entropy(images, targets)
        assert mixup.sum().item() == pytest.approx(
            kept_labels(cross_entropy, i, j, 0.5 if i == j else lam), rel=1e-5
        )
        if i == j:  # of an image with itself each term is the same, too
            torch.testing.assert_close(mixup, cross_entropy(IMAGES[[i, i]], ONE_HOT[[i, i]]))


def test_a_single_term_costs_something_else_where_labels_differ():
    for i, j, images, targets, lam in batches(1.0, 4 * len(PAIRS)):
        if LABELS[i] != LABELS[j] and 0.1 < lam < 0.9:
            mixup, kept = cross_entropy(images, targets), cross_entropy(images, ONE_HOT[[i, j]])
            assert (mixup - kept).abs().max() > 0.01 * mixup.max()


def test_a_loss_that_is_not_affine_in_the_label_costs_something_else_in_the_sum_too():
    mixup = kept = 0.0
    for i, j, images, targets, lam in batches(1.0, 20 * len(PAIRS)):
        mixup += squared_error(images, targets).sum().item()
        kept += kept_labels(squared_error, i, j, 0.5 if i == j else lam)
    assert abs(mixup - kept) > 0.05 * kept


def kept_by_theory(a, b):
    """Mean loss over all pairs, images mixed by Beta(a, b), labels kept; by quadrature."""
    first, second = (torch.tensor(side) for side in zip(*PAIRS, strict=True))

    def mean(lam):
        mixed = lam * IMAGES[first] + (1 - lam) * IMAGES[second]
        return cross_entropy(mixed, ONE_HOT[first]).mean().item()

    x, weights = roots_jacobi(60, b - 1, a - 1)
    return np.average([mean(lam) for lam in (1 + x) / 2], weights=weights)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_mean_loss_of_mixed_batches_is_that_of_kept_labels_under_the_papers_distribution(alpha):
    losses = torch.stack([cross_entropy(x, y).mean() for _, _, x, y, _ in batches(alpha, 8000)])
    by_round = losses.view(-1, len(PAIRS)).mean(1)  # of all pairs
    error = by_round.std().item() / len(by_round) ** 0.5
    # P̃ of the paper, of Beta(a, b) with a = b.
    assert by_round.mean().item() == pytest.approx(kept_by_theory(alpha + 1, alpha), abs=4 * error)
    assert abs(by_round.mean().item() - kept_by_theory(alpha, alpha)) > 10 * error
