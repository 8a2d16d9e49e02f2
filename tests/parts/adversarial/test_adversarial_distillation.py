"""Adversarial distillation and TRADES, as shipped: under the host and our command."""

import copy
import json
import math
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from boxes import host_box, train_epoch
from mixacm_plugin import RecipeError, Training, read_recipe, recipe_file
from mixacm_plugin.preflight.inspection import inspect_recipe
from recipes import CPU, mixacm, recipe, scratch
from weights import differing, state

EPOCHS = 6
# method -> passes of the student that move its BatchNorm's statistics in a step
METHODS = {"trades": 2, "ard": 2, "rslad": 2, "input_gradients": 1}
DISTILLED = [name for name in METHODS if name != "trades"]
every_method = pytest.mark.parametrize("method", METHODS)
LONGER = (f"train.num_epochs={EPOCHS}", f"train.scheduler.kwargs.T_max={EPOCHS}")
TERMS = "train.criterion.kwargs.sub_terms"
KD = """{
  criterion: {key: KDLoss, kwargs: {student_module_path: '.', student_module_io: output,
    teacher_module_path: '.', teacher_module_io: output, temperature: 4, alpha: 0.1}},
  criterion_wrapper: {key: OutputPart, kwargs: PARTS}, weight: 0.5}"""
ACM = """{
  criterion: {key: ACMLoss, kwargs: {pairs: {last: {
    teacher: {path: relu, io: output}, student: {path: relu, io: output}}}}}, weight: 20.0}"""


def shipped(method, *overrides, base=None):
    """The small recipe of the tests, with the quickstart's teacher and a shipped override file."""
    text = scratch() if method == "trades" else mixacm()
    overrides = [f"compare/{method}", *LONGER, *overrides]
    if method != "trades":
        path = json.dumps(os.fspath(recipe_file("quickstart/teacher.pt")))
        overrides.insert(0, f"models.teacher_model.src_ckpt={path}")
    return recipe(base or text, *overrides)


def with_terms(method, **terms):
    """An override file that adds terms to a shipped method's loss."""
    Path("terms.yaml").write_text(
        "".join(f"{TERMS}.{name}: {text}\n" for name, text in terms.items())
    )
    hooks = "train.{}.forward_hook={{output: [relu]}}"
    return shipped(method, "terms.yaml", *(hooks.format(s) for s in ("teacher", "student")))


@every_method
def test_each_method_trains_under_the_host(method):
    models, box = host_box(shipped(method))
    student, teacher = models["student"], models.get("teacher", nn.Identity())
    before, taught = state(student), state(teacher)
    calls = []
    teacher.register_forward_hook(lambda *args: calls.append(1))
    losses = [train_epoch(box) for _ in range(EPOCHS)]
    assert sum(losses[-1]) < 0.9 * sum(losses[0])
    assert set(differing(before, state(student))) == set(before)
    assert not differing(taught, state(teacher))
    steps = EPOCHS * 2
    assert len(calls) == (0 if method == "trades" else steps)
    tracked = {int(v) for n, v in student.named_buffers() if n.endswith("num_batches_tracked")}
    assert tracked == {METHODS[method] * steps}


@pytest.mark.parametrize("method", ["ard", "rslad"])
def test_igdm_trains_beside_another_method_under_the_host(method):
    other = f"{TERMS}.rslad.criterion={{key: ARDLoss, kwargs: {{}}}}"
    models, box = host_box(shipped("igdm", *([other] if method == "ard" else [])))
    taught = state(models["teacher"])
    calls = {role: [] for role in models}
    for role, model in models.items():
        model.register_forward_hook(
            lambda module, *_, role=role: calls[role].append(module.training)
        )
    losses = [train_epoch(box) for _ in range(EPOCHS)]
    assert sum(losses[-1]) < 0.9 * sum(losses[0])
    assert not differing(taught, state(models["teacher"]))
    assert calls["teacher"] == [False] * 3 * EPOCHS * 2
    assert calls["student"] == ([False] * 10 + [True] * 3) * EPOCHS * 2


@pytest.mark.slow
@every_method
def test_each_method_trains_under_our_command(method):
    training = Training(shipped(method), CPU, seed=0)
    taught = state(training.models["teacher"]) if method != "trades" else {}
    training.run()
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    assert method in lines[0]["terms"]
    if taught:
        assert not differing(taught, state(training.models["teacher"]))


@every_method
def test_each_method_runs_in_bfloat16_throughout(method):
    sections = {"trades": ["model"], "ard": ["student"]}.get(method, ["teacher", "student"])
    sets = [f"train.{s}.forward_proc.init.kwargs.forward=forward_bf16" for s in sections]
    models, box = host_box(shipped(method, *sets))
    types = {role: set() for role in models}
    for role, model in models.items():
        model.logits.register_forward_hook(lambda *args, r=role: types[r].add(args[2].dtype))
    batch = next(iter(box.train_data_loader))
    box.pre_epoch_process(epoch=0)
    box.forward_process(*batch).backward()
    assert types["student"] == {torch.bfloat16}
    assert method in ("trades", "ard") or types["teacher"] == {torch.bfloat16}
    assert all(torch.isfinite(p.grad).all() for p in box_parameters(box))


