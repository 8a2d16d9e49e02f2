"""The ACM loss and its module: formula, invariances, pairs, transforms, errors in a recipe."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torchdistill.losses.registry import get_mid_level_loss

from mixacm_plugin import ACMLoss, acm_loss, affine, resize_channels
from mixacm_plugin.parts.acm.pairs import PairError

POOL = {"side": "teacher", "kind": "adaptive_max_pool"}


def reference(student, teacher):
    """Loss of two channel maps in float64 NumPy, image by image."""
    student, teacher = student.detach().double().numpy(), teacher.detach().double().numpy()
    distances = [
        np.sum((s / np.sqrt(s @ s) - t / np.sqrt(t @ t)) ** 2)
        for s, t in zip(student, teacher, strict=True)
    ]
    return sum(distances) / student.size


def maps(images=4, channels=6):
    return torch.randn(images, channels, dtype=torch.float64)


def pair(path="block", io="output", **extra):
    return {"teacher": {"path": path, "io": io}, "student": {"path": path, "io": io}, **extra}


def hooked(activation, path="block", io="output"):
    return {path: {io: activation}}


def test_acm_loss_is_the_mean_squared_difference_of_unit_vectors():
    student, teacher = maps(), maps()
    assert acm_loss(student, teacher).item() == pytest.approx(reference(student, teacher))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_acm_loss_ignores_the_scale_of_its_inputs(scale):
    student, teacher = maps(), maps()
    scales = scale * torch.tensor([[1.0], [2.0], [3.0], [4.0]], dtype=torch.float64)
    expected = acm_loss(student, teacher)
    torch.testing.assert_close(acm_loss(scales * student, teacher), expected)
    torch.testing.assert_close(acm_loss(student, scales * teacher), expected)
    assert acm_loss(scales * teacher, teacher).item() == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_acm_loss_is_largest_for_opposite_maps(channels):
    teacher = maps(channels=channels)
    assert acm_loss(-teacher, teacher).item() == pytest.approx(4 / channels)
    for _ in range(20):
        assert acm_loss(maps(channels=channels), teacher).item() <= 4 / channels + 1e-12


def test_acm_loss_of_a_batch_is_the_mean_of_its_images_losses():
    student, teacher = maps(), maps()
    alone = [acm_loss(student[i : i + 1], teacher[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(acm_loss(student, teacher), torch.stack(alone).mean())


def test_acm_loss_is_differentiable_on_both_sides():
    assert gradcheck(acm_loss, (maps(3, 4).requires_grad_(), maps(3, 4).requires_grad_()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_image_with_a_zero_map_gets_no_gradient_and_leaves_the_others_alone(dtype):
    student, teacher = maps().to(dtype), maps().to(dtype)
    student[1] = 0
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(acm_loss(student, teacher), student)
    others = student[[0, 2, 3]].detach().requires_grad_()
    (expected,) = torch.autograd.grad(acm_loss(others, teacher[[0, 2, 3]]), others)
    assert not gradient[1].any()
    torch.testing.assert_close(gradient[[0, 2, 3]], expected * 3 / 4)


def test_acm_loss_works_in_bfloat16():
    student, teacher = maps().bfloat16(), maps().bfloat16()
    assert acm_loss(student, teacher).item() == pytest.approx(reference(student, teacher), rel=0.05)


def test_maps_of_different_shapes_are_refused_with_both():
    with pytest.raises(ValueError, match=r"student \(2, 3\), teacher \(2, 4\)"):
        acm_loss(torch.ones(2, 3), torch.ones(2, 4))


def test_the_module_sums_its_pairs_by_weight():
    loss = ACMLoss({"a": pair("a", weight=2.5), "b": pair("b", io="input"), "c": pair(weight=0)})
    student = {"a": {"output": maps()}, "b": {"input": maps()}, "block": {"output": maps()}}
    teacher = {"a": {"output": maps()}, "b": {"input": maps()}, "block": {"output": maps()}}
    expected = 2.5 * reference(student["a"]["output"], teacher["a"]["output"])
    expected += reference(student["b"]["input"], teacher["b"]["input"])
    assert loss(student, teacher).item() == pytest.approx(expected)


def test_the_module_compares_activations_by_its_mapping():
    student = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    teacher = torch.randn(2, 3, 7, 5, dtype=torch.float64)
    loss = ACMLoss({"a": pair()}, mapping="square_mean")
    expected = reference((student**2).mean((2, 3)), (teacher**2).mean((2, 3)))
    assert loss(hooked(student), hooked(teacher)).item() == pytest.approx(expected)


def test_the_module_reads_flat_activations_as_channel_maps():
    student, teacher = maps(), maps()
    loss = ACMLoss({"a": pair()}, mapping="square_mean")
    assert loss(hooked(student), hooked(teacher)).item() == pytest.approx(
        reference(student, teacher)
    )


def test_a_recipe_reaches_the_module_through_the_hosts_registry():
    loss = get_mid_level_loss({"key": "ACMLoss", "kwargs": {"pairs": {"a": pair()}}})
    assert type(loss) is ACMLoss


def test_the_gradient_reaches_the_students_activation_as_computed_by_hand():
    student = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    loss = ACMLoss({"a": pair(weight=3.0)})
    loss(hooked(student), hooked(teacher)).backward()
    a, b = student.detach().mean((2, 3)), teacher.mean((2, 3))
    size = a.norm(dim=1, keepdim=True)
    unit, target = a / size, b / b.norm(dim=1, keepdim=True)
    # |u - t|^2 = 2 - 2 u.t, du/da = (I - u u^T) / |a|, and a is a mean over 4 positions
    by_map = -2 * (target - unit * (unit * target).sum(1, keepdim=True)) / size
    expected = (3.0 * by_map / 6 / 4)[:, :, None, None].expand_as(student)
    torch.testing.assert_close(student.grad, expected)


def test_differing_channel_counts_need_a_transform():
    loss = ACMLoss({"fine": pair("fine"), "block3": pair()})
    student = {**hooked(maps(), "fine"), **hooked(maps(channels=4))}
    teacher = {**hooked(maps(), "fine"), **hooked(maps(channels=8))}
    with pytest.raises(PairError, match=r"teacher has 8 channels.* student 4; ") as caught:
        loss(student, teacher)
    assert caught.value.where == "pairs.block3"


@pytest.mark.parametrize("kind", ["adaptive_max_pool", "adaptive_avg_pool"])
@pytest.mark.parametrize("side", ["teacher", "student"])
def test_a_pooling_resizes_the_side_it_names_before_normalisation(side, kind):
    student, teacher = maps(channels=4), maps(channels=6)
    loss = ACMLoss({"a": pair()}, transform={"side": side, "kind": kind})
    if side == "teacher":
        expected = reference(student, resize_channels(teacher, 4, kind=kind))
    else:
        expected = reference(resize_channels(student, 6, kind=kind), teacher)
    assert loss(hooked(student), hooked(teacher)).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, [3.0, 4.0]),
        ({"transform": {"side": "teacher", "kind": "adaptive_avg_pool"}}, [2.0, 3.0]),
    ],
)
def test_a_pairs_own_transform_wins_over_the_common_one(own, expected):
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 3.0, 2.0, 4.0]])
    loss = ACMLoss({"a": pair(**own)}, transform=POOL)
    assert loss(hooked(student), hooked(teacher)).item() == pytest.approx(
        reference(student, torch.tensor([expected]))
    )


def test_a_pair_can_refuse_the_common_transform():
    loss = ACMLoss({"a": pair(transform=None)}, transform=POOL)
    with pytest.raises(PairError, match="give a transform"):
        loss(hooked(maps(channels=4)), hooked(maps(channels=8)))


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_an_affine_transforms_the_side_it_names_and_learns(side):
    counts = {"teacher": 6, "student": 4}
    other = 4 if side == "teacher" else 6
    fc = affine(counts[side], other)
    loss = ACMLoss({"a": pair(transform={"side": side, "module": fc})})
    given = {name: torch.randn(5, count) for name, count in counts.items()}
    value = loss(hooked(given["student"]), hooked(given["teacher"]))
    value.backward()
    transformed = {**given, side: given[side] @ fc.weight.T + fc.bias}
    expected = reference(transformed["student"], transformed["teacher"])
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert fc.weight.grad.abs().sum() > 0 and fc.bias.grad.abs().sum() > 0
    assert list(loss.learnable_transforms()) == [("a", fc)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_an_affine_serves_activations_of_another_precision(dtype):
    student, teacher = torch.randn(3, 4).to(dtype), torch.randn(3, 6).to(dtype)
    fc = affine(6, 4)
    loss = ACMLoss({"a": pair(transform={"side": "teacher", "module": fc})})
    value = loss(hooked(student), hooked(teacher))
    expected = reference(student, teacher.float() @ fc.weight.T + fc.bias)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_autocast_does_not_lower_the_precision_of_the_loss():
    student, teacher = torch.randn(3, 4, 2, 2), torch.randn(3, 6, 2, 2)
    loss = ACMLoss({"a": pair(transform={"side": "teacher", "module": affine(6, 4)})})
    expected = loss(hooked(student), hooked(teacher))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(hooked(student), hooked(teacher))
    torch.testing.assert_close(value, expected)


def test_an_affine_of_the_wrong_size_is_refused_with_the_right_one():
    loss = ACMLoss({"block2": pair(transform={"side": "teacher", "module": affine(5, 4)})})
    with pytest.raises(PairError, match=r"from 5 to 4 .*teacher's side.* map 6 to 4") as caught:
        loss(hooked(maps(channels=4)), hooked(maps(channels=6)))
    assert caught.value.where == "pairs.block2.transform.module"


@pytest.mark.parametrize(
    ("side", "io", "broken"),
    [
        ("teacher", "output", hooked(maps(), path="another")),
        ("student", "output", hooked(maps(), path="another")),
        ("student", "output", hooked(maps(), io="input")),
        ("teacher", "input", hooked(maps(), io="output")),
    ],
)
def test_an_activation_that_is_not_hooked_is_named_with_the_line_to_add(side, io, broken):
    both = {"teacher": hooked(maps(), io=io), "student": hooked(maps(), io=io), side: broken}
    with pytest.raises(
        PairError, match=rf"list 'block' under train\.{side}\.forward_hook\.{io}"
    ) as c:
        ACMLoss({"b": pair(io=io)})(both["student"], both["teacher"])
    assert c.value.where == f"pairs.b.{side}"


END = {"path": "block", "io": "output"}


@pytest.mark.parametrize(
    ("kwargs", "where"),
    [
        ({"mapping": "median"}, "mapping"),
        ({"mapping": None}, "mapping"),
        ({"mapping": ["mean"]}, "mapping"),
        ({"pairs": {}}, "pairs"),
        ({"pairs": None}, "pairs"),
        ({"pairs": [pair()]}, "pairs"),
        ({"pairs": {"b": None}}, "pairs.b"),
        ({"pairs": {"b": "block"}}, "pairs.b"),
        ({"pairs": {"a": pair(), "b": pair(wieght=2)}}, "pairs.b"),
        ({"pairs": {"b": {"student": END}}}, "pairs.b.teacher"),
        ({"pairs": {"b": {"teacher": END}}}, "pairs.b.student"),
        ({"pairs": {"b": {"teacher": "block", "student": END}}}, "pairs.b.teacher"),
        ({"pairs": {"b": {"teacher": END, "student": {"io": "output"}}}}, "pairs.b.student"),
        ({"pairs": {"b": {"teacher": END, "student": {"path": "block"}}}}, "pairs.b.student"),
        ({"pairs": {"b": {"teacher": {**END, "io": "out"}, "student": END}}}, "pairs.b.teacher"),
        ({"pairs": {"b": {"teacher": {**END, "path": None}, "student": END}}}, "pairs.b.teacher"),
        ({"pairs": {"b": {"teacher": {**END, "path": ["x"]}, "student": END}}}, "pairs.b.teacher"),
        ({"pairs": {"b": {"teacher": {**END, "weight": 2}, "student": END}}}, "pairs.b.teacher"),
        ({"pairs": {"b": pair(weight="2")}}, "pairs.b.weight"),
        ({"pairs": {"b": pair(weight=True)}}, "pairs.b.weight"),
        ({"pairs": {"b": pair(weight=None)}}, "pairs.b.weight"),
        ({"pairs": {"b": pair(weight=float("nan"))}}, "pairs.b.weight"),
        ({"transform": "adaptive_max_pool"}, "transform"),
        ({"transform": {"kind": "adaptive_max_pool"}}, "transform"),
        ({"transform": {"side": "teacher"}}, "transform"),
        ({"transform": {**POOL, "module": nn.Linear(2, 2)}}, "transform"),
        ({"transform": {**POOL, "side": "both"}}, "transform.side"),
        ({"transform": {**POOL, "kind": "max_pool"}}, "transform.kind"),
        ({"transform": {**POOL, "kind": ["adaptive_max_pool"]}}, "transform.kind"),
        ({"transform": {"side": "student", "module": "fc"}}, "transform.module"),
        ({"transform": {"side": "student", "module": nn.Identity()}}, "transform.module"),
        ({"pairs": {"b": pair(transform={**POOL, "kind": 3})}}, "pairs.b.transform.kind"),
    ],
)
def test_a_malformed_argument_is_named_by_its_key_path(kwargs, where):
    with pytest.raises(PairError) as caught:
        ACMLoss(**{"pairs": {"b": pair()}, **kwargs})
    assert caught.value.where == where
    assert str(caught.value) == f"{where}: {caught.value.message}"


def test_tensors_in_place_of_what_is_hooked_are_told_where_to_go():
    loss = ACMLoss(
        {"only": {side: {"path": "m", "io": "output"} for side in ("teacher", "student")}}
    )
    with pytest.raises(TypeError, match=r"dictionaries .* of the teacher\. ACM takes"):
        loss(torch.rand(2, 3), torch.rand(2, 3))
