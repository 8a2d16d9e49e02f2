"""``mixacm hooks``: the table, the YAML to paste, and what is refused."""

import sys
from pathlib import Path

import pytest
import yaml

from mixacm_plugin import dm_wide_resnet, hook_snippet
from mixacm_plugin.parts.models.normalization import model_by_key
from mixacm_plugin.projects.modules import STUB
from recipes import run

SMALL = ("--kwargs", "{depth: 10, width: 1}")


def test_the_table_names_each_block_and_the_yaml_pairs_two_models(capsys):
    teacher = ("--teacher", "squeezenet1_1", "--teacher-kwargs", "{num_classes: 10}")
    shape = ("--input-shape", "3,64,64")
    assert run("main", "hooks", "dm_wide_resnet", *SMALL, *teacher, *shape) == 0
    table, _, snippet = capsys.readouterr().out.partition("under train:\n")
    rows = [line.split() for line in table.splitlines()]
    assert [
        "1",
        "activated",
        "layer.0.block.0.relu_0",
        "(output)",
        "nchw",
        "16×64×64",
        "16",
    ] in rows
    assert ["raw", "init_conv", "(output)", "nchw", "16×64×64", "16"] in rows
    assert ["4", "activated", "features", "(output)", "nchw", "512×3×3", "512"] in rows
    assert ["raw", "the", "same"] in rows
    models = model_by_key("squeezenet1_1", num_classes=10), dm_wide_resnet(10, 1)
    assert snippet.strip() == hook_snippet(*models, input_shape=(3, 64, 64)).strip()


def test_without_a_teacher_the_model_is_paired_with_itself(capsys):
    assert run("main", "hooks", "dm_wide_resnet", *SMALL) == 0
    snippet = yaml.safe_load(capsys.readouterr().out.partition("under train:\n")[2])
    kwargs = snippet["criterion"]["kwargs"]["sub_terms"]["acm"]["criterion"]["kwargs"]
    assert "transform" not in kwargs
    assert all(pair["teacher"] == pair["student"] for pair in kwargs["pairs"].values())


@pytest.mark.parametrize(("flag", "told"), [("True", True), ("False", False)])
def test_auxiliary_heads_are_told(capsys, flag, told):
    kwargs = f"{{aux_logits: {flag}, init_weights: False}}"
    assert run("main", "hooks", "googlenet", "--kwargs", kwargs, "--input-shape", "3,64,64") == 0
    hint = "GoogLeNet: KDLoss needs its kwargs {aux_logits: False}"
    assert (hint in capsys.readouterr().out.splitlines()) == told


def test_every_residual_block_is_listed(capsys):
    kwargs = ("--kwargs", "{depth: 16, width: 1}")
    assert run("main", "hooks", "dm_wide_resnet", *kwargs, "--per", "block") == 0
    snippet = yaml.safe_load(capsys.readouterr().out.partition("under train:\n")[2])
    assert len(snippet["student"]["forward_hook"]["output"]) == 7


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["resnt18"], "MODEL: no model 'resnt18' is registered. Did you mean 'resnet18'"),
        (["resnet18", "--teacher", "nope!"], "--teacher: no model 'nope!' is registered"),
        (
            ["resnet18", "--kwargs", "{clases: 3}"],
            "MODEL: resnet18 can't be built of {'clases': 3}",
        ),
        (["resnet18", "--teacher-kwargs", "{}"], "--teacher-kwargs: needs --teacher MODEL"),
        (["nope!"], "MODEL: no model 'nope!' is registered. … One of your own is MODULE.NAME"),
        (["my_models"], "'my_models' is registered. One of your own is MODULE.NAME"),
        (["./tiny.Net"], "MODULE.py lies in the working folder; found './tiny.Net'"),
        (["tiny.py"], "MODULE.py lies in the working folder; found 'tiny.py'"),
        (["mine_h.Net"], "MODEL: can't import mine_h: ModuleNotFoundError: No module named"),
        (
            ["resnet18", "--teacher", "os.Nothing"],
            "--teacher: no model 'Nothing' is registered. … Put",
        ),
        (["vit_b_16"], "VisionTransformer doesn't take images of 3,32,32"),
        (["timm:resnet10t"], "timm:resnet10t: timm isn't installed; pip install"),
    ],
)
def test_a_mistake_is_a_line(capsys, monkeypatch, argv, words):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert run("main", "hooks", *argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mixacm: error: ")
    assert all(part in line for part in words.split(" … "))  # which may suggest others


def test_a_model_of_a_module_in_the_working_folder_has_hook_points(capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("mine_hooked.py").write_text(STUB.read_text().replace("Net(", "Hooked("))
    assert run("main", "hooks", "mine_hooked.Hooked") == 0
    table = capsys.readouterr().out
    assert "student: mine_hooked.Hooked" in table
    assert "stage3 (output)" in table


def test_a_module_that_ends_the_process_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("mine_ending.py").write_text("raise SystemExit")
    assert run("main", "hooks", "mine_ending.Net") == 2
    assert "MODEL: can't import mine_ending: SystemExit" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["num_classes", "[1]", "{a: "])
def test_arguments_that_are_no_mapping_are_refused(capsys, text):
    with pytest.raises(SystemExit):
        run("main", "hooks", "resnet18", "--kwargs", text)
    assert "expected a mapping such as {num_classes: 10}" in capsys.readouterr().err
