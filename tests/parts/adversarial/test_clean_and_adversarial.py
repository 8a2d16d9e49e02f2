"""The forward process with a clean and an adversarial pass: its attack and its passes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torchdistill.core.forward_hook import ForwardHookManager
from torchdistill.core.interfaces.registry import get_forward_proc_func

from mixacm_plugin import (
    Digits,
    clean_and_adversarial_forward,
    dm_wide_resnet,
    recipe_file,
    shared_forward,
)
from mixacm_plugin.common.state_dicts import load_weights
from mixacm_plugin.parts.adversarial.clean_and_adversarial import TEACHER_OUTPUT
from mixacm_plugin.parts.adversarial.pgd import ascend
from mixacm_plugin.parts.adversarial.threat_model import perturbation_size
from recipes import soft

ATTACK = {"eps": "8/255", "step_size": "2/255", "steps": 10}
# norm -> an ε, and a step to reach it in ten
BALLS = {"Linf": (0.1, 0.025), "L2": (1.0, 0.25)}
every_norm = pytest.mark.parametrize("norm", BALLS)
EVERY_TARGET = ("labels", "clean", "teacher")
every_target = pytest.mark.parametrize("away_from", EVERY_TARGET)


def trained():
    """The quickstart's robust teacher, in eval mode."""
    model = dm_wide_resnet(10, 1, 10)
    load_weights(model, recipe_file("quickstart/teacher.pt"))
    return model.eval()


@pytest.fixture
def teacher():
    return trained()


@pytest.fixture
def student():
    """A model in train mode, somewhat like the teacher."""
    model = trained()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * parameter.std(correction=0) * torch.randn_like(parameter)
    return model.train()


@pytest.fixture
def batch():
    digits = Digits("test")
    return digits.images[:32], torch.tensor(digits.targets[:32])


class Step:
    """A step of both of the host's forward processes; the images of each of the student's passes.

    Args:
        start: the first images that the attack looked at.
        adversarial: those of the pass in train mode.
    """

    def __init__(self, student, teacher, images, labels, **attack):
        passes, extra = [], {}
        handle = student.register_forward_pre_hook(
            lambda model, args: passes.append((model.training, args[0].detach().clone())),
            prepend=True,  # before the model normalises them
        )
        with torch.no_grad():
            get_forward_proc_func(shared_forward())(teacher, images, labels, extra)
        process = get_forward_proc_func(clean_and_adversarial_forward(**{**ATTACK, **attack}))
        self.output = process(student, images, labels, extra)
        handle.remove()
        self.modes = [mode for mode, _ in passes]
        self.start = passes[1 if attack["away_from"] == "clean" else 0][1]
        self.images = [images for _, images in passes]
        self.adversarial, self.last = self.images[-2:]


def divergence(target, logits):
    """The KL divergence of each image, from its definition."""
    log_p, log_q = target.log_softmax(1), logits.log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1)


def objective(away_from, student, teacher, images, labels):
    """What an attack is to raise, of images near the given ones and image by image."""
    with torch.no_grad():
        references = {"clean": student(images), "teacher": teacher(images)}
    if away_from == "labels":
        return lambda x: F.cross_entropy(student(x), labels, reduction="none")
    return lambda x: divergence(references[away_from], student(x))


@every_norm
@every_target
@pytest.mark.parametrize("kind", [lambda labels: labels, soft], ids=["classes", "soft"])
def test_the_attack_raises_its_own_objective_within_the_ball(
    kind, away_from, norm, student, teacher, batch
):
    images, labels = batch[0], kind(batch[1])
    twin = copy.deepcopy(student).eval()
    eps, step_size = BALLS[norm]
    ball = {"eps": eps, "step_size": step_size, "norm": norm}
    start = "uniform" if away_from == "labels" else "gaussian"
    step = Step(student, teacher, images, labels, away_from=away_from, start=start, **ball)
    size = perturbation_size(step.adversarial - images, norm)
    assert size.max() <= eps + 1e-6 and size.mean() > 0.7 * eps
    assert step.adversarial.min() >= 0 and step.adversarial.max() <= 1
    with torch.no_grad():
        value = objective(away_from, twin, teacher, images, labels)
        assert (value(step.adversarial) > value(step.start)).float().mean() > 0.95
        assert value(step.adversarial).mean() > 1.2 * value(step.start).mean()


@every_norm
@pytest.mark.parametrize("away_from", ["clean", "teacher"])
def test_the_attack_climbs_the_divergence_from_the_target_and_not_the_other_way_round(
    away_from, norm, student, teacher, batch
):
    images, labels = batch[0].double(), batch[1]
    student, teacher = student.double(), teacher.double()
    twin = copy.deepcopy(student).eval()
    eps, step_size = BALLS[norm]
    ball = {"eps": eps, "step_size": step_size, "steps": 3, "norm": norm}
    step = Step(student, teacher, images, labels, away_from=away_from, start="gaussian", **ball)
    value = objective(away_from, twin, teacher, images, labels)
    target = twin(images).detach() if away_from == "clean" else teacher(images).detach()
    start = step.start - images
    expected = ascend(lambda x: value(x).sum(), images, start=start, **ball)
    swapped = ascend(lambda x: divergence(twin(x), target).sum(), images, start=start, **ball)
    torch.testing.assert_close(step.adversarial, expected)
    assert not torch.allclose(step.adversarial, swapped)


