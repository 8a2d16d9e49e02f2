"""``mixacm new``: what it finds, what it writes, and what it refuses."""

import gzip
import re
import shlex
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from PIL import Image
from torch import nn
from torch.utils.data import Subset
from torchvision import datasets

from boxes import host_box, train_epoch
from mixacm_plugin import dm_wide_resnet, read_recipe, recipe_file
from mixacm_plugin.commands.new import _next
from mixacm_plugin.parts.models.normalization import model_by_key
from mixacm_plugin.preflight.inspection import inspect_recipe
from mixacm_plugin.projects.methods import METHODS
from mixacm_plugin.projects.models import _normalisation
from mixacm_plugin.reading.library import override_names
from mixacm_plugin.studies.changes import sets
from mixacm_plugin.studies.study import read_study
from projects import MODELS, new, text_of
from recipes import CPU, run
from shapes import SHAPES, draw_shapes


def paths_of(dataset):
    """Files of a dataset of pictures, also of a part of one."""
    if isinstance(dataset, Subset):
        inside = paths_of(dataset.dataset)
        return [inside[index] for index in dataset.indices]
    return [path for path, _ in dataset.samples]


def files_of(recipe="p/mixacm.yaml"):
    parts = read_recipe(recipe).build("datasets")
    return {name.removeprefix("images/"): paths_of(parts[name]) for name in parts}


@pytest.mark.slow
def test_one_folder_is_split_by_class_without_overlap_and_always_the_same():
    draw_shapes("images", 20)
    assert new() == 0
    files = files_of()
    every = [path for part in files.values() for path in part]
    assert len(every) == len(set(every)) == 20 * len(SHAPES)
    for part, each in {"train": 14, "val": 2, "test": 4}.items():
        found = [Path(path).parent.name for path in files[part]]
        assert all(abs(found.count(name) - each) <= 1 for name in SHAPES), part
    assert files_of() == files_of("p/teacher.yaml") == files


@pytest.mark.slow
@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val"), ("train", "val", "test")])
def test_folders_that_are_split_stay_so(parts):
    for part in parts:
        draw_shapes(f"images/{part}", 10, seed=len(part))
    assert new() == 0
    files = files_of()
    assert all(f"/images/{parts[-1]}/" in path for path in files["test"])
    assert all("/images/train/" in path for path in files["train"])
    held = "val" if len(parts) == 3 else "train"
    assert all(f"/images/{held}/" in path for path in files["val"])
    assert not set(files["train"]) & set(files["val"])


def test_the_next_command_can_be_pasted_whatever_the_folder_is_called():
    project = SimpleNamespace(teacher=SimpleNamespace(checkpoint=""))
    command = _next(project, Path("my shapes")).removeprefix("next: ")
    assert shlex.split(command)[:4] == ["cd", "my shapes", "&&", "mixacm"]


@pytest.mark.slow
def test_a_data_set_of_torchvision_is_taken_by_its_name_grey_ones_with_three_channels():
    for name, n in (("train", 60), ("t10k", 20)):
        folder = Path("mnist/MNIST/raw")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(256, (n, 28, 28), dtype=torch.uint8).numpy().tobytes()
        labels = bytes(index % 10 for index in range(n))
        images = struct.pack(">4i", 0x803, n, 28, 28) + pixels
        for kind, content in (
            ("images-idx3", images),
            ("labels-idx1", struct.pack(">2i", 0x801, n) + labels),
        ):
            (folder / f"{name}-{kind}-ubyte").write_bytes(content)
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    assert new(data="MNIST:mnist") == 0
    built = read_recipe("p/mixacm.yaml").build("datasets")
    assert built["images/train"][0][0].shape == (3, 28, 28)
    assert isinstance(built["images/test"], datasets.MNIST)
    assert not built["images/test"].train


@pytest.mark.slow
def test_pictures_of_several_sizes_are_cut_to_one():
    draw_shapes("images", 5, SHAPES[:2], size=40)
    draw_shapes("images", 5, SHAPES[2:], size=44)
    assert new() == 0
    parts = read_recipe("p/mixacm.yaml").build("datasets")
    assert {part[0][0].shape for part in parts.values()} == {(3, 32, 32)}


