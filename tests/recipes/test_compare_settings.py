"""What the files in recipes/compare set: attacks and losses as published, host's quirks undone."""

import pytest
import torch
import torch.nn.functional as F
from torchdistill.losses.registry import get_mid_level_loss

from mixacm_plugin import (
    Digits,
    adversarial_forward,
    clean_and_adversarial_forward,
    dm_wide_resnet,
    free_adversarial_forward,
    read_recipe,
    watch_overfitting,
)
from mixacm_plugin.loading.models import load_model
from mixacm_plugin.reading import sections
from mixacm_plugin.studies.changes import sets
from mixacm_plugin.studies.study import read_study

STEPS = {"eps": "8/255", "step_size": "2/255"}
FORWARDS = {  # method: role, what the role's forward process is
    "pgd7_at": ("model", adversarial_forward, {**STEPS, "steps": 7}),
    "fast_at": (
        "model",
        adversarial_forward,
        {"eps": "8/255", "step_size": "10/255", "steps": 1},
    ),
    "free_at": ("model", free_adversarial_forward, {"eps": "8/255", "replays": 4}),
    "trades": (
        "model",
        clean_and_adversarial_forward,
        {**STEPS, "steps": 10, "away_from": "clean", "start": "gaussian"},
    ),
    "ard": (
        "student",
        clean_and_adversarial_forward,
        {**STEPS, "steps": 10, "away_from": "labels", "start": "uniform"},
    ),
    "rslad": (
        "student",
        clean_and_adversarial_forward,
        {**STEPS, "steps": 10, "away_from": "teacher", "start": "gaussian"},
    ),
}
LOSSES = {
    "trades": {"key": "TRADESLoss", "kwargs": {"beta": 6.0}},
    "ard": {"key": "ARDLoss", "kwargs": {"alpha": 1.0, "temperature": 30.0}},
    "rslad": {"key": "RSLADLoss", "kwargs": {"adversarial_weight": "5/6"}},
}


def train_of(method, *sets):
    base = "quickstart/mixacm"
    if method in FORWARDS and FORWARDS[method][0] == "model":
        base = "quickstart/scratch"
    return read_recipe(base, [f"compare/{method}", *sets]).build("train")


def term_of(method):
    return train_of(method)["criterion"]["kwargs"]["sub_terms"][method]


@pytest.mark.parametrize("method", FORWARDS)
def test_a_method_attacks_as_its_authors_do(method):
    role, forward, arguments = FORWARDS[method]
    assert train_of(method)[role]["forward_proc"] == forward(**arguments)


@pytest.mark.parametrize("method", LOSSES)
def test_a_method_has_its_authors_loss(method):
    assert term_of(method)["criterion"] == LOSSES[method]


def test_the_watch_of_fast_at_has_the_ball_of_its_attack():
    ball = [f"train.model.forward_proc.init.kwargs.{x}" for x in ("eps=0.5", "norm=L2")]
    watch = train_of("fast_at", *ball)["post_epoch_process"]
    assert watch == watch_overfitting(eps=0.5, step_size="2/255", norm="L2")


def test_free_at_has_as_many_backward_passes_as_the_other_rows_of_the_study():
    epochs = {}
    for row in read_study("studies/compare").rows:
        if row.base == "quickstart/scratch":
            train = {"train": read_recipe(row.base, sets(row.changes)).build("train")}
            ((_, stage),) = sections.stages(train)
            epochs[row.name] = stage["num_epochs"]
    assert {name: n for name, n in epochs.items() if name != "Free-AT"} == dict.fromkeys(
        ("from scratch", "PGD7-AT", "Fast-AT", "TRADES"), 40
    )
    assert epochs["Free-AT"] * FORWARDS["free_at"][2]["replays"] == 40


def host_loss(method):
    """The host's loss as a method sets it: of student's and teacher's activations."""
    loss = get_mid_level_loss(term_of(method)["criterion"])

    def of(student, teacher):
        logits = {".": {"output": torch.eye(4)}}
        return loss(
            {"relu": {"output": student}, **logits}, {"relu": {"output": teacher}, **logits}
        )

    return of


def test_dist_plus_is_least_for_activations_like_the_teachers():
    # As torchdistill has it, with a positive iota, the opposite is least.
    features = torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(1))
    loss = host_loss("dist_plus")
    assert loss(features, features) < loss(features + noise, features) < loss(noise, features)


@torch.no_grad()
def test_spkds_weight_is_its_authors_since_the_hosts_loss_is_as_much_smaller_as_it_is_larger():
    digits, features = Digits("train").images[:64], {}
    torch.manual_seed(0)
    models = {
        "student": dm_wide_resnet(10, 1, 10).eval(),
        "teacher": load_model(read_recipe("quickstart/mixacm"), "teacher"),
    }
    for role, model in models.items():
        model.relu.register_forward_hook(lambda *args, role=role: features.update({role: args[2]}))
        model(digits)
    student, teacher = features["student"], features["teacher"]
    ours, theirs = (F.normalize(z.flatten(1) @ z.flatten(1).T, dim=1) for z in (student, teacher))
    authors = 3000 * (ours - theirs).square().sum() / 64**2
    hosts = term_of("spkd")["weight"] * host_loss("spkd")(student, teacher)
    assert hosts / authors == pytest.approx(1, abs=0.2)
