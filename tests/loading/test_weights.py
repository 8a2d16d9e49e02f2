"""Where trained weights come from: what counts as a teacher with weights, everywhere alike."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from mixacm_plugin import RecipeError
from mixacm_plugin.loading.models import brings_weights, build_models, load_model
from mixacm_plugin.parts.models.teachers import TEACHERS
from mixacm_plugin.preflight.traps import recipe_warnings
from mixacm_plugin.reading import sections
from recipes import mixacm, recipe, run, two_stages, write
from weights import differing

RANDOM = "the teacher's weights are random"


@pytest.mark.parametrize(
    ("section", "brings"),
    [
        ("{key: resnet18, kwargs: {weights: DEFAULT}}", True),
        ("{key: resnet18, kwargs: {weights: null}}", False),
        ("{key: wide_resnet, kwargs: {pretrained: True}}", True),
        ("{key: wide_resnet, kwargs: {pretrained: False}}", False),
        ("{key: normalized, kwargs: {model: resnet18, model_kwargs: {weights: DEFAULT}}}", True),
        ("{key: normalized, kwargs: {model: wide_resnet, model_kwargs: {pretrained: True}}}", True),
        ("{key: normalized, kwargs: {model: resnet18, model_kwargs: {weights: null}}}", False),
        ("{key: normalized, kwargs: {model: resnet18}}", False),
        ("{key: robust_teacher, kwargs: {name: salman2020_resnet50}}", True),
        ("{key: robust_teacher, kwargs: {name: salman2020_resnet50, checkpoint: x.pt}}", True),
        ("{key: robust_teacher, kwargs: {name: salman2020_resnet50, checkpoint: False}}", False),
    ],
)
def test_a_model_that_brings_its_weights_is_told_from_one_that_does_not(section, brings):
    assert brings_weights(yaml.safe_load(section)) is brings


def warnings_of(built):
    config = built.build()
    stages = sections.stages(config)
    return list(recipe_warnings(config, build_models(built, config), [None for _ in stages]))


def test_a_teacher_with_a_stages_checkpoint_is_trained_with_and_evaluated():
    text = two_stages(mixacm()).replace("    src_ckpt: teacher.pt\n", "", 1)
    text = text.replace("requires_grad: False", "requires_grad: False\n      src_ckpt: teacher.pt")
    built = recipe(text)
    assert not any(RANDOM in warning for warning in warnings_of(built))
    found = load_model(built, "teacher").state_dict()
    assert differing(found, torch.load("teacher.pt")) == []


def test_a_teacher_with_random_weights_is_warned_of_and_not_evaluated():
    text = mixacm().replace("    src_ckpt: teacher.pt\n", "", 1)
    built = recipe(text)
    assert any(RANDOM in warning for warning in warnings_of(built))
    with pytest.raises(RecipeError, match="no checkpoint for the teacher"):
        load_model(built, "teacher")


def test_a_random_teacher_is_refused_before_training_where_it_is_tested_after(capsys):
    write(mixacm().replace("    src_ckpt: teacher.pt\n", "", 1))
    command = ("torchdistill", "--config", "recipe.yaml", "--device", "cpu")
    assert run(*command) == 2
    assert "models.teacher_model.src_ckpt: no checkpoint" in capsys.readouterr().err
    assert [file.name for file in Path("out").iterdir()] == [".training.lock"]
    assert run(*command, "-student_only") == 0


def test_another_file_of_a_published_teacher_is_read_in_its_authors_layout(monkeypatch, capsys):
    small = {"depth": 10, "width": 1, "num_classes": 10}
    made = replace(TEACHERS["gowal2020_wrn28_10_extra"], kwargs=small, num_classes=10)
    monkeypatch.setitem(TEACHERS, "small", made)
    text = mixacm().replace(
        "key: dm_wide_resnet\n    kwargs: {depth: 10, width: 1, num_classes: 10}\n"
        "    src_ckpt: teacher.pt",
        "key: robust_teacher\n    kwargs: {name: small, checkpoint: nowhere.pt, sha256: 00}",
    )
    built = recipe(text)
    weights = torch.load("teacher.pt")
    twice = {f"module.{part}model.{k}": v for part in ("", "attacker.") for k, v in weights.items()}
    torch.save({"model": twice, "epoch": 3}, "published.pt")
    for file in ("published.pt", "teacher.pt"):
        assert differing(load_model(built, "teacher", file).state_dict(), weights) == []
    argv = ("--config", "recipe.yaml", "--model", "teacher", "--attack", "clean", "--n", "4")
    assert run("main", "evaluate", *argv, "--ckpt", "published.pt", "--device", "cpu") == 0
    assert run("main", "evaluate", *argv, "--device", "cpu") == 2
    assert "checkpoint not found: nowhere.pt" in capsys.readouterr().err
