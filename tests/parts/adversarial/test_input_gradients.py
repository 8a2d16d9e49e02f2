"""Input gradients: the forward process that takes them, and the loss that matches them."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchdistill.core.interfaces.registry import get_forward_proc_func
from torchdistill.losses.registry import get_mid_level_loss

from mixacm_plugin import (
    FrozenTeacher,
    LogitsAndInputGradient,
    Training,
    dm_wide_resnet,
    input_gradient_forward,
    input_gradient_loss,
    read_recipe,
)
from mixacm_plugin.parts.computed import Computed
from recipes import CPU

LABELS = torch.tensor([2, 0, 1, 3])
SOFT = torch.eye(4)[LABELS] * 0.6 + 0.1
every_kind = pytest.mark.parametrize("labels", [LABELS, SOFT], ids=["classes", "soft"])
CNN = nn.Sequential(
    nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(inplace=True), nn.Flatten(), nn.Linear(64, 4)
)


@pytest.fixture
def images():
    return torch.rand(4, 3, 6, 6, dtype=torch.float64)


@pytest.fixture
def student():
    return copy.deepcopy(CNN).double().train()


@pytest.fixture
def teacher():
    model = copy.deepcopy(CNN).double().eval().requires_grad_(False)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value += 0.1 * torch.rand_like(value)
    return model


def outputs(model, images, labels=LABELS, forward="forward_batch_only"):
    labels = labels if labels.ndim == 1 else labels.to(images.dtype)
    return get_forward_proc_func(input_gradient_forward(forward))(model, images, labels, None)


def distance(student, teacher, images, labels=LABELS):
    with torch.no_grad():  # as the host does for a frozen teacher
        target = outputs(teacher, images, labels).input_gradient
    return input_gradient_loss(outputs(student, images, labels).input_gradient, target)


@every_kind
def test_a_linear_models_loss_and_its_gradient_are_those_of_the_closed_form(labels, images):
    def linear():
        return nn.Sequential(nn.Flatten(), nn.Linear(108, 4, bias=False)).double()

    student, teacher = linear(), linear().requires_grad_(False)
    weight = student[1].weight.detach().clone().requires_grad_()
    x = images.flatten(1)
    y = labels.double() if labels is SOFT else torch.eye(4, dtype=torch.float64)[labels]
    of_student = ((x @ weight.T).softmax(1) - y) @ weight
    of_teacher = ((x @ teacher[1].weight.T).softmax(1) - y) @ teacher[1].weight
    expected = (of_student - of_teacher).pow(2).sum() / 4
    loss = distance(student, teacher, images, labels)
    torch.testing.assert_close(loss, expected)
    loss.backward(), expected.backward()
    torch.testing.assert_close(student[1].weight.grad, weight.grad)


@every_kind
def test_the_losss_gradient_in_the_parameters_agrees_with_finite_differences(
    labels, student, teacher, images
):
    distance(student, teacher, images, labels).backward()
    checked = 0
    for parameter in student.parameters():
        direction = torch.randn_like(parameter)
        values = []
        for step in (1e-5, -1e-5):
            moved = copy.deepcopy(student)
            for twin, original in zip(moved.parameters(), student.parameters(), strict=True):
                if original is parameter:
                    twin.data += step * direction
            values.append(distance(moved, teacher, images, labels).item())
        slope = (parameter.grad * direction).sum().item()
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-4, abs=1e-8)
        checked += abs(slope) > 1e-6
    assert checked >= 4


def test_in_eval_mode_the_gradient_is_each_images_own_whatever_the_batch(teacher, images):
    together = outputs(teacher, images).input_gradient
    for index in range(4):
        alone = outputs(teacher, images[[index]], LABELS[[index]]).input_gradient
        torch.testing.assert_close(together[[index]], alone)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_gradient_is_that_of_the_batchs_summed_loss_at_each_image(training, student, images):
    gradient = outputs(student.train(training), images).input_gradient
    index, step = (1, 2, 3, 4), torch.zeros_like(images)
    step[index] = 1e-6
    values = [
        F.cross_entropy(student(images + sign * step), LABELS, reduction="none") for sign in (1, -1)
    ]
    slopes = (values[0] - values[1]) / 2e-6  # of each image's loss
    assert slopes.sum().item() == pytest.approx(gradient[index].item(), rel=1e-5)
    others = slopes[[0, 2, 3]]
    assert others.any() == training  # BatchNorm lets the others' losses in


def test_the_loss_is_the_batch_mean_of_squared_norms_and_its_own_gradient():
    student, teacher = torch.randn(2, 5, 3, 2, 2, dtype=torch.float64).unbind()
    expected = sum((s - t).norm() ** 2 for s, t in zip(student, teacher, strict=True)) / 5
    torch.testing.assert_close(input_gradient_loss(student, teacher), expected)
    inputs = (student.requires_grad_(), teacher.requires_grad_())
    assert torch.autograd.gradcheck(input_gradient_loss, inputs)
    with pytest.raises(ValueError, match=r"differ in shape: student \(5, 3, 2, 2\), teacher \(4"):
        input_gradient_loss(student, teacher[:4])


@pytest.mark.parametrize("no_grad", [True, False], ids=["no_grad", "grad"])
@pytest.mark.parametrize("wrapped", [True, False], ids=["FrozenTeacher", "plain"])
@pytest.mark.parametrize("computed", [True, False], ids=["Computed", ""])
def test_a_frozen_teacher_gives_constants_and_stays_untouched(
    computed, wrapped, no_grad, teacher, images
):
    model = FrozenTeacher(teacher) if wrapped else teacher
    model = Computed(model, "fp32") if computed else model
    before = copy.deepcopy(teacher.state_dict())
    calls = []
    teacher.register_forward_hook(lambda *args: calls.append(1))
    with torch.set_grad_enabled(not no_grad):
        logits, gradient = outputs(model, images)
    assert len(calls) == 1
    assert not logits.requires_grad and not gradient.requires_grad
    torch.testing.assert_close(logits, teacher(images))
    assert all(p.grad is None for p in teacher.parameters()) and not images.requires_grad
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_students_output_has_the_graphs_and_its_parameters_no_gradient_yet(student, images):
    twin = copy.deepcopy(student)
    logits, gradient = outputs(student, images)
    torch.testing.assert_close(logits, twin(images))
    assert logits.requires_grad and gradient.requires_grad
    assert all(p.grad is None for p in student.parameters()) and not images.requires_grad
    assert student[1].num_batches_tracked == 1
    (logits.sum() + gradient.square().sum()).backward()
    assert all(p.grad is not None for p in student.parameters())


def test_another_loss_may_read_a_hooked_activation_of_the_teacher(student, teacher, images):
    hooked = {}
    for name, model in (("student", student), ("teacher", teacher)):
        model[1].register_forward_hook(lambda *args, name=name: hooked.update({name: args[2]}))
    loss = distance(student, teacher, images)
    (loss + (hooked["student"] - hooked["teacher"]).square().sum()).backward()
    assert all(p.grad is None for p in teacher.parameters())


def test_a_shipped_model_can_be_differentiated_twice_in_bfloat16():
    student, teacher = (dm_wide_resnet(10, 1, 10) for _ in range(2))
    teacher.eval().requires_grad_(False)
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([1, 2, 3, 4])
    found = {}
    for forward in ("forward_batch_only", "forward_bf16"):
        student.zero_grad()
        target = outputs(teacher, images, labels, forward).input_gradient
        logits, gradient = outputs(student, images, labels, forward)
        assert logits.dtype == gradient.dtype == torch.float32
        input_gradient_loss(gradient, target).backward()
        found[forward] = student.init_conv.weight.grad.flatten()
    assert F.cosine_similarity(*found.values(), dim=0) > 0.9
    assert not torch.equal(*found.values())


class Attention(nn.Module):
    """The smallest classifier of torch's fused attention, as ViTs have it."""

    def __init__(self):
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 4, 3, 3), nn.Linear(4, 4)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)[:, None].contiguous()
        return self.head(F.scaled_dot_product_attention(tokens, tokens, tokens).mean((1, 2)))


