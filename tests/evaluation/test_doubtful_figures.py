"""Figures that would be plausible and wrong: refused, or told with what speaks against them."""

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.models.googlenet import GoogLeNetOutputs
from torchvision.transforms import ToTensor

from classifiers import Scaled, trained_network
from mixacm_plugin import PGD, AutoAttack, Clean, dm_wide_resnet, evaluate, normalize_inside
from mixacm_plugin.evaluation.logits import UnsuitedModelError, clean_accuracies
from recipes import CPU, Few, digits, loader_accuracy, run, write


@pytest.fixture(scope="module")
def model():
    return trained_network()


def test_an_attack_that_cannot_work_says_so(model):
    attack = PGD(eps=0.15, steps=5, step_size=0.05, restarts=2)
    plain = evaluate(model, digits("test"), attack, n=100)
    masked = evaluate(Scaled(model, 1e4), digits("test"), attack, n=100)
    assert masked.correct > plain.correct + 40  # for no other reason than a softmax in float32
    assert plain.warnings == ()
    assert any("zero gradient at the start" in warning for warning in masked.warnings)
    assert any("zero gradient at the end" in warning for warning in masked.warnings)
    assert all("AutoAttack" in warning for warning in masked.warnings)
    counts = [int(warning.rpartition("(")[2].split()[0]) for warning in masked.warnings]
    assert max(counts) == masked.correct
    assert masked.to_json()["warnings"] == list(masked.warnings)


@pytest.mark.parametrize("factor", [1e-15, 1e-30])
def test_l2_pgd_is_as_strong_on_tiny_gradients(model, factor):
    attack = PGD("L2", eps=1.0, steps=10, step_size=0.25)
    even = evaluate(Scaled(model, 1e-3), Few("test", 60), attack).correct
    tiny = evaluate(Scaled(model, factor), Few("test", 60), attack).correct
    assert even < 50
    assert abs(tiny - even) <= 1


@pytest.mark.parametrize(
    ("last", "doubted"),
    [(nn.Softmax(1), True), (nn.Sigmoid(), True), (nn.LogSoftmax(1), False), (nn.ReLU(), False)],
)
def test_answers_that_are_no_logits_are_doubted(last, doubted, model):
    ending = nn.Sequential(Scaled(model, 10), last)
    for attack in (PGD(eps=0.15, steps=5, step_size=0.05), Clean()):
        warnings = evaluate(ending, digits("test"), attack, n=50).warnings
        found = any("between 0 and 1, as after a softmax" in warning for warning in warnings)
        assert found == (doubted and attack.name == "pgd")


class Normalises(nn.Module):
    """Shifts its images in place, or a copy of them."""

    def __init__(self, model, in_place):
        super().__init__()
        self.model, self.in_place = model, in_place

    def forward(self, images):
        return self.model(images.sub_(0.1) if self.in_place else images - 0.1)


@pytest.mark.parametrize("attack", [Clean(), PGD(eps=0.15, steps=5), AutoAttack(eps=0.15)])
def test_a_model_that_changes_its_images_is_measured_on_those_that_it_is_given(attack, model):
    found = [evaluate(Normalises(model, in_place), Few("test", 9), attack) for in_place in (0, 1)]
    assert found[0] == found[1]


def test_weights_that_are_not_finite_are_refused_when_they_are_loaded(capsys):
    write()
    weights = torch.load("teacher.pt")
    weights["logits.weight"][3] = float("nan")
    torch.save(weights, "teacher.pt")
    argv = ("--config", "recipe.yaml", "--device", "cpu")
    attack = ("--attack", "clean", "--model", "teacher")
    for command in (("torchdistill", *argv), ("main", "evaluate", *argv, *attack)):
        assert run(*command) == 2
        error = capsys.readouterr().err
        assert "models.teacher_model.src_ckpt" in error
        assert "'logits.weight' isn't finite (64 of 640 values)" in error
        assert error.count("\n") == 1


