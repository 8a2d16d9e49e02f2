"""Other losses on one part of an output that has several."""

import pytest
import torch
from torchdistill.losses.registry import get_mid_level_loss

from mixacm_plugin import CleanAndAdversarial, LogitsAndInputGradient

LABELS = torch.tensor([1, 0, 2, 2])
KD = {
    "student_module_path": ".",
    "student_module_io": "output",
    "teacher_module_path": ".",
    "teacher_module_io": "output",
    "temperature": 4,
    "alpha": 0.3,
}


@pytest.fixture
def outputs():
    student = CleanAndAdversarial(torch.randn(4, 3), torch.randn(4, 3))
    return student, LogitsAndInputGradient(torch.randn(4, 3), torch.randn(4, 1, 2, 2))


def build(loss, kwargs, parts):
    return get_mid_level_loss(
        {"key": loss, "kwargs": kwargs}, {"key": "OutputPart", "kwargs": parts}
    )


def io_dict(output):
    return {".": {"output": output}, "fc": {"output": torch.zeros(4, 3)}}


@pytest.mark.parametrize("part", ["clean", "adversarial"])
def test_the_hosts_loss_sees_the_named_parts_in_place_of_the_outputs(part, outputs):
    student, teacher = outputs
    loss = build("KDLoss", KD, {"student": part, "teacher": "logits"})
    expected = get_mid_level_loss({"key": "KDLoss", "kwargs": KD})(
        io_dict(getattr(student, part)), io_dict(teacher.logits), LABELS
    )
    assert torch.equal(loss(io_dict(student), io_dict(teacher), LABELS), expected)


def test_a_side_without_a_name_is_left_as_it_is(outputs):
    student, teacher = outputs
    loss = build("KDLoss", {**KD, "teacher_module_path": "fc"}, {"student": "clean"})
    expected = get_mid_level_loss({"key": "KDLoss", "kwargs": KD})(
        io_dict(student.clean), io_dict(torch.zeros(4, 3)), LABELS
    )
    assert torch.equal(loss(io_dict(student), io_dict(teacher), LABELS), expected)


def test_a_loss_of_torch_sees_the_students_part_and_the_labels(outputs):
    student, _ = outputs
    loss = build("CrossEntropyLoss", {}, {"student": "adversarial", "uses_label": True})
    expected = torch.nn.functional.cross_entropy(student.adversarial, LABELS)
    assert torch.equal(loss(io_dict(student), {}, LABELS), expected)


@pytest.mark.parametrize(
    "parts, words",
    [
        ({"student": "logits"}, "no part 'logits'; the student's output has the parts clean, adv"),
        ({"teacher": "clean"}, "no part 'clean'; the teacher's output is a Tensor"),
    ],
)
def test_a_part_that_is_not_there_is_named(parts, words, outputs):
    loss = build("KDLoss", KD, parts)
    with pytest.raises(ValueError, match=f"OutputPart: {words}"):
        loss(io_dict(outputs[0]), io_dict(torch.zeros(4, 3)), LABELS)