def test_a_model_with_fused_attention_can_be_differentiated_twice(images):
    student, teacher = Attention().double(), Attention().double().requires_grad_(False)
    distance(student, teacher, images).backward()
    weight = student.patches.weight
    direction, values = torch.randn_like(weight), []
    for step in (1e-5, -2e-5):
        weight.data += step * direction
        values.append(distance(student, teacher, images).item())
    slope = (weight.grad * direction).sum().item()
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_an_output_without_an_input_gradient_is_refused(side):
    loss = get_mid_level_loss({"key": "InputGradientLoss", "kwargs": {}})
    whole = LogitsAndInputGradient(torch.zeros(4, 4), torch.ones(4, 3, 2, 2))
    found = {name: {".": {"output": whole}} for name in ("student", "teacher")}
    assert loss(found["student"], found["teacher"], LABELS) == 0
    found[side] = {".": {"output": whole.logits}}
    words = f"the {side}'s output is a Tensor, not LogitsAndInputGradient; set the {side}'s"
    with pytest.raises(ValueError, match=words) as error:
        loss(found["student"], found["teacher"], LABELS)
    assert "mixacm_plugin.input_gradient_forward" in str(error.value)


def test_a_missing_teacher_is_named():
    loss = get_mid_level_loss({"key": "InputGradientLoss", "kwargs": {}})
    whole = LogitsAndInputGradient(torch.zeros(4, 4), torch.ones(4, 3, 2, 2))
    with pytest.raises(ValueError, match="there is no teacher"):
        loss({".": {"output": whole}}, {}, LABELS)