@pytest.mark.slow
def test_what_is_written_passes_the_check_without_a_warning():
    draw_shapes("images", 10)
    assert new(models=("--student", "my_net.Net", *MODELS[4:])) == 0
    assert "class Net(nn.Module):" in text_of("my_net.py")
    for name in ("mixacm", "teacher"):
        found = inspect_recipe(read_recipe(f"p/{name}.yaml"), CPU, random_weights=True, seconds=0)
        assert found.warnings == ["models: weights are random, since no checkpoint was read"]


@pytest.mark.slow
def test_a_robust_teachers_checkpoint_gives_normalisation_accuracy_and_weight(capsys):
    draw_shapes("images", 10)
    torch.save(resnet().state_dict(), "teacher.pt")
    models = (*MODELS[:4], "--teacher", "resnet18:teacher.pt")
    assert new(models=models) == 0
    said = capsys.readouterr().out
    config = yaml.safe_load(re.sub("!import_(call|get)|!pathjoin", "", text_of("mixacm.yaml")))
    teacher = config["models"]["teacher_model"]
    accuracy = re.search(r"--teacher: ([\d.]+) % of some validation images", said)[1]
    assert teacher["expected_accuracy"] == round(float(accuracy))
    assert teacher["src_ckpt"] == str(Path("teacher.pt").resolve())
    assert not Path("p/teacher.yaml").exists()
    terms = dict(re.findall(r"^(kd|acm) +\S+ +(\S+)$", said, re.MULTILINE))
    assert 4 < float(terms["acm"]) / float(terms["kd"]) < 25  # ten, in steps of 1, 2, 5


BRIGHTNESS = """\
from torch import nn
from torchdistill.models.registry import register_model


@register_model
class Brightness(nn.Sequential):
    def __init__(self, num_classes=2):
        first, second = nn.Conv2d(3, 1, 1), nn.Conv2d(1, 1, 1, stride=2)
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, num_classes)
        super().__init__(first, nn.ReLU(), second, nn.ReLU(), *head)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "warned"), [(1, False), (-1, True)])
def test_a_teacher_whose_classes_are_in_another_order_is_warned_of(capsys, sign, warned):
    for name, level in (("dark", 40), ("light", 200)):
        for number in range(40):
            file = Path("images", name, f"{number}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (level + number,) * 3).save(file)
    Path("bright.py").write_text(BRIGHTNESS)
    weights = {"0.weight": torch.full((1, 3, 1, 1), 1 / 3), "2.weight": torch.ones(1, 1, 1, 1)}
    weights |= {"0.bias": torch.zeros(1), "2.bias": torch.zeros(1)}
    weights["6.weight"] = sign * torch.tensor([[-1.0], [1.0]])
    weights["6.bias"] = sign * torch.tensor([0.5, -0.5])
    torch.save(weights, "teacher.pt")
    models = ("--student", "bright.Brightness", "--teacher", "bright.Brightness:teacher.pt")
    assert new(models=models) == 0
    assert ("about as many as guessing has" in capsys.readouterr().out) == warned
    assert ("expected_accuracy: 100 " in text_of("mixacm.yaml")) != warned


def test_a_checkpoint_gets_the_normalisation_that_it_classifies_best_with():
    images = torch.rand(40, 3, 4, 4) * 0.5
    labels = [int(image.mean() > 0.25) for image in images]
    pixels = list(zip(images, labels, strict=True))

    class Threshold(nn.Module):
        def forward(self, normalised):
            level = normalised.mean((1, 2, 3))[:, None]
            return torch.cat([-level, level], 1)  # 1 where brighter than the mean

    data = SimpleNamespace(mean=[0.25] * 3, std=[0.2] * 3, validation_images=lambda: pixels)
    mean, std, accuracy = _normalisation(Threshold(), {}, True, data)
    assert (mean, std) == (data.mean, data.std)
    assert accuracy == 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["teacher", "mixacm", "scratch"])
def test_what_is_written_trains_under_the_host_itself(name):
    draw_shapes("images", 5)
    assert new("--compare", "pgd7_at") == 0
    Path("runs/teacher").mkdir(parents=True)
    torch.save(dm_wide_resnet(10, 1, len(SHAPES)).state_dict(), "runs/teacher/teacher.pt")
    _, box = host_box(read_recipe(f"p/{name}.yaml"))
    assert train_epoch(box)


def resnet():
    return model_by_key("resnet18", num_classes=len(SHAPES))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with all methods."""
    folder = tmp_path_factory.mktemp("project")
    images = draw_shapes(folder / "images", 12)
    argv = ("--data", images, *MODELS, "--compare", *METHODS, "--eps", "4/255", "--device", "cpu")
    assert run("main", "new", str(folder / "p"), *argv) == 0
    return folder / "p" / "compare.yaml"


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", range(len(METHODS) + 1))
def test_a_method_fits_the_models_and_passes_the_check(project, number):
    row = read_study(project).rows[number]
    recipe = read_recipe(row.base, sets(row.changes))
    found = inspect_recipe(recipe, CPU, random_weights=True, seconds=0)
    assert found.warnings == ["models: weights are random, since no checkpoint was read"]
    assert all(term.value > 0 for stage in found.stages for term in stage.terms)