def test_logits_that_are_not_finite_are_refused(model):
    with pytest.raises(UnsuitedModelError, match="aren't finite for 9 of 9 images"):
        evaluate(Scaled(model, float("nan")), Few("test", 9), Clean())


class Explodes(nn.Module):
    """A right answer for the images as they are, and nothing finite for any others."""

    def __init__(self, dataset, value):
        super().__init__()
        self.images = torch.stack([image for image, _ in dataset])
        self.labels = torch.tensor([label for _, label in dataset])
        self.value = value

    def forward(self, images):
        distance = (images[:, None] - self.images).flatten(2).abs().amax(2)
        logits = nn.functional.one_hot(self.labels[distance.argmin(1)], 10).float()
        touched = distance.amin(1, keepdim=True)
        return torch.where(touched > 1e-3, self.value, logits + 0 * touched)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("attack", [PGD(eps=0.1, steps=3), AutoAttack(eps=0.1)])
def test_an_image_whose_logits_explode_under_attack_is_not_robust(attack, value):
    data = Few("test", 12)
    assert 0 in [label for _, label in data]  # for which an argmax of nothing finite would be right
    accuracy = evaluate(Explodes(data, value), data, attack)
    assert (accuracy.clean_correct, accuracy.correct) == (12, 0)


def folder(path, classes):
    for number, name in enumerate(classes):
        for index in range(3):
            file = Path(path, name, f"{index}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (20 * number, 9 * index, 100)).save(file)
    return ImageFolder(path, ToTensor())


def test_a_test_folder_that_lacks_a_class_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    lacking = folder("lacking", ["bird", "dog", "fish"])  # cat, which comes second, isn't there
    with pytest.raises(UnsuitedModelError, match="the dataset has 3 classes and the model 4"):
        evaluate(network, lacking, Clean())
    evaluate(network, folder("whole", ["bird", "cat", "dog", "fish"]), Clean())
    # Who numbers the labels by a transform has thought of it.
    numbered = ImageFolder("lacking", ToTensor(), target_transform=lambda label: (0, 2, 3)[label])
    evaluate(network, numbered, Clean())


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_outside_of_the_models_classes_are_refused(model, label):
    data = TensorDataset(torch.rand(3, 3, 8, 8), torch.tensor([0, label, 9]))
    with pytest.raises(UnsuitedModelError, match=f"found label {label}; the model has 10 classes"):
        evaluate(model, data, Clean())


@pytest.mark.parametrize(
    "labels", [torch.arange(3)[:, None], torch.eye(10)[:3], torch.tensor([0.0, 1.0, 2.0])]
)
def test_labels_that_are_not_one_number_each_are_refused(model, labels):
    data = TensorDataset(torch.rand(3, 3, 8, 8), labels)
    with pytest.raises(UnsuitedModelError, match=r"labels are torch\..*; expected whole numbers"):
        evaluate(model, data, Clean())
    with pytest.raises(UnsuitedModelError, match=r"labels are torch\..*; expected whole numbers"):
        clean_accuracies(model, DataLoader(data, 3), torch.device("cpu"))


class Returns(nn.Module):
    """A model with another output than logits."""

    def __init__(self, model, make):
        super().__init__()
        self.model, self.make = model, make

    def forward(self, images):
        return self.make(self.model(images))


@pytest.mark.parametrize(
    "make",
    [
        lambda logits: (logits, logits.sum()),
        lambda logits: [logits],
        lambda logits: {"logits": logits, "features": None},
        lambda logits: OrderedDict(loss=None, logits=logits),
        lambda logits: GoogLeNetOutputs(logits, logits + 1, None),
    ],
    ids=["tuple", "list", "dict", "model output", "auxiliary outputs"],
)
def test_logits_are_taken_from_the_outputs_that_are_known(model, make):
    attack = PGD(eps=0.1, steps=2)
    other = Returns(model, make)
    assert evaluate(other, Few("test", 40), attack) == evaluate(model, Few("test", 40), attack)
    loader = DataLoader(Few("test", 40), 20)
    assert clean_accuracies(other, loader, CPU)[1] == pytest.approx(loader_accuracy(model, loader))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda logits: {"scores": logits}, "a dict"),
        (lambda logits: None, "a NoneType"),
        (lambda logits: logits[:, :, None], r"a tensor of shape \(5, 10, 1\)"),
    ],
)
def test_any_other_output_is_refused_with_its_type(model, make, found):
    with pytest.raises(TypeError, match=f"the model returns {found}; expected logits"):
        evaluate(Returns(model, make), Few("test", 5), Clean())