def test_the_forward_process_is_found_by_its_key_and_can_be_pickled():
    keys = {input_gradient_forward(), input_gradient_forward("forward_bf16")}
    assert len(keys) == 2
    assert all(callable(pickle.loads(pickle.dumps(get_forward_proc_func(key)))) for key in keys)
    with pytest.raises(ValueError, match="input_gradient_forward: forward: no forward process"):
        input_gradient_forward("forward_all_day")


def test_the_distance_is_the_norm_of_the_difference_or_its_square():
    student, teacher = torch.randn(2, 5, 3, 4, 4, dtype=torch.float64)
    norms = torch.stack([(s - t).norm() for s, t in zip(student, teacher, strict=True)])
    torch.testing.assert_close(input_gradient_loss(student, teacher), norms.square().mean())
    own = input_gradient_loss(student, teacher, squared=False)
    torch.testing.assert_close(own, norms.mean())
    same = student.clone().requires_grad_()
    input_gradient_loss(same, student, squared=False).backward()
    assert (same.grad == 0).all()


def test_kdiga_is_soft_labels_and_the_norm_of_the_difference_of_input_gradients():
    training = Training(read_recipe("quickstart/mixacm", ["compare/kdiga"]), CPU, seed=0)
    box, student, teacher = training.box, training.models["student"], training.models["teacher"]
    images, targets, extra = next(iter(box.train_data_loader))
    box.pre_epoch_process(epoch=0)
    value = box.forward_process(images, targets, extra)
    images.requires_grad_()
    gradients, logits = [], []
    for model in (student, teacher):
        logits.append(model(images))
        loss = F.cross_entropy(logits[-1], targets, reduction="sum")
        gradients.append(torch.autograd.grad(loss, images, retain_graph=True)[0])
    distance = (gradients[0] - gradients[1]).flatten(1).norm(dim=1).mean()
    own, taught = (one / 10 for one in logits)
    divergence = F.kl_div(own.log_softmax(1), taught.softmax(1), reduction="batchmean")
    expected = 0.05 * F.cross_entropy(logits[0], targets) + 95 * divergence + 3 * distance
    torch.testing.assert_close(value, expected)
