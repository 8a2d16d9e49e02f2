"""What the files in recipes/compare do: attacks and losses as published, host's quirks undone."""

import inspect
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torchdistill.losses.registry import MIDDLE_LEVEL_LOSS_DICT, get_mid_level_loss

import recipes
from boxes import host_box
from mixacm_plugin import Digits, dm_wide_resnet, read_recipe, watch_overfitting
from mixacm_plugin.common.values import parse_number
from mixacm_plugin.loading.models import load_model
from mixacm_plugin.reading import sections
from mixacm_plugin.reading.library import override_names
from mixacm_plugin.studies.changes import sets
from mixacm_plugin.studies.study import read_study


class Attack(NamedTuple):
    """How training images are perturbed; lengths in 1/255."""

    steps: int
    step_size: int
    eps: int
    start: str  # uniform in the ball, gaussian of standard deviation 0.001, or the image
    away_from: str  # labels, the student's output on clean images, or the teacher's


AUTHORS = {
    "pgd7_at": Attack(7, 2, 8, "uniform", "labels"),  # Madry et al. 2018; MixACM, supplement A.1
    "fast_at": Attack(1, 10, 8, "uniform", "labels"),  # Wong et al. 2020
    "free_at": Attack(4, 8, 8, "image", "labels"),  # Shafahi et al. 2019, on ImageNet: 4 replays
    "trades": Attack(10, 2, 8, "gaussian", "clean"),  # Zhang et al. 2019
    "ard": Attack(10, 2, 8, "uniform", "labels"),  # Goldblum et al. 2020
    "rslad": Attack(10, 2, 8, "gaussian", "teacher"),  # Zi et al. 2021
    "igdm": Attack(10, 2, 8, "gaussian", "teacher"),  # Lee et al. 2024, on top of RSLAD
}
WITHOUT_TEACHER = ("pgd7_at", "fast_at", "free_at", "trades")
# What a file sets otherwise than the loss it names does by default, and says why beside it.
OTHERWISE = {
    ("dist_plus", "beta"),
    ("dist_plus", "gamma"),
    ("dist_plus", "iota"),
    ("kdiga", "squared"),
    ("pad", "student_embed_module_io"),
    ("pad", "teacher_embed_module_io"),
    ("skd", "mode"),
    ("srd", "exponent"),
}


def train_of(method, *sets):
    base = "quickstart/scratch" if method in WITHOUT_TEACHER else "quickstart/mixacm"
    return read_recipe(base, [f"compare/{method}", *sets]).build("train")


def terms_of(method):
    """Every term of a method's loss, in every stage."""
    for _, stage in sections.stages({"train": train_of(method)}):
        yield from stage["criterion"]["kwargs"]["sub_terms"].values()


def term_of(method):
    return train_of(method)["criterion"]["kwargs"]["sub_terms"][method]


GREY = 0.3 + 0.4 * Digits("train").images[:16]  # where no perturbation leaves the pixels' range
LABELS = torch.tensor(Digits("train").targets[:16])


def passes_of_a_step(method, labels=LABELS, teacher=None):
    """Perturbations of the images in a step's passes: the attack's, and those trained on."""
    text = recipes.scratch() if method in WITHOUT_TEACHER else recipes.mixacm()
    torch.manual_seed(0)
    models, box = host_box(recipes.recipe(text, f"compare/{method}"))
    if teacher is not None:
        teacher(models["teacher"])
    attack, trained = [], []
    models["student"].register_forward_pre_hook(
        lambda model, args: (trained if model.training else attack).append(args[0].detach() - GREY),
        prepend=True,  # before the model normalises
    )
    box.pre_epoch_process(epoch=0)
    torch.manual_seed(0)
    loss = box.forward_process(GREY, F.one_hot(labels, 10).float(), {})
    box.post_forward_process(loss=loss)
    return attack, trained


@torch.no_grad()
def turned(teacher):
    """Let a teacher say the opposite."""
    teacher.logits.weight.neg_()


def away_from(method):
    """What the images trained on depend on: the labels, the teacher, neither."""
    changes = {"labels": {"labels": (LABELS + 1) % 10}}
    if method not in WITHOUT_TEACHER:
        changes["teacher"] = {"teacher": turned}
    _, found = passes_of_a_step(method)
    others = {name: passes_of_a_step(method, **change)[1] for name, change in changes.items()}
    return [name for name in others if not torch.equal(torch.cat(found), torch.cat(others[name]))]


def size(perturbation):
    return perturbation.abs().max().item()


def observed(method):
    """The attack of a method, as its passes tell it."""
    attack, trained = passes_of_a_step(method)
    reference = [p for p in attack if size(p) == 0]
    attack = [p for p in attack if size(p) > 0]
    path = [*attack, trained[0]] if attack else trained
    lengths = [255 * size(after - before) for before, after in pairwise(path)]
    start = "uniform" if size(path[0]) > 0.01 else "gaussian" if size(path[0]) > 0 else "image"
    if start == "gaussian":
        assert path[0].std().item() == pytest.approx(0.001, rel=0.1)
    used = away_from(method)
    assert len(used) + len(reference) == 1
    return Attack(
        steps=len(path) - bool(attack),
        step_size=pytest.approx(max(lengths), abs=0.01),
        eps=pytest.approx(255 * max(map(size, path)), abs=0.01),
        start=start,
        away_from=used[0] if used else "clean",
    )


@pytest.mark.parametrize("method", AUTHORS)
def test_a_method_attacks_as_its_authors_do(method):
    assert AUTHORS[method] == observed(method)


@pytest.mark.parametrize("method", override_names())
def test_a_loss_is_set_as_its_class_has_it_by_default_where_nothing_is_said(method):
    method, different = method.removeprefix("compare/"), set()
    for term in terms_of(method):
        loss = MIDDLE_LEVEL_LOSS_DICT.get(term["criterion"]["key"])
        arguments = inspect.signature(loss).parameters if loss else {}
        for name, value in term["criterion"]["kwargs"].items():
            default = arguments[name].default if loss else None
            if default not in (None, inspect.Parameter.empty) and not same(value, default):
                different.add((method, name))
    assert different == {(m, name) for m, name in OTHERWISE if m == method}


def same(value, default):
    if isinstance(value, str) and isinstance(default, float):
        value = parse_number(value)  # such as 5/6
    return value == default


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
    assert epochs["Free-AT"] * AUTHORS["free_at"].steps == 40


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
