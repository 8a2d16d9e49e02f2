"""Our parts under the host's own API, called in the order of its example script."""

from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchdistill.common.main_util import import_dependencies, load_ckpt, save_ckpt
from torchdistill.common.yaml_util import load_yaml_file
from torchdistill.core.distillation import get_distillation_box
from torchdistill.core.training import get_training_box
from torchdistill.models.official import get_image_classification_model
from torchdistill.models.registry import get_model

from mixacm_plugin import (
    FrozenTeacher,
    Training,
    affine,
    dm_wide_resnet,
    keep_teacher_in_eval,
    normalized,
    read_recipe,
)
from mixacm_plugin.training.box_state import learnable_transforms
from recipes import CPU, KINDS, mixacm, scratch, write
from weights import differing, state

WIDTHS = [(1, 2), (2, 1)]


def load_model(config):
    model = get_image_classification_model(config, False)
    if model is None:
        model = get_model(config["key"], config.get("repo_or_dir"), **config["kwargs"])
    load_ckpt(config.get("src_ckpt"), model=model, strict=True)
    return model


def set_up(path):
    """Load a recipe and build its box; the learnable transforms' weights are copied first."""
    config = load_yaml_file(path)
    import_dependencies(config["dependencies"])
    models = config["models"]
    teacher = load_model(models["teacher_model"]) if "teacher_model" in models else None
    student_config = models["student_model" if teacher else "model"]
    student = load_model(student_config)
    before = state(teacher) if teacher else None
    args = (config["datasets"], config["train"], CPU, None, False, 1)
    box = (
        get_distillation_box(teacher, student, *args)
        if teacher
        else get_training_box(student, *args)
    )
    return SimpleNamespace(
        box=box,
        teacher=teacher,
        teacher_before=before,
        student=student,
        dst_ckpt=student_config["dst_ckpt"],
        rates=[],
    )


def train(run):
    """Train and save every epoch, then load the checkpoint as the script's test does."""
    box = run.box
    student = box.student_model if run.teacher else box.model
    for epoch in range(box.num_epochs):
        box.pre_epoch_process(epoch=epoch)
        run.rates.append(box.optimizer.param_groups[0]["lr"])
        for images, targets, extra in box.train_data_loader:
            loss = box.forward_process(images, targets, extra)
            assert torch.isfinite(loss)
            box.post_forward_process(loss=loss)
        student.eval()
        with torch.inference_mode():
            for images, _ in box.val_data_loader:
                student(images)
        save_ckpt(student, box.optimizer, box.lr_scheduler, 0.0, Namespace(), run.dst_ckpt)
        box.post_epoch_process()
    box.clean_modules()
    load_ckpt(run.dst_ckpt, model=run.student, strict=True)
    return run


def test_the_student_trains_and_its_checkpoint_loads_strictly_into_a_fresh_plain_model():
    run = set_up(write())
    before = state(run.student)
    train(run)
    fresh = dm_wide_resnet(10, 1, 10)
    load_ckpt(run.dst_ckpt, model=fresh, strict=True)
    assert not differing(state(fresh), state(run.student))
    assert set(differing(before, state(fresh))) == set(before)


@pytest.mark.parametrize("frozen_teacher", [False, True], ids=["requires_grad", "FrozenTeacher"])
def test_teacher_is_untouched_by_training(frozen_teacher):
    text = mixacm(frozen_teacher=frozen_teacher)
    if frozen_teacher:  # which needs no process of ours
        text = text.replace("  pre_epoch_process: keep_teacher_in_eval\n", "")
    run = train(set_up(write(text)))
    assert not differing(run.teacher_before, state(run.teacher))


