"""Hook points that are found by a pass: of models that no family knows."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
import yaml
from torch import nn

from architectures import Branches, tiny_convnext, tiny_swin, tiny_vit
from mixacm_plugin import ACMLoss, hook_points, hook_snippet
from weights import differing, state


class Plain(nn.Module):
    """Functions in place of modules, one module for several calls, a head that only trains."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.third = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.auxiliary = nn.Conv2d(16, 10, 1)
        self.shared, self.fc = nn.ReLU(), nn.Linear(16, 10)

    def forward(self, images):
        x = F.relu(self.first(images), inplace=True)
        x = self.shared(self.second(x))
        if self.training:
            return self.fc(x.mean((2, 3))), self.auxiliary(x)
        x = self.shared(self.norm(self.third(x)))
        return self.fc(x.mean((2, 3)))


class Isotropic(nn.Sequential):
    """Six residual blocks of one size, with a class token's place taken by nothing."""

    def __init__(self, widths=(8,) * 6):
        layers = []
        for number, width in enumerate(widths):
            before = widths[number - 1] if number else 8
            conv = nn.Conv2d(before, width, 3, padding=1)
            layers.append(nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU()))
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Sequential(*layers),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], 10),
        )


# How to build a model, an image's side, activated points and raw ones: path, or path and what
# differs from an output in the layout nchw.
MODELS = {
    "mobilenet_v3_small": (
        torchvision.models.mobilenet_v3_small,
        64,
        [
            "features.0",
            "features.1.block.1",
            "features.3.block.1",
            "features.8.block.2",
            "features",
        ],
        ["features.0.0", "features.1", "features.3", "features.8", "features"],
    ),
    "vit": (
        tiny_vit,
        16,
        [
            ("encoder.layers.encoder_layer_0.mlp.1", "output", "tokens", 1),
            ("encoder.layers.encoder_layer_1.mlp.1", "output", "tokens", 1),
        ],
        [
            ("encoder.layers.encoder_layer_0", "output", "tokens", 1),
            ("encoder.layers", "output", "tokens", 1),
        ],
    ),
    "swin": (
        tiny_swin,
        16,
        [("features.1.0.mlp.1", "output", "nhwc"), ("features.3.0.mlp.1", "output", "nhwc")],
        [("features.1", "output", "nhwc"), ("features", "output", "nhwc")],
    ),
    "convnext": (
        tiny_convnext,
        16,
        [("features.1.0.block.4", "output", "nhwc"), ("features.3.0.block.4", "output", "nhwc")],
        ["features.1", "features"],
    ),
    "own": (
        Plain,
        32,
        [("second", "input"), ("third", "input"), ("fc", "input")],
        [("second", "input"), "second", "third"],
    ),
    "one resolution": (Isotropic, 16, ["1.0", "1.1", "1.2", "1.4", "1"], None),
    "one resolution, several widths": (
        lambda: Isotropic((8, 8, 12, 12, 16, 16)),
        16,
        ["1.0", "1.1", "1.3", "1"],
        None,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_stem_and_stages_are_found(name):
    build, side, activated, raw = MODELS[name]
    points = hook_points(build(), (3, side, side))
    for expected, found in ((activated, points.activated), (raw, points.raw)):
        if expected is not None:
            whole = [(p, "output") if isinstance(p, str) else p for p in expected]
            whole = [(*p, *("nchw", 0)[len(p) - 2 :]) for p in whole]
            assert [tuple(point[:4]) for point in found] == whole


@pytest.mark.parametrize("name", MODELS)
def test_what_is_found_can_be_hooked_and_nothing_changes_it_later(name):
    build, side, *_ = MODELS[name]
    model = build().eval()
    points = hook_points(model, (3, side, side))
    for point in points.raw + points.activated:
        seen = []

        def note(module, args, output, point=point, seen=seen):
            tensor = args[0] if point.io == "input" else output
            seen.append((tensor, tensor.clone()))

        handle = model.get_submodule(point.path).register_forward_hook(note)
        with torch.no_grad():
            model(torch.rand(2, 3, side, side))
        handle.remove()
        ((tensor, before),) = seen
        assert torch.equal(tensor, before)
        assert tensor.shape[1:] == point.shape
        loss = ACMLoss({"only": {"teacher": point.end(), "student": point.end()}})
        assert loss.map_of(loss.ends["only"]["teacher"], tensor).shape == (2, point.channels)
        if point in points.activated:
            assert tensor.min() > -0.4


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_left_as_it_was(training):
    model = Plain().train(training)
    model.norm.eval()
    model.fc.weight.grad = torch.ones(10, 16)
    before, generator = state(model), torch.get_rng_state()
    modes = [module.training for module in model.modules()]
    hook_points(model)
    assert not differing(before, state(model))
    assert torch.equal(generator, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(model.fc.weight.grad, torch.ones(10, 16))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Branches(), "no hook points found in Branches"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), "no hook points found in Sequential"),
        (nn.Linear(1, 1), r"Linear doesn't take images of 3,32,32: .*--input-shape C,H,W"),
        (nn.Conv2d(3, 8, 3), r"a tensor of shape \(1, 8, 30, 30\); expected logits"),
    ],
    ids=["branches", "no features", "no images", "no logits"],
)
def test_what_has_no_hook_points_is_refused_in_a_line(model, words):
    with pytest.raises(ValueError, match=words) as refused:
        hook_points(model)
    assert "\n" not in str(refused.value)


def test_the_snippet_has_layouts_a_transform_where_widths_differ_and_paths_that_are_text():
    shape = (3, 16, 16)
    train = yaml.safe_load(hook_snippet(Isotropic(), tiny_vit(), input_shape=shape))
    kwargs = train["criterion"]["kwargs"]["sub_terms"]["acm"]["criterion"]["kwargs"]
    assert kwargs["transform"] == {"side": "teacher", "kind": "adaptive_max_pool"}
    assert kwargs["pairs"]["block2"] == {
        "teacher": {"path": "1", "io": "output"},
        "student": {
            "path": "encoder.layers.encoder_layer_1.mlp.1",
            "io": "output",
            "layout": "tokens",
            "prefix_tokens": 1,
        },
    }
    assert train["teacher"]["forward_hook"] == {"output": ["1.4", "1"]}
    alike = yaml.safe_load(hook_snippet(Isotropic(), Isotropic(), input_shape=shape))
    assert (
        "transform" not in alike["criterion"]["kwargs"]["sub_terms"]["acm"]["criterion"]["kwargs"]
    )


class By(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


ACTIVATIONS = {
    "relu in place": lambda x: x.relu_(),
    "relu6": F.relu6,
    "leaky relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu by hand": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "swish by hand": lambda x: x * torch.sigmoid(x),
    "hardswish by hand": lambda x: x * F.relu6(x + 3) / 6,
    "mish": F.mish,
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "squared relu": lambda x: F.relu(x) ** 2,
    "a part of it": lambda x: x.clamp(min=0),
    "shuffled": lambda x: F.relu(x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_known_by_what_it_does(name):
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), By(ACTIVATIONS[name])]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
    (activated,) = hook_points(nn.Sequential(*layers, *head)).activated
    assert (activated.path, activated.io, activated.channels) == ("2", "output", 8)


def test_a_gate_and_a_sum_are_no_activations():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.gate, self.norm = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Identity()
            self.fc = nn.Linear(8, 10)

        def forward(self, images):
            x = self.conv(images)
            x = x + x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
            return self.fc(self.norm(x).mean((2, 3)))

    points = hook_points(Gated())
    assert points.raw == points.activated  # since there is none