@pytest.mark.parametrize("start", ["uniform", "gaussian"])
def test_the_attack_starts_with_the_noise_that_the_recipe_names(start, student, teacher, batch):
    images = 0.25 + batch[0] / 2  # away from 0 and 1, where noise is cut off
    first, second = (
        Step(student, teacher, images, batch[1], away_from="labels", start=start).start - images
        for _ in range(2)
    )
    assert not torch.equal(first, second)
    if start == "uniform":
        assert first.abs().max() == pytest.approx(8 / 255, rel=0.01)
        assert first.std() == pytest.approx(8 / 255 / 3**0.5, rel=0.05)
    else:
        assert first.std() == pytest.approx(0.001, rel=0.05)


@every_target
def test_hooks_see_the_clean_pass_and_each_part_is_of_its_own_images(
    away_from, student, teacher, batch
):
    twin, other = copy.deepcopy(student), copy.deepcopy(student)
    hooks = ForwardHookManager(torch.device("cpu"))
    hooks.add_hook(student, "logits")
    step = Step(student, teacher, *batch, away_from=away_from)
    assert torch.equal(step.last, batch[0])
    assert hooks.pop_io_dict()["logits"]["output"] is step.output.clean
    torch.testing.assert_close(step.output.clean, twin(batch[0]))
    torch.testing.assert_close(step.output.adversarial, other(step.adversarial))
    assert not torch.equal(step.output.clean, step.output.adversarial)


@every_target
def test_batchnorm_sees_the_two_final_passes_only_and_no_gradient_is_left(
    away_from, student, teacher, batch
):
    student.relu.eval()
    twin, modes = copy.deepcopy(student), [m.training for m in student.modules()]
    step = Step(student, teacher, *batch, away_from=away_from)
    assert step.modes == [False] * (10 + (away_from == "clean")) + [True, True]
    assert [m.training for m in student.modules()] == modes
    assert all(p.grad is None for p in (*student.parameters(), *teacher.parameters()))
    twin(step.adversarial), twin(batch[0])
    for (name, value), expected in zip(student.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(value, expected, msg=name)
    sum(part.sum() for part in step.output).backward()
    assert all(p.grad is not None for p in student.parameters())


@every_target
def test_both_ways_has_the_differences_of_both_models_across_the_ball(
    away_from, student, teacher, batch
):
    twin = copy.deepcopy(student)
    step = Step(student, teacher, *batch, away_from=away_from, both_ways=True)
    assert step.modes[-4:] == [False, True, True, True]
    adversarial, opposite, clean = step.images[-3:]
    assert torch.equal(clean, batch[0])
    torch.testing.assert_close(opposite - clean, clean - adversarial)
    taught = teacher(adversarial) - teacher(opposite)
    torch.testing.assert_close(step.output.teacher_difference, taught)
    assert not step.output.teacher_difference.requires_grad
    torch.testing.assert_close(step.output.student_difference, twin(adversarial) - twin(opposite))
    for part, images in (("adversarial", adversarial), ("clean", clean)):
        torch.testing.assert_close(getattr(step.output, part), twin(images))


def test_one_hot_labels_are_attacked_as_classes_are(student, teacher, batch):
    by_class, by_probability = batch[1], F.one_hot(batch[1], 10).float()
    adversarial = []
    for labels in (by_class, by_probability):
        torch.manual_seed(0)
        step = Step(copy.deepcopy(student), teacher, batch[0], labels, away_from="labels", steps=2)
        adversarial.append(step.adversarial)
    torch.testing.assert_close(*adversarial)


@torch.no_grad()  # as in a trial step
def test_clean_and_adversarial_passes_run_where_gradients_are_off(student, teacher, batch):
    step = Step(student, teacher, *batch, away_from="teacher", start="gaussian")
    assert (step.adversarial - batch[0]).abs().mean() > 1 / 255
    assert not step.output.clean.requires_grad


@every_target
def test_all_passes_run_as_the_named_forward_process_says(away_from, student, teacher, batch):
    types = []
    student.logits.register_forward_hook(lambda *args: types.append(args[2].dtype))
    step = Step(student, teacher, *batch, away_from=away_from, forward="forward_bf16")
    assert set(types) == {torch.bfloat16} and len(types) == len(step.modes)
    assert step.output.clean.dtype == step.output.adversarial.dtype == torch.float32


def test_the_teacher_may_run_by_another_forward_process(teacher, batch):
    extra = {}
    output = get_forward_proc_func(shared_forward("forward_bf16"))(teacher, *batch, extra)
    shared = extra[TEACHER_OUTPUT]
    assert torch.equal(shared, output) and not shared.requires_grad
    torch.testing.assert_close(output, teacher(batch[0]), atol=0.2, rtol=0.1)
    assert not torch.equal(output, teacher(batch[0]))


@pytest.mark.parametrize(
    "extra, words",
    [
        (None, "needs the supplementary dict.* remove 'requires_supp: False'"),
        ({}, "no output of the teacher; set the teacher's forward_proc to .*shared_forward"),
    ],
    ids=["no dict", "no output"],
)
@pytest.mark.parametrize("setting", [{"away_from": "teacher"}, {"both_ways": True}])
def test_a_missing_output_of_the_teacher_is_named(setting, extra, words, student, batch):
    arguments = {"away_from": "labels", **ATTACK, **setting}
    process = get_forward_proc_func(clean_and_adversarial_forward(**arguments))
    with pytest.raises(ValueError, match=words) as error:
        process(student, *batch, extra)
    assert str(error.value).startswith("clean_and_adversarial_forward: ")
    assert "\n" not in str(error.value)
    assert all(module.training for module in student.modules())
