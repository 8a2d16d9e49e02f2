"""Evaluation: what a quoted figure means, and what is refused."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mixacm_plugin import (
    PGD,
    Accuracy,
    AutoAttack,
    Clean,
    RecipeError,
    Square,
    evaluate,
    load_student,
    read_recipe,
)
from mixacm_plugin.evaluation.attacks.base import Attacked
from mixacm_plugin.evaluation.logits import clean_accuracies
from mixacm_plugin.loading.models import load_model
from mixacm_plugin.parts.adversarial.threat_model import perturbation_size
from mixacm_plugin.reporting.accuracies import markdown_table, write_accuracies
from recipes import CPU, Few, OutOfReach, digits, loader_accuracy, mixacm, write
from weights import state

EPS = 0.15  # where about half of the correctly classified digits fall


def test_clean_accuracy_is_that_of_a_plain_loop(model):
    accuracy = evaluate(model, digits("test"), Clean(), batch_size=64)
    expected = loader_accuracy(model, DataLoader(digits("test"), 500))
    assert 0.5 < expected < 1
    assert accuracy.n == 500
    assert accuracy.value == accuracy.clean == pytest.approx(expected)


def test_the_model_is_evaluated_in_eval_mode():
    batchnorm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 10)).train()
    before = state(batchnorm)
    evaluate(batchnorm, Few("test", 20), PGD(eps=0.1, steps=1, step_size=0.1))
    assert not batchnorm.training
    assert all(torch.equal(value, before[name]) for name, value in batchnorm.state_dict().items())
    assert all(parameter.grad is None for parameter in batchnorm.parameters())


@pytest.mark.parametrize("norm, eps", [("Linf", EPS), ("L2", 1.0)])
def test_robust_accuracy_falls_with_eps_and_never_exceeds_clean_accuracy(norm, eps, model):
    figures = [
        evaluate(model, digits("test"), PGD(norm, e, 10, e / 4), n=200)
        for e in (0.0, eps / 2, eps, 4 * eps)
    ]
    robust = [figure.correct for figure in figures]
    assert robust[0] == figures[0].clean_correct
    assert robust == sorted(robust, reverse=True)
    assert robust[0] > robust[2] > robust[3] == 0


@dataclass(frozen=True)
class Recorded(PGD):
    """Keeps what it was given and returned."""

    batches: tuple = ()

    def perturb(self, model, images, labels, seed):
        attacked = super().perturb(model, images, labels, seed)
        self.batches[0].append((images, labels, attacked.images, attacked.standing))
        return attacked


@pytest.mark.parametrize("norm, eps", [("Linf", EPS), ("L2", 1.0)])
def test_pgd_gets_only_correctly_classified_images_and_reports_what_still_is(norm, eps, model):
    attack = Recorded(norm, eps, 5, eps / 2, 2, batches=([],))
    accuracy = evaluate(model, digits("test"), attack, n=100, batch_size=30)
    images, labels, adversarial, standing = map(torch.cat, zip(*attack.batches[0], strict=True))
    assert accuracy.clean_correct < 100
    assert len(images) == accuracy.clean_correct
    assert torch.equal(model(images).argmax(1), labels)
    assert torch.equal(model(adversarial).argmax(1) == labels, standing)
    assert 0 < standing.sum() == accuracy.correct < len(images)
    assert perturbation_size(adversarial - images, norm).max() <= eps + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


def test_restarts_can_only_lower_accuracy(model):
    correct = [
        evaluate(model, digits("test"), PGD("Linf", EPS, 1, 0.05, restarts)).correct
        for restarts in (1, 2, 8)
    ]
    assert correct[0] > correct[1] > correct[2] > 0


@pytest.mark.slow
def test_autoattack_breaks_nothing_at_a_tiny_eps_and_is_at_least_as_strong_as_pgd(model):
    def measured(attack, eps):
        return evaluate(model, digits("test"), attack("Linf", eps), n=6, seed=1)

    tiny = measured(AutoAttack, 1e-6)
    assert tiny.correct == tiny.clean_correct > 0
    assert 0 < measured(AutoAttack, EPS).correct <= measured(PGD, EPS).correct < tiny.correct
    assert measured(AutoAttack, 0.5).correct == 0


def test_autoattack_refuses_models_of_too_few_classes():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    data = TensorDataset(torch.rand(9, 3, 8, 8), torch.arange(9) % 3)
    with pytest.raises(ValueError, match="needs at least 4 classes; found 3"):
        evaluate(model, data, AutoAttack())


def test_the_same_seed_gives_the_same_figures_and_leaves_the_generator_alone(model):
    attack = PGD(eps=EPS, steps=2, step_size=0.05)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = evaluate(model, digits("test"), attack, n=100, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert evaluate(model, digits("test"), attack, n=100, seed=np.int64(5)) == first
    others = [evaluate(model, digits("test"), attack, n=100, seed=s).correct for s in range(6, 9)]
    assert set(others) != {first.correct}


def test_figures_of_numpys_numbers_can_be_written(model):
    attack = PGD(eps=np.float32(0.05), steps=1, step_size=np.float32(0.05))
    written = json.loads(json.dumps(evaluate(model, digits("test"), attack, n=5).to_json()))
    assert written["attack"]["eps"] == pytest.approx(0.05)


def test_whole_numbers_of_numpys_are_pythons(model):
    two, four = np.arange(2, 6, 2)
    attack = PGD(eps=0.05, steps=two, restarts=two)
    accuracy = evaluate(model, digits("test"), attack, n=four, batch_size=two)
    plain = evaluate(model, digits("test"), PGD(eps=0.05, steps=2, restarts=2), n=4, batch_size=2)
    assert json.dumps(accuracy.to_json()) == json.dumps(plain.to_json())
    assert json.dumps(Square(eps=0.05, queries=four).settings())


@pytest.mark.parametrize(
    "given, message",
    [
        ({"attack": PGD}, r"attack must be an attack such as PGD\(\); found <class '.*PGD'>"),
        ({"attack": "pgd"}, r"attack must be an attack such as PGD\(\); found 'pgd'"),
        ({"n": 0}, "n must be between 1 and the 500 images of the dataset; found 0"),
        ({"n": -1}, "n must be between 1 and the 500 images of the dataset; found -1"),
        ({"n": 501}, "n must be between 1 and the 500 images of the dataset; found 501"),
        ({"n": True}, "n must be between 1 and the 500 .*; found True"),
        ({"n": 4.0}, "n must be between 1 and the 500 .*; found 4.0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1; found 0"),
        ({"batch_size": "9"}, "batch_size must be a whole number of at least 1; found '9'"),
        *[({"seed": s}, "seed must be a whole number from 0") for s in (None, 1.5, -1, 2**32)],
    ],
)
def test_what_is_no_argument_of_an_evaluation_is_refused(given, message, model):
    with pytest.raises(ValueError, match=message):
        evaluate(model, digits("test"), **{"attack": Clean(), **given})


def test_top_5_is_told_where_there_are_more_than_five_classes(model):
    loader = DataLoader(digits("test"), 100)
    logits = model(digits("test").images)
    labels = torch.tensor(digits("test").targets)
    ranks = (logits >= logits.gather(1, labels[:, None])).sum(1)
    found = clean_accuracies(model, loader, CPU)
    assert found == {1: (ranks <= 1).float().mean(), 5: (ranks <= 5).float().mean()}
    few = nn.Sequential(model, nn.Linear(10, 5))
    four = TensorDataset(torch.rand(4, 3, 8, 8), torch.arange(4))
    assert list(clean_accuracies(few, DataLoader(four, 4), CPU)) == [1]


@pytest.mark.parametrize("correct, n", [(0, 10), (10, 10), (37, 100), (999, 1000)])
def test_the_interval_is_wilsons(correct, n):
    z, p = 1.959963984540054, correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    interval = Accuracy(correct, n, n, Clean(), 0).interval()
    assert interval == pytest.approx((centre - half, centre + half), abs=1e-12)


@pytest.mark.parametrize(
    "images, words",
    [
        (torch.full((4, 3, 8, 8), -0.1), "images range from -0.1 to -0.1"),
        (torch.full((4, 3, 8, 8), 1.5), r"expected \[0, 1\]"),
        (torch.full((4, 3, 8, 8), torch.nan), r"expected \[0, 1\]"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), "torch.uint8"),
    ],
    ids=["negative", "large", "nan", "uint8"],
)
def test_images_that_are_not_pixels_are_refused(images, words, model):
    with pytest.raises(ValueError, match=words):
        evaluate(model, TensorDataset(images, torch.zeros(4).long()), Clean())


@dataclass(frozen=True)
class Cheat(PGD):
    """Leaves the ball by ``step_size`` in one pixel."""

    def perturb(self, model, images, labels, seed):
        adversarial = images * (1 - self.eps - self.step_size)  # some pixel of each image is 1
        return Attacked(adversarial, torch.ones(len(images), dtype=torch.bool))


def test_an_attack_that_leaves_its_ball_is_caught(model):
    evaluate(model, Few("test", 5), Cheat(eps=0.2, step_size=1e-9))
    with pytest.raises(RuntimeError, match=r"left its ball: Linf 0\.21\d* > 0\.2"):
        evaluate(model, Few("test", 5), Cheat(eps=0.2, step_size=0.01))


@dataclass(frozen=True)
class OutOfPixels(PGD):
    """Leaves [0, 1]."""

    def perturb(self, model, images, labels, seed):
        return Attacked(images + 0.01, torch.ones(len(images), dtype=torch.bool))


def test_an_attack_that_leaves_the_range_of_pixels_is_caught(model):
    with pytest.raises(RuntimeError, match=r"1\.01"):
        evaluate(model, Few("test", 5), OutOfPixels(eps=0.2))


@pytest.mark.parametrize("eps", [0, EPS])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_white_that_was_resized_is_white_but_for_rounding(model, norm, eps):
    white = torch.full((3, 8, 8), 1 + 2.4e-7)  # as torchvision resizes a float tensor
    images = TensorDataset(torch.stack([white, 1 - white]), torch.tensor([0, 1]))
    assert evaluate(model, images, PGD(norm, eps, 2)).n == 2
    beyond = TensorDataset(images.tensors[0] + 1e-5, images.tensors[1])
    with pytest.raises(ValueError, match=r"expected \[0, 1\]"):
        evaluate(model, beyond, PGD(norm, eps, 2))


def test_table_and_json_say_all_that_a_quoted_figure_needs():
    pgd = PGD("L2", "128/255", 7, "15/255", 3)
    clean = Accuracy(8, 8, 10, Clean(), 6)
    rows = [("student", Accuracy(30, 80, 100, pgd, 5)), ("teacher", clean)]
    heads, _, first, second = markdown_table(rows).splitlines()
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    assert cells[:8] == [
        *("student", "PGD-7 (step 15/255, 3 restarts)", "L2", "128/255", "100", "5", "80.0", "30.0")
    ]
    assert heads.count("|") == first.count("|") == second.count("|")
    assert "| teacher | none |" in second
    write_accuracies("out/figures.json", rows)
    with open("out/figures.json") as file:
        figure = json.load(file)[0]
    assert figure["model"] == "student"
    assert figure["attack"]["name"] == "pgd"
    assert (figure["attack"]["norm"], figure["attack"]["eps"]) == ("L2", "128/255")
    assert (figure["n"], figure["seed"]) == (100, 5)
    assert (figure["accuracy"], figure["clean_accuracy"]) == (0.3, 0.8)
    assert figure["interval_95"] == pytest.approx(rows[0][1].interval())


def test_load_student_builds_the_plain_model_in_eval_mode_and_no_data():
    text = mixacm().replace("{key: recipes.Few,", "{key: recipes.OutOfReach,")
    with pytest.raises(FileNotFoundError):
        OutOfReach()
    path = write(text)
    torch.save({"model": torch.load("teacher.pt")}, "student.pt")
    student = load_student(path, Path("student.pt"))
    assert type(student).__name__ == "WideResNet"
    assert not any(module.training for module in student.modules())
    weights = torch.load("teacher.pt")
    assert list(student.state_dict()) == list(weights)
    assert all(torch.equal(student.state_dict()[name], weights[name]) for name in weights)
    with pytest.raises(RecipeError, match=r"dst_ckpt: checkpoint not found: out/student\.pt"):
        load_student(path)
    with pytest.raises(RecipeError, match=r"models\.student_model: checkpoint not found: gone\.pt"):
        load_student(path, "gone.pt")


@pytest.mark.parametrize(("role", "key"), [("student", "dst_ckpt"), ("teacher", "src_ckpt")])
def test_a_model_without_a_checkpoint_is_not_evaluated(role, key):
    write()
    path = f"models.{role}_model.{key}"
    with pytest.raises(RecipeError, match=f"{path}: no checkpoint for the {role}"):
        load_model(read_recipe("recipe.yaml", [f"{path}=null"]), role)


@pytest.mark.parametrize("models", ["null", "{}"])
def test_a_recipe_without_models_is_refused(models):
    write()
    with pytest.raises(RecipeError, match=r"recipe\.yaml: models: "):
        load_model(read_recipe("recipe.yaml", [f"models={models}"]))
