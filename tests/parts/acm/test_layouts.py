"""Layouts: channel maps of (N, H, W, C) and of tokens, as of the same numbers in (N, C, H, W)."""

import pytest
import torch
from torch import nn
from torchvision.models.convnext import LayerNorm2d

from architectures import (
    CONVNEXT,
    RESNET,
    SWIN,
    VIT,
    activation,
    tiny_convnext,
    tiny_resnet,
    tiny_swin,
    tiny_vit,
)
from mixacm_plugin import ACMLoss, acm_loss, channel_map
from mixacm_plugin.parts.acm.channel_maps import MAPPINGS
from mixacm_plugin.parts.acm.pairs import PairError
from mixacm_plugin.parts.models.layouts import told_layout

NCHW = torch.randn(2, 5, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TOKENS = NCHW.flatten(2).transpose(1, 2)
CLASS_TOKENS = torch.cat([torch.full((2, 2, 5), 99.0), TOKENS], 1)


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize(
    ("activation", "layout"),
    [
        (NCHW.movedim(1, -1), {"layout": "nhwc"}),
        (TOKENS, {"layout": "tokens"}),
        (CLASS_TOKENS, {"layout": "tokens", "prefix_tokens": 2}),
        (channel_map(NCHW), {"layout": "tokens"}),  # a channel map already
    ],
    ids=["nhwc", "tokens", "prefix", "map"],
)
def test_a_layout_gives_the_map_of_the_same_numbers(activation, layout, mapping):
    expected = channel_map(NCHW, mapping="mean" if activation.ndim == 2 else mapping)
    torch.testing.assert_close(channel_map(activation, mapping=mapping, **layout), expected)


@pytest.mark.parametrize(
    ("activation", "arguments", "words"),
    [
        (TOKENS, {}, r"needs \(N, C, H, W\), for the layout nchw.*found \(2, 12, 5\)"),
        (NCHW, {"layout": "tokens"}, r"needs \(N, L, C\)"),
        (TOKENS, {"layout": "nhwc"}, r"needs \(N, H, W, C\)"),
        (NCHW, {"layout": "chw"}, "layout must be one of nchw, nhwc, tokens; found 'chw'"),
        (TOKENS, {"layout": "tokens", "prefix_tokens": 12}, "prefix_tokens: .* found 12"),
        (TOKENS, {"layout": "tokens", "prefix_tokens": -1}, "prefix_tokens: .* found -1"),
        (NCHW, {"prefix_tokens": 1}, "prefix_tokens: "),
    ],
)
def test_another_shape_than_the_layouts_is_refused(activation, arguments, words):
    with pytest.raises(ValueError, match=words):
        channel_map(activation, **arguments)


@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (2, 9, 5), (5,)])
def test_the_loss_takes_channel_maps_alone(shape):
    raw = torch.rand(shape)
    with pytest.raises(ValueError, match=r"expected channel maps \(N, C\)"):
        acm_loss(raw, raw)


def hooked(activation):
    return {"m": {"output": activation}}


@pytest.mark.parametrize("place", ["pair", "side"])
def test_sides_of_a_pair_may_differ_in_layout(place):
    own = {"layout": "tokens", "prefix_tokens": 2}
    teacher, student = ({"path": "m", "io": "output"} for _ in range(2))
    pair = {"teacher": teacher, "student": {**student, **own}}
    if place == "pair":  # what a side says goes before
        pair = {**own, "teacher": {**teacher, "layout": "nchw", "prefix_tokens": 0}}
        pair["student"] = student
    loss = ACMLoss({"only": pair})
    assert loss(hooked(CLASS_TOKENS), hooked(2 * NCHW)).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"layout": "nwhc"}, "pairs.only.layout"),
        ({"layout": ["nhwc"]}, "pairs.only.layout"),
        ({"prefix_tokens": -1}, "pairs.only.prefix_tokens"),
        ({"prefix_tokens": True}, "pairs.only.prefix_tokens"),
        ({"call": "first"}, "pairs.only.call"),
        ({"weight": -1.0}, "pairs.only.weight"),
        ({"layuot": "nhwc"}, "pairs.only"),
        ({"student": {"path": "m", "io": "output", "layout": 3}}, "pairs.only.student.layout"),
        ({"student": {"path": "m", "io": "output", "lay": 3}}, "pairs.only.student"),
    ],
)
def test_a_pair_with_another_value_is_refused(change, where):
    ends = {side: {"path": "m", "io": "output"} for side in ("teacher", "student")}
    with pytest.raises(PairError) as error:
        ACMLoss({"only": {**ends, **change}})
    assert error.value.where == where


@pytest.mark.parametrize(
    ("make", "paths", "layout"),
    [
        (tiny_swin, SWIN, "nhwc"),
        (tiny_convnext, CONVNEXT, "nchw"),
        (tiny_vit, VIT, "tokens"),
        (tiny_resnet, RESNET, "nchw"),
    ],
)
def test_the_layout_of_torchvisions_models_is_told(make, paths, layout):
    torch.manual_seed(0)
    model = make()
    for path in paths:
        shape = activation(model, path, torch.rand(1, 3, 16, 16)).shape
        doubled = None
        if layout != "tokens":  # a ViT takes one size only
            doubled = activation(model, path, torch.rand(1, 3, 32, 32)).shape
        assert told_layout(model.get_submodule(path), shape, doubled) == layout


@pytest.mark.parametrize(
    ("module", "shape", "doubled", "layout"),
    [
        (nn.BatchNorm2d(8), (1, 8, 8, 8), None, "nchw"),
        (nn.LayerNorm(8), (1, 8, 8, 8), None, "nhwc"),
        (LayerNorm2d(8), (1, 8, 8, 8), None, "nchw"),
        (nn.Linear(8, 8), (1, 8, 8), None, "tokens"),
        (nn.Conv1d(8, 8, 1), (1, 8, 8), None, "ncl"),
        (nn.Identity(), (1, 8, 8, 8), None, None),
        (nn.Identity(), (1, 8, 4, 4), (1, 8, 8, 8), "nchw"),
        (nn.Identity(), (1, 4, 4, 8), (1, 8, 8, 8), "nhwc"),
        (nn.Identity(), (1, 16, 8), (1, 64, 8), "tokens"),
        (nn.Identity(), (1, 8, 16), (1, 8, 64), "ncl"),
        (nn.Identity(), (1, 8, 1, 1), (1, 8, 1, 1), "nchw"),
        (nn.Identity(), (1, 8), (1, 8), None),
        (nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 24)), (1, 9, 6), None, "tokens"),
    ],
)
def test_a_layout_is_told_by_the_module_or_by_two_sizes(module, shape, doubled, layout):
    assert told_layout(module, shape, doubled) == layout
