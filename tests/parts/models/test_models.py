"""Models: the published WideResNet layout, and normalisation inside any model."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchdistill.models import registry
from torchdistill.models.registry import get_model

from mixacm_plugin import dm_wide_resnet, normalize_inside, normalized
from mixacm_plugin.parts.models.normalization import CIFAR10_MEAN, CIFAR10_STD
from recipes import mixacm, run, write

ACTIVATIONS = {"swish": lambda x: x * torch.sigmoid(x), "relu": lambda x: x.clamp_min(0)}


def batchnorm_shapes(name, channels):
    return {
        f"{name}.weight": (channels,),
        f"{name}.bias": (channels,),
        f"{name}.running_mean": (channels,),
        f"{name}.running_var": (channels,),
        f"{name}.num_batches_tracked": (),
    }


def published_shapes(depth, width, classes):
    """State dict of Gowal et al.'s release: name to shape."""
    shapes = {"init_conv.weight": (16, 3, 3, 3)}
    before = 16
    for group, channels in enumerate((16 * width, 32 * width, 64 * width)):
        for index in range((depth - 4) // 6):
            block = f"layer.{group}.block.{index}"
            shapes |= batchnorm_shapes(f"{block}.batchnorm_0", before)
            shapes[f"{block}.conv_0.weight"] = (channels, before, 3, 3)
            shapes |= batchnorm_shapes(f"{block}.batchnorm_1", channels)
            shapes[f"{block}.conv_1.weight"] = (channels, channels, 3, 3)
            if before != channels:
                shapes[f"{block}.shortcut.weight"] = (channels, before, 1, 1)
            before = channels
    shapes |= batchnorm_shapes("batchnorm", before)
    return shapes | {"logits.weight": (classes, before), "logits.bias": (classes,)}


def same(size, stride):
    """TensorFlow's SAME padding for a kernel of 3, before and after; for even halving (0, 1)."""
    total = max(0, (-(-size // stride) - 1) * stride + 3 - size)
    return total // 2, total - total // 2


def published_forward(state, images, depth, activation):
    """Logits by that layout, in eval mode, from the state dict alone."""
    act = ACTIVATIONS[activation]

    def normed(x, name):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.batch_norm(x, mean, var, weight, bias, eps=1e-5)

    x = torch.stack([(images[:, c] - CIFAR10_MEAN[c]) / CIFAR10_STD[c] for c in range(3)], dim=1)
    x = F.conv2d(x, state["init_conv.weight"], padding=1)
    for group in range(3):
        for index in range((depth - 4) // 6):
            block = f"layer.{group}.block.{index}"
            stride = 2 if group > 0 and index == 0 else 1
            activated = act(normed(x, f"{block}.batchnorm_0"))
            padded = F.pad(activated, (*same(x.shape[3], stride), *same(x.shape[2], stride)))
            out = F.conv2d(padded, state[f"{block}.conv_0.weight"], stride=stride)
            out = act(normed(out, f"{block}.batchnorm_1"))
            out = F.conv2d(out, state[f"{block}.conv_1.weight"], padding=1)
            if f"{block}.shortcut.weight" in state:
                x = F.conv2d(activated, state[f"{block}.shortcut.weight"], stride=stride)
            x = x + out
    features = act(normed(x, "batchnorm")).mean((2, 3))
    return features @ state["logits.weight"].T + state["logits.bias"]


def randomised(model):
    """Give BatchNorm statistics and parameters that show."""
    for name, value in model.state_dict().items():
        if "running" in name or "batchnorm" in name or "bn" in name:
            value.copy_(torch.rand(value.shape) + 0.5)
    return model.eval()


@pytest.mark.parametrize(("depth", "width", "classes"), [(10, 1, 10), (16, 2, 7), (28, 10, 10)])
def test_dm_wide_resnet_has_the_published_parameters_and_no_others(depth, width, classes):
    with torch.device("meta"):
        state = dm_wide_resnet(depth, width, classes).state_dict()
    expected = published_shapes(depth, width, classes)
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


def assert_as_published(size, depth, width, activation="swish"):
    model = randomised(dm_wide_resnet(depth, width, activation=activation).double())
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    expected = published_forward(model.state_dict(), images, depth, activation)
    # The constants of normalisation are float32's.
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 2)])
def test_dm_wide_resnet_computes_what_was_published(depth, width, activation):
    assert_as_published((8, 8), depth, width, activation)


@pytest.mark.parametrize("size", [(4, 4), (16, 12), (5, 5), (6, 7), (33, 4)])
def test_dm_wide_resnet_takes_images_of_any_size_from_4_pixels(size):
    assert_as_published(size, 10, 1)


def test_the_activated_outputs_of_the_papers_blocks_are_modules():
    model = dm_wide_resnet(16, 2)
    shapes, order = {}, [f"layer.{group}.block.0.relu_0" for group in range(3)] + ["relu"]
    for path in order:
        model.get_submodule(path).register_forward_hook(
            lambda module, args, output, path=path: shapes.update({path: tuple(output.shape[1:])})
        )
    model(torch.rand(1, 3, 32, 32))
    assert list(shapes.items()) == list(
        zip(order, [(16, 32, 32), (32, 32, 32), (64, 16, 16), (128, 8, 8)], strict=True)
    )


def parameters(depth, width):
    with torch.device("meta"):
        return sum(p.numel() for p in dm_wide_resnet(depth, width).parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("student", "ratio"),
    [
        *(("28-10", "100"), ("28-5", "25.04"), ("28-1", "1.01")),
        *(("22-10", "73.5"), ("22-5", "18.40"), ("22-1", "0.75")),
        *(("16-10", "46.92"), ("16-5", "11.76"), ("16-1", "0.48")),
        *(("10-10", "20.38"), ("10-5", "5.12"), ("10-1", "0.21")),
    ],
)
def test_students_have_the_size_ratios_of_the_papers_table_10(student, ratio):
    percent = 100 * parameters(*map(int, student.split("-"))) / parameters(28, 10)
    assert f"{percent:.{len(ratio.partition('.')[2])}f}" == ratio


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        *(({"depth": 4}, "depth"), ({"depth": 12}, "depth"), ({"depth": -2}, "depth")),
        *(({"width": 0}, "width"), ({"width": -1}, "width")),
        *(({"activation": "gelu"}, "activation"), ({"activation": None}, "activation")),
    ],
)
def test_an_invalid_argument_of_the_model_is_refused_by_name(wrong, named):
    with pytest.raises(ValueError, match=f"^dm_wide_resnet: {named} must be"):
        dm_wide_resnet(**wrong)


MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
WRN = {
    "depth": 10,
    "k": 1,
    "dropout_p": 0.0,
    "num_classes": 10,
    "pretrained": False,
    "progress": False,
}
PLAIN = {
    "wide_resnet": (WRN, lambda **kwargs: get_model("wide_resnet", None, **kwargs)),
    "resnet18": ({"num_classes": 10}, torchvision.models.resnet18),
}


@pytest.fixture(params=PLAIN)
def both(request):
    """The same weights as a plain model and with normalisation inside, in eval mode."""
    kwargs, build = PLAIN[request.param]
    plain = randomised(build(**kwargs))
    model = get_model("normalized", model=request.param, model_kwargs=kwargs, mean=MEAN, std=STD)
    model.load_state_dict(plain.state_dict(), strict=True)
    return plain, model.eval()


def normalised(images):
    return torch.stack([(images[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)


def test_normalisation_inside_leaves_names_and_paths_as_they_were(both):
    plain, model = both
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in model.named_modules()] == [
        name for name, _ in plain.named_modules()
    ]
    assert type(model) is type(plain)


def test_normalisation_inside_equals_normalised_images(both):
    plain, model = both
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(model(images), plain(normalised(images)))


def test_normalisation_follows_copies_and_conversions(both):
    plain, model = both
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    copied = copy.deepcopy(model).to(torch.float64)
    model.normalization_mean.fill_(7)  # the original's, not the copy's
    expected = plain.double()(normalised(images))
    torch.testing.assert_close(copied(images), expected, rtol=1e-5, atol=1e-6)


def test_normalisation_by_default_is_that_of_cifar10():
    model = normalized("wide_resnet", WRN)
    assert model.normalization_mean.flatten().tolist() == pytest.approx(CIFAR10_MEAN)
    assert model.normalization_std.flatten().tolist() == pytest.approx(CIFAR10_STD)


def test_a_model_that_normalises_already_is_refused():
    with pytest.raises(ValueError, match="normalis"):
        normalized("dm_wide_resnet", {"depth": 10, "width": 1})


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.5, 0.5, 0.5), (0.5,)),
        ((0.5,), (0.5, 0.5, 0.5)),
        ((0.5, 0.5, 0.5), (0.5, 0.0, 0.5)),
        ((0.5, 0.5, 0.5), (0.5, -0.1, 0.5)),
        ((0.5, 0.5, 0.5), (0.5, float("nan"), 0.5)),
    ],
)
def test_an_impossible_normalisation_is_refused(mean, std):
    with pytest.raises(ValueError, match="as many positive std as mean"):
        normalize_inside(torch.nn.Identity(), mean, std)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ((125, 123, 114), (63, 62, 66), "mean is in pixels of .*: divide it and std by 255"),
        (0.5, 0.5, "mean: expected a number for each channel; found 0.5"),
    ],
)
def test_a_normalisation_of_another_unit_is_refused(mean, std, words):
    with pytest.raises(ValueError, match=words):
        normalize_inside(torch.nn.Identity(), mean, std)


HIDDEN = "by the name {0} torchdistill takes what torchvision.models has, not "


@pytest.fixture
def own_resnet(monkeypatch):
    monkeypatch.setitem(registry.MODEL_DICT, "resnet18", lambda **kwargs: nn.Linear(1, 1))


@pytest.mark.parametrize(
    "section",
    [
        "key: resnet18\n    kwargs: {num_classes: 10}",
        "key: normalized\n    kwargs: {model: resnet18, model_kwargs: {num_classes: 10}}",
        "key: resnet50\n    repo_or_dir: them/theirs\n    kwargs: {num_classes: 10}",
    ],
)
@pytest.mark.usefixtures("own_resnet")
def test_a_recipes_model_that_torchvisions_hides_is_refused(capsys, section):
    own = "key: dm_wide_resnet\n    kwargs: {depth: 10, width: 1, num_classes: 10}"
    text = mixacm().replace(own, section, 1)
    assert section in text
    write(text)
    for command in (("torchdistill", "--config"), ("main", "check")):
        assert run(*command, "recipe.yaml", "--device", "cpu") == 2
        key = "resnet50" if "them" in section else "resnet18"
        expected = f"models.teacher_model.key: {HIDDEN.format(key)}"
        assert expected in capsys.readouterr().err


@pytest.mark.usefixtures("own_resnet")
def test_a_flags_model_that_torchvisions_hides_is_refused(capsys):
    assert run("main", "hooks", "resnet18") == 2
    error = capsys.readouterr().err
    assert f"MODEL: {HIDDEN.format('resnet18')}the model that {__name__} registers" in error
    assert "@register_model(key='my_resnet18')" in error
    assert run("main", "hooks", "densenet") == 2
    assert "take a model of another name" in capsys.readouterr().err
