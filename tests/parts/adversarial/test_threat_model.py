"""Threat models: how ε is read, and the geometry of the ball: projection, draws, steps."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest

from mixacm_plugin.common.values import parse_number
from mixacm_plugin.parts.adversarial.threat_model import (
    NORMS,
    parse_eps,
    perturbation_size,
    project,
    random_perturbation,
    reaches_edge,
    steepest_direction,
)

SHAPE, PIXELS = (3, 2, 2), 12
every_norm = pytest.mark.parametrize("norm", NORMS)


def vectors(count=8, scale=1.0):
    return scale * torch.randn(count, *SHAPE, dtype=torch.float64)


def sizes(perturbations, norm):
    flat = perturbations.flatten(1).numpy()
    return np.abs(flat).max(1) if norm == "Linf" else np.sqrt((flat**2).sum(1))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255),
        ("2/255", 2 / 255),
        ("0.03", 0.03),
        (".5", 0.5),
        ("1e-3", 0.001),
        ("0", 0.0),
        (" 8/255 ", 8 / 255),
        (0.03, 0.03),
        (0, 0.0),
        (1, 1.0),
        (Fraction(1, 3), 1 / 3),
    ],
)
def test_a_number_is_read_as_written_or_as_a_fraction(text, value):
    assert parse_number(text) == value and type(parse_number(text)) is float


@pytest.mark.parametrize(
    "text",
    [
        *("", "eight", "8/", "/255", "8/255/2", "8/0", "8 255", "-8/255", "-0.1", "nan", "inf"),
        *(
            "1e999",
            pytest.param(10**400, id="10^400"),
            -1,
            -0.1,
            float("nan"),
            float("inf"),
            None,
            True,
            [8, 255],
            {},
            1j,
        ),
    ],
)
def test_what_is_no_finite_number_of_at_least_zero_is_refused(text):
    with pytest.raises(ValueError, match="expected a"):
        parse_number(text)


@pytest.mark.parametrize(
    "eps, norm, value",
    [("8/255", "Linf", 8 / 255), (0, "L2", 0.0), (1, "Linf", 1.0), (8, "L2", 8.0)],
)
def test_an_eps_is_read_in_pixels(eps, norm, value):
    assert parse_eps(eps, norm) == value


@pytest.mark.parametrize(
    "eps, norm, words",
    [
        (8, "Linf", r"^eps is in pixels of \[0, 1\]; found 8, is it 8/255\?$"),
        ("1.01", "Linf", "^eps is in pixels .* found 1.01"),
        ("eight", "L2", "^eps: expected a number such as 8/255 or 0.03; found 'eight'$"),
        (-1, "Linf", "^eps: expected a finite number of at least 0; found -1$"),
        ("8/255", "L1", "^norm must be one of Linf, L2; found 'L1'$"),
    ],
)
def test_an_eps_that_is_no_radius_of_its_ball_is_refused(eps, norm, words):
    with pytest.raises(ValueError, match=words):
        parse_eps(eps, norm)


@pytest.mark.parametrize(
    "eps, step_size, steps, reached",
    [
        (0.15, 2 / 255, 10, False),
        (0.15, 0.0375, 10, True),
        (8 / 255, 2 / 255, 4, True),
        (8 / 255, 2 / 255, 3, False),
        (33 / 255, 11 / 255, 3, True),  # although 3 * (11 / 255) is rounded to less
        (0, 0, 1, True),
    ],
)
def test_the_edge_of_a_ball_is_reached_by_steps_as_long_as_its_radius(
    eps, step_size, steps, reached
):
    assert reaches_edge(eps=eps, step_size=step_size, steps=steps) == reached


@every_norm
def test_the_size_of_a_perturbation_is_its_norm_image_by_image(norm):
    v = vectors()
    np.testing.assert_allclose(perturbation_size(v, norm).numpy(), sizes(v, norm))


@every_norm
@pytest.mark.parametrize("eps", [0.5, 2.0, 5.0])
def test_the_projection_is_the_nearest_point_of_the_ball(norm, eps):
    v = vectors()
    p = project(v, eps=eps, norm=norm)
    assert (sizes(p, norm) <= eps * (1 + 1e-12)).all()
    # p is the nearest point iff (v - p).(q - p) <= 0 for all q of the ball; the largest q.(v - p)
    # is eps times the dual norm of v - p.
    gap = (v - p).flatten(1).numpy()
    dual = np.abs(gap).sum(1) if norm == "Linf" else np.sqrt((gap**2).sum(1))
    inner = (gap * p.flatten(1).numpy()).sum(1)
    np.testing.assert_allclose(eps * dual - inner, 0, atol=1e-12)


@every_norm
def test_a_projection_projects_only_once(norm):
    inside, outside = vectors(scale=0.01), vectors(scale=10)
    torch.testing.assert_close(project(inside, eps=0.5, norm=norm), inside)
    once = project(outside, eps=0.5, norm=norm)
    torch.testing.assert_close(project(once, eps=0.5, norm=norm), once)


@every_norm
def test_nothing_is_left_in_a_ball_of_radius_zero(norm):
    assert not project(vectors(), eps=0.0, norm=norm).any()
    assert not random_perturbation(vectors(), eps=0.0, norm=norm).any()


@every_norm
def test_the_steepest_direction_is_a_unit_step_that_no_other_beats(norm):
    gradient = vectors()
    step = steepest_direction(gradient, norm=norm)
    np.testing.assert_allclose(sizes(step, norm), 1)
    g = gradient.flatten(1).numpy()
    dual = np.abs(g).sum(1) if norm == "Linf" else np.sqrt((g**2).sum(1))
    np.testing.assert_allclose((g * step.flatten(1).numpy()).sum(1), dual)


@every_norm
def test_no_gradient_means_no_step(norm):
    gradient = vectors(2)
    gradient[0] = 0
    step = steepest_direction(gradient, norm=norm)
    assert not step[0].any() and step[1].any()


@every_norm
def test_random_perturbations_lie_in_the_ball_and_repeat_with_the_seed(norm):
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(random_perturbation(torch.zeros(500, *SHAPE), eps=0.3, norm=norm))
    assert torch.equal(*draws)
    assert (sizes(draws[0], norm) <= 0.3 * (1 + 1e-6)).all()


def test_linf_perturbations_are_uniform_at_every_pixel():
    draws = random_perturbation(torch.zeros(2000, *SHAPE), eps=0.3, norm="Linf").flatten(1)
    for pixel in draws.T.double():
        # 0.01 over all pixels
        assert kstest(pixel.numpy() / 0.6 + 0.5, "uniform").pvalue > 0.01 / PIXELS
    correlations = np.corrcoef(draws.T.numpy()) - np.eye(PIXELS)
    assert np.abs(correlations).max() < 4.5 / 2000**0.5


def test_l2_perturbations_are_uniform_in_the_ball():
    draws = random_perturbation(torch.zeros(2000, *SHAPE), eps=0.3, norm="L2").flatten(1).double()
    radius = draws.norm(dim=1, keepdim=True)
    # The share of the ball's volume inside radius r is (r / eps)^d.
    assert kstest(((radius / 0.3) ** PIXELS).flatten().numpy(), "uniform").pvalue > 0.01
    # A coordinate of a uniform direction, mapped to [0, 1], is Beta(h, h) with h = (d - 1) / 2.
    marginal = beta((PIXELS - 1) / 2, (PIXELS - 1) / 2)
    for coordinate in (draws / radius).T:
        assert kstest(coordinate.numpy() / 2 + 0.5, marginal.cdf).pvalue > 0.01 / PIXELS


def test_an_unknown_norm_is_refused_with_the_known_ones():
    for function in (steepest_direction, perturbation_size):
        with pytest.raises(ValueError, match="Linf, L2; found 'L1'"):
            function(vectors(), norm="L1")
    for function in (project, random_perturbation):
        with pytest.raises(ValueError, match="Linf, L2; found 'L1'"):
            function(vectors(), eps=0.1, norm="L1")
