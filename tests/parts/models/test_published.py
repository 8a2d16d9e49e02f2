"""Published checkpoint files, rebuilt from their key and shape lists: loaded, or refused.

The lists follow the published code: Gowal et al., github.com/deepmind/deepmind-research,
adversarial_robustness/pytorch/model_zoo.py; Hendrycks et al., github.com/hendrycks/pre-training,
robustness/adversarial/models/wrn.py; Salman et al.: torchvision's ResNet-50 inside AttackerModel,
github.com/MadryLab/robustness, robustness/attacker.py, saved by robustness/train.py there.
"""

import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torchdistill.models.registry import get_model

from hostile import Code
from mixacm_plugin import dm_wide_resnet, hendrycks_wide_resnet, load_published, normalized
from mixacm_plugin.common.checkpoints import CheckpointError
from mixacm_plugin.common.state_dicts import without_prefixes
from mixacm_plugin.parts.models.published import architecture_of
from mixacm_plugin.parts.models.teachers import IMAGENET_MEAN, IMAGENET_STD

FEW = {"num_classes": 10}


def batchnorm(name, channels, counter=True):
    shapes = {
        f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")
    }
    return shapes | ({f"{name}.num_batches_tracked": ()} if counter else {})


def gowal_keys(depth, width, classes=10, counter=True):
    shapes, before = {"init_conv.weight": (16, 3, 3, 3)}, 16
    for group, channels in enumerate((16 * width, 32 * width, 64 * width)):
        for index in range((depth - 4) // 6):
            block = f"layer.{group}.block.{index}"
            shapes |= batchnorm(f"{block}.batchnorm_0", before, counter)
            shapes[f"{block}.conv_0.weight"] = (channels, before, 3, 3)
            shapes |= batchnorm(f"{block}.batchnorm_1", channels, counter)
            shapes[f"{block}.conv_1.weight"] = (channels, channels, 3, 3)
            if before != channels:
                shapes[f"{block}.shortcut.weight"] = (channels, before, 1, 1)
            before = channels
    shapes |= batchnorm("batchnorm", before, counter)
    return shapes | {"logits.weight": (classes, before), "logits.bias": (classes,)}


def hendrycks_keys(depth, width, classes=10, counter=True):
    shapes, before = {"conv1.weight": (16, 3, 3, 3)}, 16
    for group, channels in enumerate((16 * width, 32 * width, 64 * width), start=1):
        for index in range((depth - 4) // 6):
            block = f"block{group}.layer.{index}"
            shapes |= batchnorm(f"{block}.bn1", before, counter)
            shapes[f"{block}.conv1.weight"] = (channels, before, 3, 3)
            shapes |= batchnorm(f"{block}.bn2", channels, counter)
            shapes[f"{block}.conv2.weight"] = (channels, channels, 3, 3)
            if before != channels:
                shapes[f"{block}.convShortcut.weight"] = (channels, before, 1, 1)
            before = channels
    shapes |= batchnorm("bn1", before, counter)
    return shapes | {"fc.weight": (classes, before), "fc.bias": (classes,)}


def weights(shapes):
    """Tensors of these shapes; a count of them all is one number, so that files stay small."""
    state = {}
    for index, (name, shape) in enumerate(shapes.items()):
        kind = torch.int64 if name.endswith("tracked") else torch.float32
        state[name] = torch.full((), index % 7 + 1, dtype=kind).expand(shape)
    return state


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def resnet_state():
    return torchvision.models.resnet18(**FEW).state_dict()


def madry(state, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    """A file of MadryLab's library: model and normaliser, both twice, and an optimiser's state."""
    numbers = {
        "new_mean": torch.tensor(mean).view(3, 1, 1),
        "new_std": torch.tensor(std).view(3, 1, 1),
    }
    whole = {
        **prefixed(numbers, "module.normalizer."),
        **prefixed(state, "module.model."),
        **prefixed(numbers, "module.attacker.normalize."),
        **prefixed(state, "module.attacker.model."),
    }
    momentum = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    return {"model": whole, "optimizer": momentum, "schedule": None, "epoch": 90, "amp": None}


def robust_resnet(**changes):
    return normalized("resnet18", FEW, **{"mean": IMAGENET_MEAN, "std": IMAGENET_STD, **changes})


def file(content):
    torch.save(content, "published.pt")
    return "published.pt"


@pytest.mark.filterwarnings("ignore:.*which is a no-op")  # meta tensors, in place of gigabytes
@pytest.mark.parametrize(
    ("build", "keys", "size"),
    [
        (dm_wide_resnet, gowal_keys, (28, 10, 10)),
        pytest.param(dm_wide_resnet, gowal_keys, (34, 20, 10), marks=pytest.mark.slow),
        (hendrycks_wide_resnet, hendrycks_keys, (28, 10, 10)),
        (hendrycks_wide_resnet, hendrycks_keys, (28, 10, 1000)),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("counter", [True, False], ids=["", "before torch 0.4.1"])
def test_a_published_wide_resnet_loads_as_it_is(build, keys, size, prefix, counter):
    with torch.device("meta"):
        model = build(*size)
    load_published(model, file(prefixed(weights(keys(*size, counter=counter)), prefix)))
    found = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert found == keys(*size)


PLAIN = hendrycks_wide_resnet(10, 1).state_dict()
SCALED = {"mu": torch.full((1, 3, 1, 1), 0.5), "sigma": torch.full((1, 3, 1, 1), 0.5)}


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        prefixed(PLAIN, "module."),
        prefixed(PLAIN, "module.model."),
        {"state_dict": prefixed(PLAIN, "module."), "optimizer": {"state": {}}, "epoch": 7},
        {"model_state_dict": PLAIN, "best": 0.5},
        {"model": {"state_dict": PLAIN}},
        {**SCALED, **PLAIN},
        {**prefixed(SCALED, "module."), **prefixed(PLAIN, "module.")},
        {"normalize.mean": torch.full((3,), 0.5), **prefixed(PLAIN, "model.")},
    ],
)
def test_every_wrapping_of_a_state_dict_is_taken_off(content):
    model = hendrycks_wide_resnet(10, 1)
    load_published(model, file(content))
    for name, value in model.state_dict().items():
        assert torch.equal(value, PLAIN[name]), name


def test_a_file_of_madrylabs_library_loads_without_its_second_copy():
    state = resnet_state()
    second = {name: value + 1 for name, value in state.items()}
    content = madry(state)
    content["model"].update(prefixed(second, "module.attacker.model."))
    model = robust_resnet()
    load_published(model, file(content))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_layer_that_is_called_like_a_prefix_stays():
    state = {"model.weight": torch.zeros(1), "head.weight": torch.zeros(1)}
    assert list(without_prefixes(prefixed(state, "module."), state)) == list(state)


WIDE = {"depth": 10, "k": 1, "dropout_p": 0.0, "pretrained": False, "progress": False}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        # Another layout, by name
        (
            weights(gowal_keys(34, 20)),
            "expects 'conv1.weight' where the file has 'init_conv.weight' (39 missing and 191 "
            "unexpected keys); the file is in the layout of Gowal et al.'s WideResNet-34-20 "
            "(dm_wide_resnet)",
        ),
        (madry(resnet_state()), "layout of torchvision's ResNet"),
        (
            get_model("wide_resnet", **WIDE, **FEW).state_dict(),
            "layout of torchdistill's WideResNet-10-1 for CIFAR (wide_resnet)",
        ),
        # The same layout in another size
        (
            weights(hendrycks_keys(28, 10)),
            "doesn't fit Hendrycks et al.'s WideResNet-10-1 (hendrycks_wide_resnet): "
            "'block1.layer.0.conv1.weight' is (160, 16, 3, 3) in the file and (16, 16, 3, 3) in "
            "HendrycksWideResNet; the file is in the layout of Hendrycks et al.'s WideResNet-28-10",
        ),
        (
            weights(hendrycks_keys(10, 1, 100)),
            "'fc.weight' is (100, 64) in the file and (10, 64) in HendrycksWideResNet",
        ),
        (
            weights({**hendrycks_keys(10, 1), "sub_block1.bn.weight": (1,)}),
            "the file has 'sub_block1.bn.weight' (0 missing and 1 unexpected keys)",
        ),
        # Another normalisation
        (
            {**PLAIN, "mean": torch.tensor([0.49, 0.48, 0.45])},
            "normalises with mean (0.49, 0.48, 0.45), the model with (0.5, 0.5, 0.5)",
        ),
        # No weights at all
        ({"epoch": 3}, "expected a state dict"),
        ([1, 2], "expected a state dict"),
        ({"state_dict": {**PLAIN, "arch": "wrn"}}, "expected tensors only; 'arch' isn't one"),
        # Objects, which would be code
        ({"model": PLAIN, "args": Code()}, "holds Python objects beside weights (first "),
        ({"model": PLAIN, "module": torch.nn.ReLU()}, "weights_only=False"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_what_it_is(content, words):
    model = hendrycks_wide_resnet(10, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_published(model, file(content))
    assert words in str(error.value)
    assert str(error.value).startswith("published.pt")
    assert "\n" not in str(error.value)
    assert not Path("executed").exists()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "content",
    [None, b"", b"<html>Sign in</html>", pickle.dumps(Code(), protocol=2)],
    ids=["missing", "empty", "web page", "pickled code"],
)
def test_an_unreadable_file_is_refused(content):
    if content is not None:
        Path("published.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"published\.pt"):
        load_published(hendrycks_wide_resnet(10, 1), "published.pt")
    assert not Path("executed").exists()


def test_a_normalised_file_needs_a_model_that_normalises():
    model = torchvision.models.resnet18(**FEW)
    with pytest.raises(CheckpointError, match="normalises its input and ResNet doesn't"):
        load_published(model, file(madry(resnet_state())))


def test_the_architecture_of_a_stranger_has_no_name():
    assert architecture_of(torchvision.models.alexnet(**FEW).state_dict()) is None


def hendrycks_forward(state, images, depth):
    """Logits by the published code, in eval mode, from the state dict alone."""

    def normed(x, name):
        parts = [state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts)

    x = F.conv2d(2 * images - 1, state["conv1.weight"], padding=1)
    for group in (1, 2, 3):
        for index in range((depth - 4) // 6):
            block = f"block{group}.layer.{index}"
            stride = 2 if group > 1 and index == 0 else 1
            active = normed(x, f"{block}.bn1").clamp_min(0)
            out = F.conv2d(active, state[f"{block}.conv1.weight"], stride=stride, padding=1)
            out = F.conv2d(
                normed(out, f"{block}.bn2").clamp_min(0), state[f"{block}.conv2.weight"], padding=1
            )
            if f"{block}.convShortcut.weight" in state:
                x = F.conv2d(active, state[f"{block}.convShortcut.weight"], stride=stride)
            x = x + out
    pooled = F.avg_pool2d(normed(x, "bn1").clamp_min(0), images.shape[-1] // 4).flatten(1)
    return F.linear(pooled, state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize(("depth", "width", "size"), [(10, 2, 32), (16, 1, 32), (10, 1, 64)])
def test_hendrycks_wide_resnet_computes_what_was_published(depth, width, size):
    model = hendrycks_wide_resnet(depth, width, 7).double()
    for name, value in model.state_dict().items():
        if "running" in name or "bn" in name:
            value.copy_(torch.rand(value.shape) + 0.5)
    images = torch.rand(2, 3, size, size, dtype=torch.float64)
    expected = hendrycks_forward(model.eval().state_dict(), images, depth)
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("wrong", [{"depth": 12}, {"depth": 4}, {"width": 0}])
def test_hendrycks_wide_resnet_refuses_an_invalid_size_by_name(wrong):
    with pytest.raises(ValueError, match=f"^hendrycks_wide_resnet: {next(iter(wrong))} must be"):
        hendrycks_wide_resnet(**wrong)
