"""Attacks: what their arguments mean, and which are refused or warned of."""

import pytest
import torch

from mixacm_plugin import (
    PGD,
    AutoAttack,
    Clean,
    evaluate,
)
from mixacm_plugin.evaluation.attacks import attack_of
from recipes import Few


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"name": "fgsm"}, "attack must be one of clean, pgd, autoattack, square; found 'fgsm'"),
        ({"name": "pgd", "norm": "L1"}, "norm must be one of Linf, L2; found 'L1'"),
        ({"name": "pgd", "eps": "wide"}, "expected a number such as 8/255"),
        ({"name": "pgd", "eps": -0.1}, "at least 0"),
        ({"name": "pgd", "eps": "nan"}, "expected a number"),
        ({"name": "pgd", "step_size": "1/0"}, "expected a number"),
        ({"name": "pgd", "eps": 8}, "found 8, is it 8/255"),
        ({"name": "pgd", "step_size": 0}, "step_size must be a number above 0; found 0"),
        (
            {"name": "pgd", "step_size": "0/255"},
            "step_size must be a number above 0; found '0/255'",
        ),
        ({"name": "pgd", "step_size": -0.1}, "at least 0"),
        ({"name": "pgd", "steps": 0}, "at least 1"),
        ({"name": "pgd", "restarts": 0}, "at least 1"),
        ({"name": "pgd", "step": 0.1}, "pgd has no setting 'step'; .* 'steps'"),
        ({"name": "clean", "eps": 0.1}, "clean has no setting 'eps'; it has none"),
    ],
    ids=str,
)
def test_an_attack_with_a_wrong_argument_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        attack_of(arguments)


@pytest.mark.parametrize(("eps", "warned"), [("8/255", False), ("0.05", True)])
def test_pgd_that_cannot_reach_the_edge_of_its_ball_is_warned_of(eps, warned, model):
    accuracy = evaluate(model, Few("test", 5), PGD(eps=eps, steps=20, step_size="2/1000"))
    assert any("can't reach the edge" in warning for warning in accuracy.warnings) == warned


@pytest.mark.parametrize(
    ("eps", "step_size"),
    [("8/255", "2/255"), ("1/255", "1/1020"), ("0.15", "0.0375"), (0.15, "0.0375"), ("1", "0.25")],
)
def test_pgds_step_is_a_quarter_of_eps(eps, step_size):
    assert PGD(eps=eps).step_size == step_size


def test_an_attack_is_what_its_settings_say():
    assert Clean().settings() == {"name": "clean"}
    autoattack = AutoAttack(eps=0.15)
    settings = {"name": "autoattack", "norm": "Linf", "eps": 0.15, "version": "standard"}
    assert autoattack.settings() == settings
    assert attack_of(autoattack.settings()) == autoattack
    pgd = PGD("L2", "1/2", 7, restarts=3)
    assert attack_of(pgd.settings()) == pgd


@pytest.mark.parametrize("name", ["pgd", "autoattack", "square"])
@pytest.mark.parametrize(("norm", "eps"), [("Linf", "8/255"), ("L2", "0.5")])
def test_the_default_radius_is_that_of_its_norm(name, norm, eps):
    assert attack_of({"name": name, "norm": norm}).eps == eps


@pytest.mark.parametrize("name", ["pgd", "autoattack", "square"])
def test_a_ball_that_holds_more_than_all_images_is_refused(name, model):
    for norm, eps in (("L2", 13.9), ("Linf", 1)):  # all of them is a threat model, too
        attack_of({"name": name, "norm": norm, "eps": eps}).check_model(
            model, torch.rand(2, 3, 8, 8)
        )
    with pytest.raises(ValueError, match=r"more than 13\.9 apart .*; found 128, is it 128/255"):
        evaluate(model, Few("test", 5), attack_of({"name": name, "norm": "L2", "eps": 128}))


def test_a_step_that_is_longer_than_the_ball_is_wide_is_warned_of(model):
    accuracy = evaluate(model, Few("test", 5), PGD(eps="8/255", step_size=2))
    assert any("longer than its ball is wide" in warning for warning in accuracy.warnings)