def test_an_override_file_that_is_no_method_names_modules_or_data_of_the_digits():
    for name in set(override_names()) - {f"compare/{method}" for method in (*METHODS, "mixacm")}:
        text = Path(recipe_file(name)).read_text()
        assert re.search(r"forward_hook:.*\[|digits/|layer\.", text), name


WIDE = ("--teacher", "dm_wide_resnet", "--teacher-kwargs", "{depth: 10, width: 2}")


@pytest.mark.slow
def test_of_models_of_other_widths_a_method_takes_the_pairs_that_fit_and_says_so(capsys):
    draw_shapes("images", 5)
    assert new("--compare", "at", "direct_l2", "fitnet", "kr", models=(*MODELS[:4], *WIDE)) == 0
    said = capsys.readouterr().out
    assert "direct_l2: without block2: teacher layer.1.block.0.relu_0 (output) 32×16×16, " in said
    assert "at: without" not in said
    assert "adaptive_max_pool" in text_of("mixacm.yaml")
    for row in read_study("p/compare.yaml").rows[:-1]:
        recipe = read_recipe(row.base, sets(row.changes))
        found = inspect_recipe(recipe, CPU, random_weights=True, seconds=0)
        assert len(found.warnings) == 1


@pytest.mark.slow
def test_a_method_that_fits_no_pair_is_refused_with_pairs_and_sizes(capsys):
    draw_shapes("images", 5, size=32)
    models = (*MODELS[:4], "--teacher", "resnet18")
    assert new("--compare", "direct_l2", models=models) == 2
    error = capsys.readouterr().err
    assert "--compare direct_l2: it matches activations of one shape" in error
    assert "block4: teacher layer4 (output) 512×1×1, student relu (output) 64×8×8" in error
    assert error.count("\n") == 1
    assert not Path("p").exists()


@pytest.mark.parametrize("name", ["mixacm.yaml", "compare.yaml", "README.md", "methods/at.yaml"])
def test_nothing_is_overwritten(capsys, name):
    draw_shapes("images", 5)
    file = Path("p") / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    assert new("--compare", "at") == 2
    assert f"p has {name} already, which isn't overwritten" in capsys.readouterr().err
    assert [path for path in Path("p").rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "mine"


@pytest.mark.slow
def test_on_a_terminal_what_is_missing_is_asked_for(monkeypatch):
    draw_shapes("images", 5)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    answers = iter(["resnet18"])
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    assert new(models=MODELS[:4]) == 0
    assert "# MixACM: dm_wide_resnet taught by resnet18" in text_of("mixacm.yaml")
