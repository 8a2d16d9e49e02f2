"""ACM: the loss alone, in a training loop of one's own."""

import copy

import pytest
import torch
import torch.nn.functional as F

from architectures import CallsTwice, ReturnsTuple, end, tiny_resnet, tiny_vit
from mixacm_plugin import ACM, channel_map, dm_wide_resnet, hook_points
from mixacm_plugin.parts.acm.pairs import PairError
from weights import differing, state

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def taught(teacher):
    with torch.no_grad():
        return teacher(IMAGES)


def test_it_is_the_loss_of_the_hook_points_maps():
    student, teacher = dm_wide_resnet(10, 1), dm_wide_resnet(10, 1).eval()
    seen = {}
    for side, model in (("student", student), ("teacher", teacher)):
        for number, point in enumerate(hook_points(model).activated):
            module = model.get_submodule(point.path)
            module.register_forward_hook(
                lambda _, args, out, at=(side, number): seen.__setitem__(at, out.detach())
            )
    acm = ACM(student, teacher)
    taught(teacher)
    student(IMAGES)
    expected = 0
    for number in range(4):
        maps = [F.normalize(channel_map(seen[side, number])) for side in ("student", "teacher")]
        expected = expected + (maps[0] - maps[1]).square().mean()
    torch.testing.assert_close(acm().detach(), expected)


@pytest.mark.parametrize("grid", [1, "full"])
def test_models_of_any_kind_and_width_train_by_it_alone(grid):
    student, teacher = dm_wide_resnet(10, 2), tiny_vit().eval()
    acm = ACM(student, teacher, input_shape=(3, 16, 16), grid=grid)
    before = state(teacher)
    optimiser = torch.optim.SGD(student.parameters(), lr=1.0)
    losses = []
    for _ in range(5):
        taught(teacher)
        with torch.autocast("cpu", torch.bfloat16):
            student(IMAGES)
        loss = acm()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert not differing(before, state(teacher))


def test_the_models_are_no_part_of_it_and_nothing_of_a_pass_is_kept():
    student, teacher = dm_wide_resnet(10, 1), dm_wide_resnet(10, 1).eval()
    acm = ACM(student, teacher)
    assert not list(acm.parameters())
    taught(teacher)
    student(IMAGES)
    acm()
    with pytest.raises(ValueError, match="ACM: the teacher hasn't seen images since the last call"):
        acm()
    taught(teacher)
    with pytest.raises(ValueError, match="ACM: the student hasn't seen images"):
        acm()


def test_a_compiled_student_is_hooked_too():
    student, teacher = dm_wide_resnet(10, 1), dm_wide_resnet(10, 1).eval()
    acm = ACM(student, teacher)
    taught(teacher)
    student(IMAGES)
    expected = acm()
    compiled = torch.compile(student, backend="eager")
    taught(teacher)
    compiled(IMAGES)
    torch.testing.assert_close(acm(), expected)


def test_pairs_of_ones_own_are_taken_and_checked():
    student, teacher = dm_wide_resnet(10, 1), dm_wide_resnet(10, 2).eval()
    end = {"path": "relu", "io": "output"}
    acm = ACM(student, teacher, {"last": {"teacher": end, "student": end}}, transform=None)
    taught(teacher)
    student(IMAGES)
    with pytest.raises(PairError, match="the teacher has 128 channels and the student 64"):
        acm()
    wrong = {"last": {"teacher": end, "student": {**end, "path": "neck"}}}
    with pytest.raises(ValueError, match="ACM: the student, WideResNet, has no module 'neck'"):
        ACM(student, teacher, wrong)


@pytest.mark.parametrize(
    ("path", "io", "words"),
    [
        ("block", "output", "the output of 'block' is a tuple, not a tensor"),
        ("by_keyword", "input", "the input of 'by_keyword' is given by keyword"),
    ],
)
def test_what_is_hooked_and_is_no_tensor_is_refused_by_its_pair(path, io, words):
    student, teacher = ReturnsTuple(), ReturnsTuple().eval()
    acm = ACM(student, teacher, same_ends(path, io))
    taught(teacher)
    student(IMAGES)
    with pytest.raises(PairError, match=rf"pairs.b.teacher: {words}.*; hook a module that"):
        acm()


def same_ends(path, io="output", **pair):
    return {"b": {**dict.fromkeys(("teacher", "student"), end(path, io)), **pair}}


def test_a_pass_of_a_copy_of_a_model_does_not_count():
    student, teacher = dm_wide_resnet(10, 1), dm_wide_resnet(10, 1).eval()
    acm = ACM(student, teacher)
    average, frozen = copy.deepcopy(student), copy.deepcopy(teacher)
    taught(teacher)
    student(IMAGES)
    average(IMAGES.flip(3))
    frozen(IMAGES.flip(3))
    loss = acm()
    taught(teacher)
    student(IMAGES)
    assert torch.equal(loss, acm())
    taught(teacher)
    average(IMAGES)
    with pytest.raises(ValueError, match=r"the student hasn't seen images .*copy"):
        acm()


def test_a_teacher_that_ran_in_train_mode_is_refused():
    student, teacher = dm_wide_resnet(10, 1), dm_wide_resnet(10, 1)
    acm = ACM(student, teacher)
    taught(teacher.train())
    student(IMAGES)
    with pytest.raises(ValueError, match=r"ACM: the teacher ran in train mode; call teacher.eval"):
        acm()


def test_a_teacher_gets_no_gradient():
    student, teacher = dm_wide_resnet(10, 1), dm_wide_resnet(10, 1).eval()
    acm = ACM(student, teacher)
    teacher(IMAGES)
    student(IMAGES)
    acm().backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert student.init_conv.weight.grad.abs().sum() > 0


def test_a_module_that_is_called_twice_in_a_pass_is_refused_unless_it_is_meant():
    for meant in ({}, {"call": "last"}):
        student, teacher = CallsTwice(), CallsTwice().eval()
        acm = ACM(student, teacher, same_ends("relu", **meant))
        taught(teacher)
        student(IMAGES)
        if meant:
            assert acm() > 0
            continue
        with pytest.raises(PairError, match=r"pairs.b.\w+: 'relu' was called 2 times in a pass"):
            acm()


def test_several_passes_before_a_call_are_no_calls_in_one():
    student, teacher = dm_wide_resnet(10, 1), dm_wide_resnet(10, 1).eval()
    acm = ACM(student, teacher)
    for _ in range(3):  # such as validation
        taught(teacher)
        student(IMAGES)
    assert acm() > 0


@pytest.mark.parametrize("make", [lambda: dm_wide_resnet(10, 1), tiny_resnet])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_models_in_another_precision_are_hooked(make, dtype):
    student, teacher = make().to(dtype), make().to(dtype).eval()
    acm = ACM(student, teacher, input_shape=(3, 16, 16))
    with torch.no_grad():
        teacher(IMAGES.to(dtype))
    student(IMAGES.to(dtype))
    acm().backward()
