"""The teacher is measured before a student is taught by it, and a useless one is said to be."""

import logging
import os
import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from mixacm_plugin import Digits, RecipeError, Training, read_recipe
from mixacm_plugin.common.distributed import init_process_group
from mixacm_plugin.common.files import recipe_file
from mixacm_plugin.training.prepare import prepare
from processes import PROCESSES, run_processes
from recipes import CPU, run
from weights import differing, state

KEY = "models.teacher_model.expected_accuracy"
TEACHER = "quickstart/teacher.pt"


def quickstart(*overrides):
    return read_recipe("quickstart/mixacm", ["models.student_model.dst_ckpt=out/s.pt", *overrides])


def log_of(caplog, *overrides):
    """What is said before training, and how loud."""
    with caplog.at_level(logging.INFO, "mixacm"):
        Training(quickstart(*overrides), CPU)
    ours = (r for r in caplog.records if r.name == "mixacm")  # others may have been turned on
    return [(r.levelname, r.getMessage()) for r in ours if "teacher" in r.getMessage()]


def shifted(name="shifted.pt"):
    """A teacher whose labels are shifted by one, in a recipe that doesn't say what to expect."""
    weights = torch.load(recipe_file(TEACHER))
    for part in ("logits.weight", "logits.bias"):
        weights[part] = weights[part].roll(1, 0)
    torch.save(weights, name)
    return f"models.teacher_model.src_ckpt={name}", f"{KEY}=null"


def test_a_good_teacher_is_measured_and_nothing_else_is_said(caplog):
    ((level, line),) = log_of(caplog)
    assert level == "INFO"
    assert line == "teacher: 99.0 % of 200 validation images right"


VALIDATE = "validate={attack: pgd, norm: Linf, eps: 0.15, steps: 10, step_size: 0.02, n: 100}"


def test_a_robust_teacher_is_measured_under_the_attack_of_robust_validation(caplog):
    ((level, line),) = log_of(caplog, VALIDATE)
    assert level == "INFO"
    assert re.search(r"99\.0 % .* right, [89]\d\.\d % under PGD-10 .*\(Linf, ε = 0\.15\)", line)


def test_a_teacher_that_is_not_robust_is_warned_of(caplog):
    short = ["--set", "train.num_epochs=6", "--set", "models.model.dst_ckpt=n/natural.pt"]
    assert run("torchdistill", "--config", "quickstart/scratch", "--device", "cpu", *short) == 0
    caplog.clear()
    natural = "models.teacher_model.src_ckpt=n/natural.pt"
    _, (level, line) = log_of(caplog, natural, f"{KEY}=null", VALIDATE)
    assert level == "WARNING"
    assert "it isn't robust: 9" in line


def test_a_teacher_whose_labels_are_shifted_is_warned_of(caplog):
    _, (level, line) = log_of(caplog, *shifted())
    assert level == "WARNING"
    assert "0.0 % of 200 validation images right, about as many as guessing has" in line


@pytest.mark.parametrize("expected", ["1", "5", "0"])
def test_what_is_expected_near_guessing_does_not_make_it_good(caplog, expected):
    wrong, _ = shifted()
    _, *warned = log_of(caplog, wrong, f"{KEY}={expected}")
    assert [level for level, _ in warned] == (["WARNING"] if expected != "0" else [])


def test_all_of_a_few_images_right_is_no_guessing(caplog):
    data = "datasets.digits/val.init.kwargs={split: {val: 0.02}}"
    ((level, line),) = log_of(caplog, data, f"{KEY}=null")
    assert (level, line) == ("INFO", "teacher: 100.0 % of 4 validation images right")


def test_a_teacher_who_sees_pixels_divided_twice_is_warned_of(caplog):
    dark = "!import_call {key: torchvision.transforms.v2.Normalize, init: {kwargs: {mean: [0, 0, 0]"
    dark += ", std: [255, 255, 255]}}}"
    kwargs = f"datasets.digits/val.init.kwargs={{split: val, transform: {dark}}}"
    lines = log_of(caplog, kwargs, f"{KEY}=null")
    assert [level for level, _ in lines] == ["INFO", "WARNING"]


def test_a_teacher_far_below_its_expected_accuracy_is_refused():
    wrong, _ = shifted()
    with pytest.raises(RecipeError, match=r"expected 99 %, found 0\.0 % of 200") as error:
        Training(quickstart(wrong, f"{KEY}=99"), CPU)
    assert error.value.where == KEY


