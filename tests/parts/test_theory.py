"""Mixup as mixing inputs with kept labels (paper, appendix B): exact for label-affine losses."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import roots_jacobi

BETAS = [(1.0, 1.0), (0.2, 0.2), (2.0, 0.7), (0.5, 3.0)]


def beta_expectation(function, a, b, nodes=60):
    """Mean of ``function(λ)`` over Beta(a, b), by Gauss-Jacobi quadrature."""
    x, weights = roots_jacobi(nodes, b - 1, a - 1)
    values = np.array([function(lam) for lam in (1 + x) / 2])
    return np.tensordot(weights / weights.sum(), values, axes=1)


def soft_cross_entropy(logits, label):
    return F.cross_entropy(logits, label)


def squared_error(logits, label):
    return (logits.softmax(-1) - label).square().sum()


def problem(loss):
    """Loss of mixing images i and j by λ, with a label mixed by μ; a tiny logistic model."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2, dtype=torch.float64)
    images = 2 * torch.randn(4, 3, dtype=torch.float64)
    labels = F.one_hot(torch.tensor([0, 1, 1, 0])).double()

    @torch.no_grad()
    def mixed(i, j, lam, mu):
        logits = model(lam * images[i] + (1 - lam) * images[j])
        return loss(logits, mu * labels[i] + (1 - mu) * labels[j]).item()

    return mixed


def terms(loss, a, b):
    """(i, j)-terms of mixup, and of mixing with kept labels under P̃."""
    mixed = problem(loss)
    mixup, kept = np.zeros((4, 4)), np.zeros((4, 4))
    for i, j in itertools.product(range(4), repeat=2):

        def keep(lam, i=i, j=j):
            return mixed(i, j, lam, 1.0)

        mixup[i, j] = beta_expectation(lambda lam, i=i, j=j: mixed(i, j, lam, lam), a, b)
        kept[i, j] = (
            a * beta_expectation(keep, a + 1, b) + b * beta_expectation(keep, b + 1, a)
        ) / (a + b)
    return mixup, kept


@pytest.mark.parametrize(("a", "b"), BETAS)
def test_mixup_equals_mixing_inputs_only_in_the_sum_over_all_pairs(a, b):
    mixup, kept = terms(soft_cross_entropy, a, b)
    assert mixup.sum() == pytest.approx(kept.sum(), rel=1e-9)
    # Where the labels differ (0 and 1) a single term is another; of an image with itself it isn't.
    assert abs(mixup[0, 1] - kept[0, 1]) > 0.01 * mixup[0, 1]
    np.testing.assert_allclose(np.diag(mixup), np.diag(kept), rtol=1e-9)


def test_mixup_does_not_equal_it_for_a_loss_that_is_not_affine_in_the_label():
    mixup, kept = terms(squared_error, 1.0, 1.0)
    assert abs(mixup.sum() - kept.sum()) > 0.05 * kept.sum()
