"""From a folder of pictures to a robust student and its report, by the commands alone."""

import json
import re
from pathlib import Path

import pytest

from documents import GUIDE, commands
from recipes import run
from shapes import draw_shapes

SHORT = ("--device", "cpu")


@pytest.mark.slow
@pytest.mark.usefixtures("processes_that_find_the_tests_data")
def test_five_commands_lead_from_a_folder_to_a_student_and_a_study(capsys, monkeypatch):
    draw_shapes("pictures", 8, size=32)
    models = ("--student", "timm:resnet10t", "--teacher", "resnet18")
    assert run("main", "new", "shapes", "--data", "pictures", *models, *SHORT) == 0
    said = capsys.readouterr().out
    assert "4 classes, 32×32, " in said
    assert "acm.block1  teacher  relu (output)" in said

    monkeypatch.chdir("shapes")
    epochs = ("--set", "train.stage1.num_epochs=1", "--set", "train.stage2.num_epochs=1")
    one_step = "train.stage2.model.forward_proc.init.kwargs.steps=1"
    teacher = ("--config", "teacher.yaml", *epochs, "--set", one_step)
    assert run("main", "train", *teacher, "--seed", "0", *SHORT) == 0
    once = ("--set", "train.num_epochs=1")
    assert run("main", "train", "--config", "mixacm.yaml", *once, "--seed", "0", *SHORT) == 0
    attack = ("--attack", "pgd", "--eps", "8/255", "--steps", "2")
    assert run("main", "evaluate", "--config", "mixacm.yaml", *attack, *SHORT) == 0
    assert "| student | PGD-2" in capsys.readouterr().out

    study = Path("compare.yaml")
    text = re.sub("steps: 20", "steps: 2", study.read_text())
    study.write_text(re.sub(".*autoattack.*\n", "", text))
    assert run("main", "study", "compare.yaml", *once, "--rows", "KD*", *SHORT) == 0
    rows = json.loads(Path("runs/studies/compare/results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["MixACM", "KD + mixup", "robust teacher"]
    assert run("main", "report", "runs/studies/compare") == 0


@pytest.mark.slow
def test_the_commands_that_it_writes_are_those_of_the_guide():
    draw_shapes("images", 5)
    tiny = ("--student", "dm_wide_resnet", "--student-kwargs", "{depth: 10, width: 1}")
    teacher = ("--teacher", "dm_wide_resnet", "--teacher-kwargs", "{depth: 10, width: 1}")
    assert run("main", "new", "shapes", "--data", "images", *tiny, *teacher, *SHORT) == 0
    written = Path("shapes/README.md").read_text().splitlines()
    assert len(written) <= 12
    *mine, tune = [line for line in written if line.startswith("mixacm ")]
    assert len(mine) == 4
    assert set(mine) <= set(commands(GUIDE))
    assert tune.startswith("mixacm tune mixacm.yaml --over ")