@pytest.mark.parametrize("expected", [100, 95, 50, 0])
def test_a_teacher_near_or_above_its_expected_accuracy_is_fine(expected, caplog):
    assert [level for level, _ in log_of(caplog, f"{KEY}={expected}")] == ["INFO"]


@pytest.mark.parametrize("value", ["-1", "101", "0.99", "'99'", "[99]"])
def test_an_expected_accuracy_is_in_per_cent(value):
    with pytest.raises(RecipeError, match="expected per cent, 0 or from 1 to 100"):
        Training(quickstart(f"{KEY}={value}"), CPU)


def of_five_classes():
    """Overrides: a teacher of five classes, and cross-entropy in place of soft labels."""
    five = "{depth: 10, width: 1, num_classes: 5}"
    weights = torch.load(recipe_file(TEACHER))
    torch.save({k: v[:5] if "logits" in k else v for k, v in weights.items()}, "five.pt")
    kd = "train.criterion.kwargs.sub_terms.kd.criterion"
    labels = f"{kd}={{key: CrossEntropyLoss, kwargs: {{}}}}"
    wrapper = "{key: SimpleLossWrapper, kwargs: {input: {is_from_teacher: False, module_path: '.', "
    wrapper += "io: output}, target: {uses_label: True}}}"
    with open("labels.yaml", "w") as file:
        file.write(f"{labels.replace('=', ': ', 1)}\n{kd}_wrapper: {wrapper}\n")
    teacher = (f"models.teacher_model.kwargs={five}", "models.teacher_model.src_ckpt=five.pt")
    return *teacher, "labels.yaml"


def test_a_teacher_of_other_classes_is_not_measured(caplog):
    (_, line), *warnings = log_of(caplog, *of_five_classes(), f"{KEY}=null")
    assert line == "teacher: not measured, since its classes aren't the data's"
    assert warnings == []


def test_an_expected_accuracy_that_cannot_be_measured_is_refused():
    with pytest.raises(RecipeError, match=r"expected 99 %, which can't be: its classes") as error:
        Training(quickstart(*of_five_classes()), CPU)
    assert error.value.where == KEY


def test_a_teacher_of_other_classes_is_not_tested_after_training_and_that_is_no_error(capsys):
    sets = [*of_five_classes(), f"{KEY}=null", "train.num_epochs=1"]
    sets.append("models.student_model.dst_ckpt=out/s.pt")
    flags = [flag for override in sets for flag in ("--set", override)]
    assert run("torchdistill", "--config", "quickstart/mixacm", "--device", "cpu", *flags) == 0
    assert "teacher_model: not tested: found label 9; the model has 5" in capsys.readouterr().out


def test_check_prints_the_teachers_accuracy_and_leaves_it_out_for_stand_ins(capsys):
    check = ("main", "check", "quickstart/mixacm", "--device", "cpu")
    assert run(*check) == 0
    assert "\nteacher: 99.0 % of 200 validation images right\n" in capsys.readouterr().out
    assert run(*check, "--input-shape", "3,8,8") == 0
    assert "validation images right" not in capsys.readouterr().out


def test_measuring_leaves_no_trace():
    plain = prepare(quickstart(), CPU, seed=3, real=False)
    drawn = torch.rand(3)
    measured = prepare(quickstart(), CPU, seed=3)
    assert torch.equal(torch.rand(3), drawn)
    for role, model in measured.models.items():
        assert not differing(state(model), state(plain.models[role]))
        assert model.training == plain.models[role].training


def measure_unlike_shares(rank, folder):
    """The teacher is right on the first process's share of the images alone."""
    os.chdir(folder)
    init_process_group(CPU, f"file://{folder}/group")
    item = Digits.__getitem__
    Digits.__getitem__ = lambda self, i: (item(self, i)[0], (item(self, i)[1] + i % 2) % 10)
    prepared = prepare(quickstart(f"{KEY}=null", VALIDATE.replace("n: 100", "n: 8")), CPU, seed=0)
    Path(f"{rank}.txt").write_text(prepared.teacher)
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_judge_the_teacher_alike(tmp_path):
    run_processes(measure_unlike_shares, tmp_path)
    first, second = (tmp_path.joinpath(f"{rank}.txt").read_text() for rank in range(PROCESSES))
    assert first == second
    assert re.match(
        r"teacher: (49|50)\.\d % of 200 validation images right, .* under PGD-10", first
    )