def box_parameters(box):
    return [p for group in box.optimizer.param_groups for p in group["params"]]


@pytest.mark.parametrize("labels", ["classes", "soft"])
@every_method
def test_labels_may_be_classes_or_mixed(labels, method):
    collate = "!import_call {key: mixacm_plugin.mixup_collate, init: {kwargs: {KWARGS}}}"
    mixed = collate.replace("KWARGS", "alpha: 1.0, num_classes: 10")
    value = "null" if labels == "classes" else mixed
    _, box = host_box(shipped(method, f"train.train_data_loader.collate_fn={value}"))
    images, targets, extra = next(iter(box.train_data_loader))
    assert targets.ndim == (1 if labels == "classes" else 2)
    assert math.isfinite(box.forward_process(images, targets, extra).item())


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, parts",
    [
        ("ard", "{student: adversarial}"),
        ("rslad", "{student: clean}"),
        ("input_gradients", "{student: logits, teacher: logits}"),
    ],
)
def test_each_method_can_be_summed_with_kd_and_acm(method, parts):
    made = with_terms(method, kd=KD.replace("PARTS", parts).replace("\n", ""), acm=ACM)
    training = Training(made, CPU, seed=0)
    calls = []
    training.models["teacher"].register_forward_hook(lambda *args: calls.append(1))
    training.run()
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    assert {method, "kd", "acm"} <= set(lines[-1]["terms"])
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert len(calls) == EPOCHS * 2


def test_acm_beside_adversarial_terms_compares_clean_images():
    _, box = host_box(with_terms("rslad", acm=ACM))
    seen = {}
    acm, _ = box.criterion.term_dict["acm"]
    acm.register_forward_pre_hook(lambda module, args: seen.update(student=args[0]["relu"]))
    twin = copy.deepcopy(box.student_model).train()
    hooked = []
    twin.relu.register_forward_hook(lambda *args: hooked.append(args[2]))
    images, targets, extra = next(iter(box.train_data_loader))
    box.pre_epoch_process(epoch=0)
    box.forward_process(images, targets, extra)
    twin(images)
    torch.testing.assert_close(seen["student"]["output"], hooked[-1])


@pytest.mark.parametrize(
    "method, override, words",
    [
        ("rslad", "train.train_data_loader.requires_supp=False", "remove 'requires_supp: False'"),
        ("rslad", "train.teacher.forward_proc=forward_batch_only", "mixacm_plugin.shared_forward"),
        *(
            (
                method,
                f"train.{'model' if method == 'trades' else 'student'}.forward_proc=forward_bf16",
                rf"{TERMS}.{method}: .*the student's forward_proc to .*mixacm_plugin",
            )
            for method in ("trades", "ard", "rslad")
        ),
        (
            "input_gradients",
            "train.student.forward_proc=forward_batch_only",
            f"{TERMS}.ce: .*'logits'; the student's output is a Tensor.*input_gradient_forward",
        ),
        ("ard", f"{TERMS}.ard.criterion.kwargs.alpha=2", "ARDLoss: alpha must be at most 1"),
        (
            "igdm",
            "train.student.forward_proc.init.kwargs.both_ways=False",
            "not BothWays; set the student's forward_proc to .*both_ways: True",
        ),
        ("trades", "train.model.forward_proc.init.kwargs.steps=0", "steps must be a whole number"),
    ],
)
def test_a_recipe_with_half_of_a_method_is_refused_in_one_line(method, override, words):
    if "requires_supp" in override:  # a key that the recipe doesn't have yet
        Path("supp.yaml").write_text(override.replace("=", ": "))
        override = "supp.yaml"
    with pytest.raises(RecipeError, match=words) as error:
        Training(shipped(method, override), CPU)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "base, method, sets",
    [
        ("quickstart/scratch", "trades", []),
        *(("quickstart/mixacm", method, []) for method in DISTILLED),
        ("quickstart/mixacm_affine", "rslad", []),
        ("quickstart/mixacm", "kdiga", []),
        ("quickstart/mixacm", "igdm", []),
        ("quickstart/mixacm_affine", "input_gradients", []),
        (
            "cifar10/small",
            "rslad",
            [
                f"train.{section}.forward_proc.init.kwargs.forward=forward_bf16"
                for section in ("teacher", "student")
            ],
        ),
        ("cifar10/small", "ard", []),
        ("cifar10/small", "input_gradients", []),
    ],
)
def test_each_override_file_passes_the_check_on_shipped_recipes(base, method, sets):
    made = read_recipe(base, [f"compare/{method}", *sets])
    size = 8 if base.startswith("quickstart") else 32
    found = inspect_recipe(
        made, CPU, input_shape=(3, size, size), batch_size=4, random_weights=True, seconds=0
    )
    (stage,) = found.stages
    assert {term.name for term in stage.terms} >= {method, "total"}
    assert all(math.isfinite(term.value) and term.gradient_norm > 0 for term in stage.terms)
    assert not [line for line in found.warnings if "random" not in line]
