"""Hook points of every residual block: each is the tensor that a hand computation gives."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
import yaml
from torchdistill.models.registry import get_model

from mixacm_plugin import (
    ACM,
    dm_wide_resnet,
    hendrycks_wide_resnet,
    hook_points,
    hook_snippet,
    normalize_inside,
)
from mixacm_plugin.parts.models.hook_points import pair_points

HOST = {"num_classes": 10, "pretrained": False, "progress": False}
HALF = (0.5, 0.5, 0.5)


def grid(text, stages=(0, 1, 2)):
    """Paths of two blocks a stage."""
    return [text.format(stage, block) for stage in stages for block in (0, 1)]


def pre_activated(stem, blocks, norm, last):
    """What the stem and each block return, and the norm before the next block's activation."""
    return [stem, *blocks], [*(f"{block}.{norm}" for block in blocks), last]


# How to build a model, what its blocks are, and by which BatchNorm each is activated; None where
# what a block returns is activated already.
MODELS = {
    "dm_wide_resnet": (
        lambda: dm_wide_resnet(16, 2, activation="relu"),
        pre_activated("init_conv", grid("layer.{}.block.{}"), "batchnorm_0", "batchnorm"),
    ),
    "hendrycks_wide_resnet": (
        lambda: hendrycks_wide_resnet(16, 2),
        pre_activated("conv1", grid("block{}.layer.{}", (1, 2, 3)), "bn1", "bn1"),
    ),
    "wide_resnet": (
        lambda: get_model("wide_resnet", depth=16, k=2, dropout_p=0.0, **HOST),
        pre_activated("conv1", grid("layer{}.{}", (1, 2, 3)), "bn1", "bn1"),
    ),
    "wide_resnet, normalised inside": (
        lambda: normalize_inside(
            get_model("wide_resnet", depth=16, k=1, dropout_p=0.0, **HOST), HALF, HALF
        ),
        pre_activated("conv1", grid("layer{}.{}", (1, 2, 3)), "bn1", "bn1"),
    ),
    "resnet": (
        lambda: get_model("resnet", depth=14, **HOST),
        (["conv1", *grid("layer{}.{}", (1, 2, 3))], ["bn1", *[None] * 6]),
    ),
    "resnet18": (
        lambda: torchvision.models.resnet18(num_classes=10),
        (["conv1", *grid("layer{}.{}", (1, 2, 3, 4))], ["bn1", *[None] * 8]),
    ),
}


def outputs(model, points, images):
    """What is hooked, as the loss finds it after the pass."""
    found = [None] * len(points)
    for index, (path, io) in enumerate(points):

        def hook(module, args, output, index=index, io=io):
            found[index] = args[0] if io == "input" else output

        model.get_submodule(path).register_forward_hook(hook)
    with torch.no_grad():
        model(images)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_every_residual_block_of_a_family_is_hooked(name):
    build, (blocks, norms) = MODELS[name]
    model = build().eval()
    points = hook_points(model, per="block")
    assert len(points.raw) == len(points.activated) == len(blocks)
    assert points.family == hook_points(model).family
    ends = [(p.path, p.io) for p in points.raw + points.activated]
    tensors = outputs(
        model, [*ends, *((path, "output") for path in blocks)], torch.rand(2, 3, 32, 32)
    )
    raw, activated, expected = (tensors[i * len(blocks) : (i + 1) * len(blocks)] for i in range(3))
    for one, other, active, norm in zip(expected, raw, activated, norms, strict=True):
        assert torch.equal(one, other)
        by_hand = one if norm is None else F.relu(model.get_submodule(norm)(one))
        torch.testing.assert_close(active, by_hand)


@pytest.mark.parametrize("name", MODELS)
def test_the_stages_points_are_among_those_of_the_blocks(name):
    model = MODELS[name][0]()
    stages, blocks = hook_points(model), hook_points(model, per="block")
    last = [points[-1].shape for points in blocks.by_stage()]
    assert last == [points[-1].shape for points in stages.by_stage()]
    assert blocks.stages == tuple(sorted(blocks.stages))


@pytest.mark.parametrize(
    ("model", "count"),
    [
        ("vgg11", 5),  # which has none
        ("mobilenet_v2", 13),  # the stem, ten residual blocks, and two stages' ends
        ("shufflenet_v2_x0_5", 18),  # where branches are put side by side
    ],
)
def test_a_stage_without_residual_blocks_counts_as_one(model, count):
    built = torchvision.models.get_model(model, num_classes=10)
    assert len(hook_points(built, (3, 64, 64), per="block").raw) == count


def test_a_wide_resnet_16_2_has_seven_pairs():
    model = dm_wide_resnet(16, 2)
    kwargs = yaml.safe_load(hook_snippet(model, model, per="block"))["criterion"]["kwargs"]
    pairs = kwargs["sub_terms"]["acm"]["criterion"]["kwargs"]["pairs"]
    assert list(pairs) == [f"block{number}" for number in range(1, 8)]
    assert len(ACM(model, dm_wide_resnet(16, 2), per="block").loss.pairs) == 7


def test_blocks_of_a_deeper_stage_are_paired_at_even_depth():
    deep, shallow = (get_model("resnet", depth=depth, **HOST) for depth in (32, 20))
    taken = [f"layer{stage}{block}" for stage in (1, 2, 3) for block in (".1", ".3", "")]
    every = [f"layer{stage}{block}" for stage in (1, 2, 3) for block in (".0", ".1", "")]
    pairs = [(t.path, s.path) for _, t, s in pair_points(deep, shallow, per="block")]
    assert pairs == [("relu", "relu"), *zip(taken, every, strict=True)]
    pairs = [(t.path, s.path) for _, t, s in pair_points(shallow, deep, per="block")]
    assert pairs == [("relu", "relu"), *zip(every, taken, strict=True)]


def test_models_with_other_numbers_of_stages_are_paired_from_the_last_one_backwards():
    teacher, student = torchvision.models.resnet18(num_classes=10), dm_wide_resnet(16, 1)
    pairs = [(t.path, s.path) for _, t, s in pair_points(teacher, student, per="block")]
    assert len(pairs) == 7
    assert pairs[0] == ("layer1", "layer.0.block.0.relu_0")
    assert pairs[-1] == ("layer4", "relu")


def test_another_kind_of_point_is_refused():
    with pytest.raises(ValueError, match=r"per must be one of stage, block; got 'layer'"):
        hook_points(dm_wide_resnet(10, 1), per="layer")
