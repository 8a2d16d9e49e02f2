"""How far a student's answers can be driven from its teacher's."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mixacm_plugin import PGD, dm_wide_resnet
from mixacm_plugin.evaluation.disagreement import Disagreement, disagreement, total_variation
from recipes import Few, run, write


class Brightness(nn.Module):
    """Two classes by the mean pixel: an answer whose largest change is known."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, images):
        logit = self.slope * (images.flatten(1).mean(1) - 0.5)
        return torch.stack([logit, -logit], 1)


class Steps(Brightness):
    """Of which an attack sees no gradient."""

    def __init__(self):
        super().__init__(8)

    def forward(self, images):
        return super().forward((20 * images).round() / 20)


class Draws(Brightness):
    """By other pixels each time."""

    def __init__(self):
        super().__init__(8)

    def forward(self, images):
        return super().forward(F.dropout(images))


class Greys(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.full((1, 4, 4), (0.4, 0.5, 0.6, 0.7)[index]), 0


@pytest.mark.parametrize(("norm", "eps", "moved"), [("Linf", 0.1, 0.1), ("L2", 0.4, 0.1)])
def test_it_is_the_largest_distance_in_the_ball(norm, eps, moved):
    attack = PGD(norm, eps, 20, eps / 4)
    found = disagreement(Brightness(8), Brightness(2), Greys(), attack)
    grey = torch.tensor([0.4, 0.5, 0.6, 0.7])
    at = torch.linspace(-moved, moved, 2001)[:, None] + grey
    answers = [torch.sigmoid(2 * slope * (at - 0.5)) for slope in (8, 2)]
    distances = (answers[0] - answers[1]).abs()
    assert found.mean == pytest.approx(float(distances.amax(0).mean()), abs=2e-3)
    assert found.clean == pytest.approx(float(distances[1000].mean()), abs=1e-5)
    assert found.deviation == pytest.approx(float(distances.amax(0).std()), abs=3e-3)


@pytest.mark.parametrize(
    ("mean", "deviation", "n", "interval"),
    [
        (0.5, 0.2, 400, (0.4804, 0.5196)),
        (0.02, 0.1, 25, (0.0, 0.0592)),
        (0.99, 0.1, 25, (0.9508, 1.0)),
        (0.3, 0.0, 1, (0.0, 1.0)),
    ],
)
def test_the_interval_lies_where_distances_do(mean, deviation, n, interval):
    found = Disagreement(mean, deviation, 0.0, n, PGD(eps=0.1), 0)
    assert found.interval() == pytest.approx(interval)


def test_a_student_that_is_its_teacher_never_disagrees(model):
    found = disagreement(model, model, Few("test", 20), PGD(eps=0.3, steps=3))
    assert found.mean == found.clean == 0


def test_it_grows_with_eps_and_steps_and_is_at_least_what_it_is_on_the_images(model):
    other = nn.Sequential(*model)[:1].append(nn.Linear(192, 10))
    attacks = [PGD(eps=e, steps=s, step_size=0.02) for e, s in ((0.0, 1), (0.05, 3), (0.1, 10))]
    means = [disagreement(model, other, Few("test", 30), attack).mean for attack in attacks]
    clean = disagreement(model, other, Few("test", 30), attacks[0]).clean
    assert clean == means[0] < means[1] < means[2] <= 1


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: Brightness(8), []),
        (Steps, ["gradient is zero where the search starts, which can't move there (4 of 4 ima"]),
        (Draws, ["two passes over the same images differ"]),
    ],
)
def test_a_figure_to_doubt_says_why(build, told):
    found = disagreement(build(), Brightness(2), Greys(), PGD(eps=0.1, steps=4))
    assert len(found.warnings) == len(told)
    assert all(words in line for words, line in zip(told, found.warnings, strict=True))
    assert found.to_json()["warnings"] == list(found.warnings)


@pytest.mark.parametrize("classes", [12, 2])
def test_models_of_other_classes_are_refused(classes, model):
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, classes))
    with pytest.raises(ValueError, match=f"the student has 10 classes and the teacher {classes}"):
        disagreement(model, other, Few("test", 5), PGD(eps=0.1, steps=1))


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_probabilities_are_refused_since_a_distance_would_take_a_softmax_of_them(role, model):
    models = {"student": model, "teacher": model, role: nn.Sequential(model, nn.Softmax(1))}
    with pytest.raises(ValueError, match=f"of the {role}: it returns probabilities"):
        disagreement(**models, dataset=Few("test", 8), attack=PGD(eps=0.1, steps=1))


def test_it_is_told_whose_logits_are_not_finite(model):
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    nn.init.constant_(other[1].bias, torch.inf)
    with pytest.raises(ValueError, match="of the teacher: the model's logits aren't finite"):
        disagreement(model, other, Few("test", 5), PGD(eps=0.1, steps=1))


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_total_variation_is_a_distance_of_at_most_one(scale):
    first, second = scale * torch.randn(2, 50, 10).double()
    distance = total_variation(first, second)
    assert torch.equal(distance, total_variation(second, first))
    assert 0 <= distance.min() < distance.max()
    assert distance.max() <= 1 + 1e-12
    torch.testing.assert_close(total_variation(first, first + 3), torch.zeros(50).double())


def test_the_command_prints_a_table_and_writes_json(capsys):
    write()
    torch.save({"model": dm_wide_resnet(10, 1, 10).state_dict()}, "student.pt")
    argv = ("evaluate", "--config", "recipe.yaml", "--device", "cpu", "--attack", "disagreement")
    setting = ("--eps", "0.1", "--steps", "2", "--n", "6", "--ckpt", "student.pt")
    assert run("main", *argv, *setting, "--json", "out.json", "--batch-size", "4") == 0
    *_, row, _, warning = capsys.readouterr().out.splitlines()
    assert row.startswith("| student | PGD-2 (step 0.025) | Linf | 0.1 | 6 | 0 | 0.")
    assert "can't reach the edge of its ball" in warning
    (figure,) = json.loads(Path("out.json").read_text())
    assert figure["attack"]["name"] == "disagreement"
    assert figure["batch_size"] == 4  # on which the random starts depend
    assert figure["interval_95"][0] < figure["mean"] < figure["interval_95"][1]
    assert figure["clean"] < figure["mean"]
    for of, file in (("checkpoint", "student.pt"), ("teacher_checkpoint", "teacher.pt")):
        digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        assert (figure[of], figure[f"{of}_sha256"]) == (file, digest)
    for flags, words in (
        (("--model", "teacher"), "is between student and teacher"),
        (("--state", "s"), "has no --state"),
        (("--sanity",), "no --sanity"),
    ):
        assert run("main", *argv, *setting, *flags) == 2
        assert words in capsys.readouterr().err


def test_in_bf16_the_teacher_runs_in_it_too_and_the_table_says_so(capsys):
    write()
    argv = ("evaluate", "--config", "recipe.yaml", "--device", "cpu", "--attack", "disagreement")
    setting = ("--steps", "8", "--n", "6", "--ckpt", "teacher.pt", "--precision", "bf16")
    assert run("main", *argv, *setting, "--json", "out.json") == 0
    assert "| student in bf16 |" in capsys.readouterr().out
    (figure,) = json.loads(Path("out.json").read_text())
    assert (figure["model"], figure["clean"], figure["warnings"]) == ("student in bf16", 0, [])
