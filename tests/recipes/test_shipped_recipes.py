"""The shipped recipes and all rows of the shipped studies, with small models and random images."""

import json
import math
import re
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from mixacm_plugin import Training, read_recipe
from mixacm_plugin.common.files import RECIPES, read_json_lines
from mixacm_plugin.loading.models import build_model, load_model
from mixacm_plugin.parts.models.teachers import TEACHERS
from mixacm_plugin.preflight import stand_ins
from mixacm_plugin.preflight.inspection import inspect_recipe
from mixacm_plugin.reading.library import recipe_names
from mixacm_plugin.reading.nodes import walk
from mixacm_plugin.studies.changes import sets
from mixacm_plugin.studies.study import read_study
from recipes import CPU
from studies import studies
from weights import differing, state

NO_WEIGHTS = ["models: weights are random, since no checkpoint was read"]
# Widths 5, 10 and 20 and their channels; those of digits are small already.
DIVISIBLE = {"width": 5, "in_channels": 80, "out_channels": 80}
TAUGHT = ["quickstart/mixacm", "cifar10/mixacm", "imagenet/mixacm"]


ROWS = [(s, scale, row.name) for s, scale in studies() for row in read_study(s, scale).rows]


def shrink(recipe):
    """Make all models of a recipe shallow and narrow; equal channel counts stay equal."""
    for path, node in walk(recipe.root):
        parts = {k.value: v for k, v in node.value} if re.fullmatch(r"models\.\w+", path) else {}
        if "key" in parts and parts["key"].value == "robust_teacher":
            given = {k.value: v.value for k, v in parts["kwargs"].value}
            teacher = TEACHERS[given["name"]]
            parts["key"].value = teacher.key
            parts["kwargs"].value = yaml.compose(yaml.safe_dump(teacher.kwargs)).value
    nodes = {id(node): (path.rpartition(".")[2], node) for path, node in walk(recipe.root)}
    for name, node in nodes.values():
        if name == "depth":  # one block a stage, unless the second one is hooked
            node.value = "16" if "layer1.1." in recipe.text() else "10"
        elif name in DIVISIBLE and int(node.value) % DIVISIBLE[name] == 0:
            node.value = str(int(node.value) // 5)
        elif node.value == "resnet50":
            node.value = "resnet18"
    return recipe


def shape(recipe):
    return (3, 8, 8) if "Digits" in recipe.text() else (3, 32, 32)


def check(recipe):
    """What ``mixacm check`` finds on random images, without weights."""
    return inspect_recipe(
        recipe, CPU, input_shape=shape(recipe), batch_size=4, random_weights=True, seconds=0
    )


@cache
def checked(text):
    """Warnings of a small recipe; equal ones are checked once."""
    Path("small.yaml").write_text(text)
    return check(read_recipe("small.yaml")).warnings


def warnings_of(recipe):
    return checked(re.sub("dst_ckpt: .*", "dst_ckpt: student.pt", shrink(recipe).text()))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_passes_the_check_without_a_warning(name):
    assert warnings_of(read_recipe(name)) == NO_WEIGHTS


@pytest.mark.exhaustive(each=("study",))
@pytest.mark.parametrize(("study", "scale", "name"), ROWS)
def test_every_row_of_every_shipped_study_passes_the_check_without_a_warning(study, scale, name):
    (row,) = (row for row in read_study(study, scale).rows if row.name == name)
    warnings = warnings_of(read_recipe(row.base, sets(row.changes)))
    if name == "block outputs":  # which are there to be compared with activated ones
        warnings = [warning for warning in warnings if "isn't activated" not in warning]
    assert warnings == NO_WEIGHTS


RESULTS = sorted(RECIPES.glob("studies/results/*/results.json"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.parent.name)
def test_shipped_results_are_complete_and_name_no_machine(file):
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    runs = [run for row in rows for run in row["runs"]]
    assert {run["status"] for run in runs} == {"done"}
    assert not any(Path(run["checkpoint"]).is_absolute() for run in runs if run.get("checkpoint"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10/mixacm", "imagenet/mixacm"])
def test_the_papers_models_pass_the_check_at_full_size(name):
    found = check(read_recipe(name))
    expected = {
        "cifar10/mixacm": {"teacher": 36_479_194, "student": 46_160_474},
        "imagenet/mixacm": {"teacher": 25_557_032, "student": 25_557_032},
    }[name]
    assert {role: parameters for role, (_, parameters) in found.models.items()} == expected
    assert found.warnings == NO_WEIGHTS


@pytest.mark.slow
@pytest.mark.parametrize("name", TAUGHT)
def test_the_main_recipes_train_and_their_checkpoints_load(name, monkeypatch):
    monkeypatch.setattr(stand_ins, "IMAGES", 8)
    sets = ["train.num_epochs=1"]
    if name.startswith("imagenet"):  # two steps of four images, in two parts each
        sets += ["batch={global_batch: 4, at_most: 2}", "train.scheduler.kwargs.warmup_epochs=0"]
    recipe = shrink(read_recipe(name, sets))
    stand_ins.use_random_images(recipe, shape(recipe))
    stand_ins.use_random_weights(recipe)
    if not name.startswith("imagenet"):
        stand_ins.use_batch_size(recipe, 4)
    training = Training(recipe, CPU, seed=0)
    before = {role: state(model) for role, model in training.models.items()}
    training.run()
    after = {role: state(model) for role, model in training.models.items()}
    assert not differing(before["teacher"], after["teacher"])
    trained = {n for n, _ in training.models["student"].named_parameters()}
    assert trained <= set(differing(before["student"], after["student"]))
    checkpoint = torch.load(training.last_ckpt, weights_only=False)
    assert checkpoint["stage_grad_count"] == 2 * training.box.grad_accum_step
    (epoch,) = read_json_lines(training.metrics_file)
    assert set(epoch["terms"]) == {"kd", "acm"}
    assert all(math.isfinite(value) and value > 0 for value in epoch["terms"].values())
    assert not differing(state(load_model(recipe, "student")), after["student"])


@pytest.mark.parametrize(
    ("own", "student"),
    [("cifar10/teacher", "cifar10/mixacm"), ("imagenet/pgd7_at", "imagenet/mixacm")],
)
def test_a_teacher_of_ones_own_is_given_by_one_override(own, student):
    recipe = read_recipe(own)
    trained = build_model(recipe, {"models": recipe.build("models")}, "models.model")
    torch.save({"model": trained.state_dict(), "epoch": 199, "optimizer": {}}, "teacher.pt")
    recipe = read_recipe(student, ["models.teacher_model.kwargs.checkpoint=teacher.pt"])
    teacher = build_model(recipe, {"models": recipe.build("models")}, "models.teacher_model")
    assert not differing(state(trained), state(teacher))