class Noisy(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(nn.functional.dropout(images, 0.3, training=True))


def test_a_randomised_model_is_warned_of(model):
    accuracy = evaluate(Noisy(model), Few("test", 30), PGD(eps=0.1, steps=2))
    assert sum("randomised" in warning for warning in accuracy.warnings) == 1
    assert "--version rand" in " ".join(accuracy.warnings)
    assert evaluate(model, Few("test", 30), PGD(eps=0.1, steps=4)).warnings == ()


class Coarse(nn.Module):
    """Images in five shades, so that nothing can be told from a gradient."""

    def forward(self, images):
        return (4 * images).round() / 4


def test_autoattack_has_a_version_for_randomised_models(model):
    attack = AutoAttack(eps=0.1, version="rand")
    accuracy = evaluate(Noisy(model), Few("test", 6), attack)
    assert attack.title == "AutoAttack (rand)"
    assert not any("AutoAttack says" in warning for warning in accuracy.warnings)
    assert not any("--version rand" in warning for warning in accuracy.warnings)
    with pytest.raises(ValueError, match="version must be one of standard, rand; found 'plus'"):
        AutoAttack(version="plus")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Noisy, "it seems to be a randomized defense"),
        (lambda model: nn.Sequential(model, nn.Softmax(1)), "a probability distribution"),
        (lambda model: nn.Sequential(Coarse(), model), "points with zero gradient"),
    ],
    ids=["randomised", "softmax", "no gradient"],
)
def test_what_autoattack_warns_of_stands_beside_its_figure(model, change, words, capfd):
    accuracy = evaluate(change(model), Few("test", 6), AutoAttack(eps=0.05))
    said = [warning for warning in accuracy.warnings if "AutoAttack says: " in warning]
    assert any(words in warning for warning in said)
    assert not any("flags_doc" in warning or "\n" in warning for warning in said)
    assert words not in "".join(capfd.readouterr())


def test_warnings_are_printed_below_the_table_and_written_to_the_file(capsys):
    write()
    attack = ("--attack", "pgd", "--eps", "0.1", "--steps", "1", "--step-size", "0.01")
    argv = ("evaluate", "--config", "recipe.yaml", "--device", "cpu", "--model", "teacher")
    assert run("main", *argv, *attack, "--n", "5", "--json", "out.json") == 0
    words = "PGD-1 (step 0.01) can't reach the edge of its ball, ε = 0.1"
    assert f"\nwarning: teacher, PGD-1 (step 0.01): {words}" in capsys.readouterr().out
    (figure,) = json.loads(Path("out.json").read_text())
    assert figure["warnings"] == [words]


@pytest.mark.parametrize("channels", [1, 4])
def test_a_normaliser_refuses_images_of_other_channels(channels):
    network = normalize_inside(nn.Flatten(), (0.5,) * 3, (0.2,) * 3)
    with pytest.raises(ValueError, match=rf"normalises 3 channels; found .* \(2, {channels}, 8"):
        network(torch.rand(2, channels, 8, 8))
    with pytest.raises(ValueError, match="normalises 3 channels"):
        dm_wide_resnet(10, 1, 10)(torch.rand(2, channels, 32, 32))
