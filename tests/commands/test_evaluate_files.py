"""What `mixacm evaluate` writes: never over what it reads, and known before the attack."""

import hashlib
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from mixacm_plugin import dm_wide_resnet
from mixacm_plugin.commands import evaluate as command
from mixacm_plugin.common.files import recipe_file
from recipes import run, write

ARGV = ("evaluate", "--config", "recipe.yaml", "--device", "cpu", "--model", "teacher")
ATTACK = ("--attack", "clean")


@pytest.fixture
def no_attack(monkeypatch):
    """An attack that begins is a mistake."""
    monkeypatch.setattr(command, "evaluate", lambda *_, **__: pytest.fail("attacked"))
    write()
    torch.save(dm_wide_resnet(10, 1, 10).state_dict(), "other.pt")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--json", "recipe.yaml"), "--json: recipe.yaml is what --config names"),
        (("--state", "recipe.yaml"), "--state: recipe.yaml is what --config names"),
        (("--json", "teacher.pt"), "--json: teacher.pt is what models.teacher_model.src_ckpt"),
        (("--json", "./link.pt"), "--json: ./link.pt is what models.teacher_model.src_ckpt"),
        (("--state", "other.pt", "--ckpt", "other.pt"), "--state: other.pt is what --ckpt names"),
        (
            ("--json", "more.yaml", "--set", "more.yaml"),
            "--json: more.yaml is what --set more.yaml",
        ),
        (("--json", "one", "--state", "one"), "--state: one is what --json names"),
        (
            ("--json", "words.txt"),
            "--json: words.txt is there and holds no figures of this command; name another file",
        ),
        (("--json", "results.json"), "--json: results.json is there and holds no figures"),
        (("--json", "folder"), "--json: folder is no plain file"),
        (("--json", "pipe"), "--json: pipe is no plain file"),
        (("--json", "o" * 300), "File name too long"),
        (("--state", "recipe.yaml/state"), "--state: can't write recipe.yaml/state: "),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders there")
def test_a_file_that_cannot_be_written_is_refused_before_the_attack(
    flags, words, no_attack, capsys
):
    Path("words.txt").write_text("a shopping list")
    Path("results.json").write_text('{"format": 2, "rows": []}')  # a study's
    Path("more.yaml").write_text("train.log_freq: 3\n")
    Path("folder").mkdir()
    os.mkfifo("pipe")
    os.symlink("teacher.pt", "link.pt")
    before = {file: file.read_bytes() for file in Path().iterdir() if file.is_file()}
    assert run("main", *ARGV, *ATTACK, *flags) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert {file: file.read_bytes() for file in Path().iterdir() if file.is_file()} == before


def test_a_shipped_teacher_is_not_overwritten_either(capsys):
    file = recipe_file("quickstart/teacher.pt")
    before = Path(file).read_bytes()
    argv = ("evaluate", "--config", "quickstart/mixacm", "--model", "teacher", "--device", "cpu")
    assert run("main", *argv, *ATTACK, "--state", file) == 2
    assert "is what models.teacher_model.src_ckpt names" in capsys.readouterr().err
    assert Path(file).read_bytes() == before


def test_an_earlier_file_of_figures_is_written_anew_and_a_state_gone_on_from(capsys):
    write()
    files = ("--json", "new/figures.json", "--state", "new/state", "--n", "5")
    for _ in range(2):
        assert run("main", *ARGV, *ATTACK, *files) == 0
    assert len(list(Path("new").iterdir())) == 2
    capsys.readouterr()
    assert run("main", *ARGV, *ATTACK, *files[:-1], "6") == 2
    assert "new/state is the state of an evaluation with another choice of images" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), {"checkpoint": "teacher.pt", "precision": "fp32"}),
        (("--ckpt", "./teacher.pt", "--precision", "bf16"), {"checkpoint": "./teacher.pt"}),
        (("--set", "train.log_freq=3"), {"overrides": ["train.log_freq=3"]}),
    ],
)
def test_figures_name_the_recipe_and_the_checkpoint_that_they_are_of(flags, expected):
    write()
    assert run("main", *ARGV, *ATTACK, "--n", "5", *flags, "--json", "out.json") == 0
    (figure,) = json.loads(Path("out.json").read_text())
    assert figure["recipe"] == "recipe.yaml"
    digest = hashlib.sha256(Path("teacher.pt").read_bytes()).hexdigest()
    assert figure["checkpoint_sha256"] == digest
    assert figure["packages"]["torch"] == version("torch")
    assert expected.items() <= figure.items()


def test_a_shipped_checkpoint_is_named_without_where_it_is_installed():
    argv = ("evaluate", "--config", "quickstart/mixacm", "--model", "teacher", "--device", "cpu")
    assert run("main", *argv, *ATTACK, "--n", "5", "--json", "out.json") == 0
    (figure,) = json.loads(Path("out.json").read_text())
    assert figure["checkpoint"] == "quickstart/teacher.pt"


@pytest.mark.parametrize("value", ["0", "-1/255", "0/255"])
def test_a_step_of_no_length_is_refused(value, capsys):
    write()
    assert run_usage(*ARGV, "--attack", "pgd", f"--step-size={value}") == 2
    assert "--step-size: expected a" in capsys.readouterr().err


def run_usage(*argv):
    try:
        return run("main", *argv)
    except SystemExit as ended:
        return ended.code