@pytest.mark.parametrize("widths", WIDTHS, ids=["student wider", "student narrower"])
@pytest.mark.parametrize("side", ["teacher", "student"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_transform_trains_on_either_side_under_the_host(kind, side, widths):
    run = set_up(write(mixacm(*widths, kind, side)))
    if kind == "affine":
        transforms = run.box.teacher_model.learnable_transforms
        before = state(transforms)
        optimised = {id(p) for g in run.box.optimizer.param_groups for p in g["params"]}
        assert {id(p) for p in transforms.parameters()} <= optimised
    train(run)
    plain = dm_wide_resnet(10, widths[1], 10)
    assert list(torch.load(run.dst_ckpt, weights_only=False)["model"]) == list(plain.state_dict())
    assert not differing(run.teacher_before, state(run.teacher))
    if kind == "affine":
        after = state(transforms)
        assert set(differing(before, after)) == set(before)
        assert not differing(after, torch.load("out/transforms.pt"))


@pytest.mark.parametrize("widths", WIDTHS, ids=["student wider", "student narrower"])
@pytest.mark.parametrize("side", ["teacher", "student"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_transform_trains_on_either_side_under_our_command(kind, side, widths, tmp_path):
    path = write(mixacm(*widths, kind, side))
    training = Training(read_recipe(path), CPU)
    before = state(learnable_transforms(training.box)) if kind == "affine" else {}
    teacher_before = state(training.models["teacher"])
    training.run()
    checkpoint = torch.load("out/student.pt", weights_only=False)
    plain = dm_wide_resnet(10, widths[1], 10)
    assert list(checkpoint["model"]) == list(plain.state_dict())
    assert not differing(teacher_before, state(training.models["teacher"]))
    assert ("transforms" in checkpoint) == (kind == "affine")
    assert not (tmp_path / "out" / "transforms.pt").exists()
    if kind == "affine":
        assert set(differing(before, checkpoint["transforms"])) == set(before)


def test_only_the_plain_teacher_is_kept_in_eval_mode_and_not_what_is_trained_beside_it():
    teacher, student = dm_wide_resnet(10, 1, 10), dm_wide_resnet(10, 1, 10)
    wrapper = nn.ModuleDict({"teacher": teacher, "paraphraser": nn.BatchNorm1d(2)})
    no_hooks = {"teacher_io_dict": {}, "student_io_dict": {}, "distributed": False}
    box = SimpleNamespace(
        org_teacher_model=teacher, teacher_model=wrapper, student_model=student, **no_hooks
    )
    keep_teacher_in_eval(box)
    assert not any(module.training for module in teacher.modules())
    assert wrapper["paraphraser"].training
    assert student.training


def test_frozen_teacher_has_the_plain_teachers_hook_paths():
    teacher = dm_wide_resnet(10, 1, 10)
    wrapper = FrozenTeacher(teacher)
    assert wrapper.layer[1].block[0].relu_0 is teacher.layer[1].block[0].relu_0
    assert wrapper.logits is teacher.logits
    with pytest.raises(AttributeError, match="no_such_module"):
        _ = wrapper.no_such_module


def test_frozen_teacher_stays_in_eval_mode():
    wrapper = FrozenTeacher(dm_wide_resnet(10, 1, 10), [torch.nn.Linear(2, 2)])
    wrapper.train()
    assert not any(module.training for module in wrapper.teacher_model.modules())
    assert wrapper.learnable_transforms[0].training


def test_frozen_teachers_transforms_are_on_the_device_that_the_host_names():
    # Before they are shared with other processes, which NCCL can't do on a CPU.
    wrapper = FrozenTeacher(dm_wide_resnet(10, 1, 10), [affine(2, 1)], device=torch.device("meta"))
    assert wrapper.learnable_transforms[0].weight.device.type == "meta"


def test_frozen_teacher_refuses_to_train_with_frozen_transforms():
    text = mixacm(2, 1, "affine").replace(
        "    auxiliary_model", "    requires_grad: False\n    auxiliary_model"
    )
    with pytest.raises(ValueError, match="remove 'requires_grad: False'"):
        train(set_up(write(text)))


def test_pgd_adversarial_training_updates_batchnorm_once_a_step():
    attack = "{kwargs: {eps: 8/255, step_size: 2/255, steps: 2}}"
    forward = f"!import_call {{key: mixacm_plugin.adversarial_forward, init: {attack}}}"
    run = set_up(write(scratch(forward)))
    before = state(run.student)
    train(run)
    after = state(run.student)
    assert set(differing(before, after)) == set(before)
    steps = {int(after[name]) for name in after if name.endswith("num_batches_tracked")}
    assert steps == {2 * 2}  # epochs times batches


def test_a_torchvision_model_with_normalisation_inside_keeps_keys_and_hook_paths():
    text = mixacm(kind="adaptive_max_pool")
    student = text.index("  student_model:")
    text = text[:student] + text[student:].replace(
        "dm_wide_resnet\n    kwargs: {depth: 10, width: 1, num_classes: 10}",
        "normalized\n    kwargs: {model: shufflenet_v2_x0_5, model_kwargs: {num_classes: 10}}",
    )
    student = text.index("  student:")
    text = text[:student] + text[student:].replace("[layer.1.block.0.relu_0, relu]", "[conv5.2]")
    for pair in ("layer.1.block.0.relu_0", "relu"):
        text = text.replace(f"student: {{path: {pair},", "student: {path: conv5.2,")
    run = train(set_up(write(text)))
    plain = get_image_classification_model(
        {"key": "shufflenet_v2_x0_5", "kwargs": {"num_classes": 10}}
    )
    load_ckpt(run.dst_ckpt, model=plain, strict=True)
    images = torch.rand(4, 3, 32, 32)
    same = normalized("shufflenet_v2_x0_5", {"num_classes": 10}, mean=[0, 0, 0], std=[1, 1, 1])
    same.load_state_dict(plain.state_dict())
    torch.testing.assert_close(same.eval()(images), plain.eval()(images))
    assert not torch.allclose(run.student.eval()(images), plain(images))


@pytest.mark.parametrize(
    "key, kwargs, rates",
    [
        ("MultiStepLR", "{milestones: [1, 2], gamma: 0.1}", [0.05, 0.005, 0.0005]),
        ("CosineAnnealingLR", "{T_max: 4, eta_min: 0.01}", [0.05, 0.0441421356, 0.03]),
        ("warmup_cosine", "{warmup_epochs: 1, warmup_lr: 0.01, epochs: 3}", [0.01, 0.05, 0.025]),
    ],
)
def test_schedulers_step_once_an_epoch(key, kwargs, rates):
    text = mixacm().replace(
        "CosineAnnealingLR\n    kwargs: {T_max: 2}", f"{key}\n    kwargs: {kwargs}"
    )
    run = train(set_up(write(text.replace("num_epochs: 2", "num_epochs: 3"))))
    assert run.rates == pytest.approx(rates)


def test_frozen_teacher_refuses_an_argument_that_it_does_not_have():
    with pytest.raises(TypeError, match="transform_ckpt"):
        FrozenTeacher(dm_wide_resnet(10, 1, 10), transform_ckpt="out/transforms.pt")
