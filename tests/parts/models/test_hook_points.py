"""Hook points: each is the tensor that a hand computation gives, for every family of models."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
import yaml
from torchdistill.models.registry import get_model
from torchvision.models.resnet import BasicBlock, ResNet

from mixacm_plugin import (
    dm_wide_resnet,
    hendrycks_wide_resnet,
    hook_points,
    hook_snippet,
    normalize_inside,
)
from mixacm_plugin.parts.models.hook_points import pair_points
from mixacm_plugin.parts.models.hooks.families import FAMILIES
from mixacm_plugin.parts.models.hooks.finder import find_hook_points
from mixacm_plugin.parts.models.published import architecture_of

HALF = (0.5, 0.5, 0.5)


def densenet(bottleneck=True):
    return get_model(
        "densenet",
        growth_rate=4,
        depth=16,
        num_init_features=8,
        bottleneck=bottleneck,
        num_classes=10,
        pretrained=False,
        progress=False,
    )


def wide_resnet(k=1):
    return get_model(
        "wide_resnet",
        depth=10,
        k=k,
        dropout_p=0.3,
        num_classes=10,
        pretrained=False,
        progress=False,
    )


def cifar_resnet():
    return get_model("resnet", depth=8, num_classes=10, pretrained=False, progress=False)


# How to build a model, then for each block how its activated output follows from the raw one: by
# the BatchNorm at this path, "pooled" over positions where the path ends in +; None where the raw
# output is activated already.
MODELS = {
    "dm_wide_resnet": (
        lambda: dm_wide_resnet(10, 2, activation="relu"),
        [*(f"layer.{group}.block.0.batchnorm_0" for group in range(3)), "batchnorm"],
    ),
    "dm_wide_resnet, swish": (
        lambda: dm_wide_resnet(16, 1),
        [*(f"layer.{group}.block.0.batchnorm_0" for group in range(3)), "batchnorm"],
    ),
    "hendrycks_wide_resnet": (
        lambda: hendrycks_wide_resnet(10, 2),
        [*(f"block{block}.layer.0.bn1" for block in (1, 2, 3)), "bn1"],
    ),
    "hendrycks_wide_resnet, width 1": (
        lambda: hendrycks_wide_resnet(16, 1),
        [*(f"block{block}.layer.0.bn1" for block in (1, 2, 3)), "bn1"],
    ),
    "wide_resnet": (wide_resnet, [*(f"layer{stage}.0.bn1" for stage in (1, 2, 3)), "bn1"]),
    "wide_resnet, normalised inside": (
        lambda: normalize_inside(wide_resnet(2), HALF, HALF),
        [*(f"layer{stage}.0.bn1" for stage in (1, 2, 3)), "bn1"],
    ),
    "resnet": (cifar_resnet, ["bn1", None, None, None]),
    "densenet": (
        densenet,
        [
            "features.denseblock1.denselayer1.norm1",
            "features.transition1.norm",
            "features.transition2.norm",
            "features.norm5+",
        ],
    ),
    "resnet18": (
        lambda: torchvision.models.resnet18(num_classes=10),
        ["bn1", None, None, None, None],
    ),
    "resnet50, normalised inside": (
        lambda: normalize_inside(torchvision.models.resnet50(num_classes=10), HALF, HALF),
        ["bn1", None, None, None, None],
    ),
}


def built(name):
    """A model whose BatchNorms do something, in eval mode."""
    model = MODELS[name][0]()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value in (module.weight.data, module.running_var):
                value.copy_(torch.rand(value.shape) + 0.5)
            for value in (module.bias.data, module.running_mean):
                value.copy_(torch.randn(value.shape) / 5)
    return model.eval()


def hooked(model, points, images):
    """The tensors at hook points: as the loss finds them after the pass, and as they were."""
    after, before = [None] * len(points), [None] * len(points)
    for index, (path, io, *_) in enumerate(points):

        def hook(module, args, output, index=index, io=io):
            after[index] = args[0] if io == "input" else output
            before[index] = after[index].clone()

        model.get_submodule(path).register_forward_hook(hook)
    with torch.no_grad():
        model(images)
    return after, before


@pytest.mark.parametrize("name", MODELS)
def test_a_hook_point_is_the_activation_that_a_hand_computation_gives(name):
    model = built(name)
    points = hook_points(model)
    size = 64 if name.startswith("resnet18") or name.startswith("resnet50") else 32
    tensors, untouched = hooked(model, points.raw + points.activated, torch.rand(2, 3, size, size))
    for tensor, before in zip(tensors, untouched, strict=True):
        assert torch.equal(tensor, before)  # nothing has changed it in place since
    raw, activated = tensors[: len(points.raw)], tensors[len(points.raw) :]
    activation = F.silu if "swish" in name else F.relu
    for before, after, norm in zip(raw, activated, MODELS[name][1], strict=True):
        expected = before
        if norm is not None:
            expected = activation(model.get_submodule(norm.rstrip("+"))(before))
        if norm is not None and norm.endswith("+"):
            expected = expected.mean((2, 3))
        torch.testing.assert_close(after, expected)
        assert "swish" in name or (after >= 0).all()
        assert before.shape[1] == after.shape[1]


@pytest.mark.parametrize("name", MODELS)
def test_blocks_are_the_first_layer_and_then_ever_smaller_maps(name):
    model = built(name)
    images = torch.rand(1, 3, 64, 64) if name.startswith("resnet") else torch.rand(1, 3, 32, 32)
    if name == "resnet":
        images = images[..., :32, :32]
    shapes = [tensor.shape for tensor in hooked(model, hook_points(model).raw, images)[0]]
    sizes = [shape[-1] for shape in shapes]
    assert sizes == sorted(sizes, reverse=True)
    assert len(shapes) == (5 if name.startswith(("resnet18", "resnet50")) else 4)
    assert next(iter(model.parameters())).shape[0] == shapes[0][1]


def test_every_family_is_tested():
    assert {type(MODELS[name][0]()) for name in MODELS} == set(FAMILIES)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_found_in_a_known_family_is_what_is_known(name):
    model = built(name)
    known, found = hook_points(model), find_hook_points(model)
    for activated in (True, False):
        points = known.blocks(activated=activated), found.blocks(activated=activated)
        tensors = hooked(model, points[0] + points[1], torch.rand(1, 3, 32, 32))[0]
        count = len(points[0])
        assert len(points[1]) == count
        for one, other in zip(tensors[:count], tensors[count:], strict=True):
            assert one.data_ptr() == other.data_ptr()
        assert [p[2:] for p in points[0]] == [p[2:] for p in points[1]]  # layouts and shapes


def test_models_of_different_depth_are_paired_from_the_last_block_backwards():
    teacher, student = torchvision.models.resnet18(num_classes=10), dm_wide_resnet(10, 1)
    assert [(name, t.path, s.path) for name, t, s in pair_points(teacher, student)] == [
        ("block1", "layer1", "layer.0.block.0.relu_0"),
        ("block2", "layer2", "layer.1.block.0.relu_0"),
        ("block3", "layer3", "layer.2.block.0.relu_0"),
        ("block4", "layer4", "relu"),
    ]


@pytest.mark.parametrize("activated", [True, False])
def test_the_snippet_is_yaml_whose_pairs_are_hooked(activated):
    teacher, student = wide_resnet(), dm_wide_resnet(10, 1)
    train = yaml.safe_load(hook_snippet(teacher, student, activated=activated, weight=7.0))
    term = train["criterion"]["kwargs"]["sub_terms"]["acm"]
    assert term["weight"] == 7.0
    pairs = term["criterion"]["kwargs"]["pairs"]
    assert list(pairs) == ["block1", "block2", "block3", "block4"]
    for side, model in (("teacher", teacher), ("student", student)):
        points = hook_points(model).blocks(activated=activated)
        assert [p[side] for p in pairs.values()] == [point.end() for point in points]
        for path, io, *_ in points:
            assert path in train[side]["forward_hook"][io]


@pytest.mark.parametrize("name", MODELS)
def test_the_layout_of_every_family_is_recognised(name):
    layout = architecture_of(MODELS[name][0]().state_dict())
    assert name.split(",")[0].rstrip("0158") in layout.lower()


@pytest.mark.parametrize(("width", "weight"), [(1, 200.0), (2, 200.0), (10, 2000.0)])
def test_the_suggested_weight_fits_the_students_channels(width, weight):
    snippet = yaml.safe_load(hook_snippet(dm_wide_resnet(10, 1), dm_wide_resnet(10, width)))
    assert snippet["criterion"]["kwargs"]["sub_terms"]["acm"]["weight"] == weight


class Shallower(ResNet):
    """A model of a known family that leaves out the family's last stage."""

    def forward(self, images):
        seen = self.relu(self.bn1(self.conv1(images)))
        seen = self.layer3(self.layer2(self.layer1(seen)))
        return self.fc(self.avgpool(seen).flatten(1))


def test_points_are_found_where_a_model_leaves_out_a_part_of_its_familys():
    model = Shallower(BasicBlock, [1, 1, 1, 1])
    model.fc = torch.nn.Linear(256, 10)
    points = hook_points(model).raw
    assert [point.path for point in points[1:]] == ["layer1", "layer2", "layer3"]


@pytest.mark.parametrize("model", ["resnet18", torchvision.models.resnet18, None])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module; found"):
        hook_points(model)


@pytest.mark.parametrize(
    "shape", ["3,32,32", (3, 32), 32, None, (3.0, 32, 32), (3, -1, 4), (0, 8, 8), (1, 3, 32, 32)]
)
def test_what_is_no_shape_of_an_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"input_shape must be three whole numbers of at least 1"):
        hook_points(dm_wide_resnet(10, 1), shape)
