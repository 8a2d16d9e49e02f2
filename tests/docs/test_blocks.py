"""The YAML and the Python of the documents do what they are said to do."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from torchdistill.common.yaml_util import load_yaml_file

from documents import DOCUMENTS, GUIDE, README, blocks, title_of
from mixacm_plugin import read_recipe
from mixacm_plugin.common.files import recipe_file
from mixacm_plugin.preflight.inspection import inspect_recipe
from mixacm_plugin.reporting.plots.study import read_plots
from mixacm_plugin.studies.runs import resolve
from mixacm_plugin.studies.study import read_study
from recipes import CPU, run

RANDOM = "models: weights are random, since no checkpoint was read"
MIXACM = (  # what a recipe without MixACM doesn't have
    *("dependencies", "models", "train.teacher", "train.student", "train.criterion"),
    *("train.pre_epoch_process", "train.train_data_loader.collate_fn"),
)


def composed(text):
    load_yaml_file("/dev/null")  # registers torchdistill's tags
    return yaml.compose(text, Loader=yaml.FullLoader)


def without(node, paths, here=""):
    """Take key paths out of a mapping."""
    node.value = [(key, v) for key, v in node.value if f"{here}{key.value}" not in paths]
    for key, value in node.value:
        if isinstance(value, yaml.MappingNode):
            without(value, paths, f"{here}{key.value}.")
    return node


def completed(node, other):
    """A mapping with what it lacks, or leaves out as '...', taken from another one."""
    if not isinstance(node, yaml.MappingNode) or node.tag != other.tag:
        return other if node.value in ("", "...") else node
    theirs = {key.value: (key, value) for key, value in other.value}
    names = [key.value for key, _ in node.value]
    own = [(k, completed(v, theirs[k.value][1]) if k.value in theirs else v) for k, v in node.value]
    node.value = own + [item for name, item in theirs.items() if name not in names]
    return node


def recipe(text, base=None, lacking=MIXACM):
    """The recipe of a document, with the parts that it doesn't show taken from a shipped one."""
    node = composed(text)
    if base is not None:
        shipped = composed(Path(recipe_file(base)).read_text(encoding="utf-8"))
        node = completed(node, without(shipped, lacking))
    Path("mine.yaml").write_text(yaml.serialize(node), encoding="utf-8")
    return "mine.yaml"


def check(path, *overrides, size=32):
    """What ``mixacm check`` finds on random images, without weights."""
    return inspect_recipe(
        read_recipe(path, overrides),
        CPU,
        input_shape=(3, size, size),
        batch_size=2,
        random_weights=True,
        seconds=0,
    )


def yaml_block(document, words):
    (found,) = (block for block in blocks(document, "yaml") if words in block)
    return found


YAML = [(document, block) for document in DOCUMENTS for block in blocks(document, "yaml")]


def test_there_is_yaml_in_the_readme_and_the_guide():
    assert {document for document, _ in YAML} >= {README, GUIDE}


@pytest.mark.parametrize("block", [block for _, block in YAML])
def test_a_block_of_yaml_is_a_mapping(block):
    assert isinstance(composed(block), yaml.MappingNode)


@pytest.mark.slow
def test_the_recipe_of_the_readme_makes_a_plain_recipe_mixacm():
    (block,) = blocks(README, "yaml")
    found = check(recipe(block, "cifar10/mixacm"), "models.student_model.kwargs.depth=10")
    (stage,) = found.stages
    assert [pair.pair for pair in stage.pairs[::2]] == ["block1", "block2", "block3", "block4"]
    assert [term.name for term in stage.terms] == ["kd", "acm", "total"]
    assert found.models["teacher"] == ("WideResNet", 36_479_194)
    assert found.warnings == [RANDOM]


def test_the_recipe_of_the_readme_says_what_the_shipped_one_says():
    (block,) = blocks(README, "yaml")
    shown = read_recipe(recipe(block, "cifar10/mixacm")).build("train")
    shipped = read_recipe("cifar10/mixacm").build("train")
    # Which does nothing where teacher and student have the same channels.
    shipped["criterion"]["kwargs"]["sub_terms"]["acm"]["criterion"]["kwargs"].pop("transform")
    for part in ("teacher", "student", "pre_epoch_process", "train_data_loader", "criterion"):
        assert shown[part] == shipped[part]


def test_the_errors_in_the_guide_are_what_the_command_says(capsys):
    text = Path(recipe_file("cifar10/small")).read_text(encoding="utf-8")
    text = text.replace("&epochs 6", "many").replace("*epochs", "6")
    Path("mine.yaml").write_text(text.replace("    collate_fn", "    colate_fn"))
    assert run("torchdistill", "--config", "mine.yaml", "--device", "cpu") == 2
    (shown,) = blocks(GUIDE, "text")
    assert capsys.readouterr().err == shown


def test_the_learnable_transform_fits_the_shipped_recipe():
    block = yaml_block(GUIDE, "FrozenTeacher")
    shown = ("train.teacher", "train.student.forward_hook", "train.criterion.kwargs.sub_terms.acm")
    found = check(recipe(block, "quickstart/mixacm_affine", shown))
    (stage,) = found.stages
    assert [(pair.side, pair.channels) for pair in stage.pairs] == [
        ("teacher", 128),
        ("student", 64),
    ]
    assert "affine" in stage.pairs[0].transform or "Linear" in stage.pairs[0].transform
    assert found.warnings == [RANDOM]


@pytest.mark.slow
def test_the_published_teacher_takes_the_place_of_another():
    block = yaml_block(GUIDE, "sha256")
    path = recipe(block, "cifar10/mixacm", ("models.teacher_model",))
    found = check(path, "models.student_model.kwargs.depth=10")
    assert found.models["teacher"] == ("WideResNet", 36_479_194)
    assert found.warnings == [RANDOM]


def test_the_diff_makes_a_torchdistill_recipe_mixacm():
    (diff,) = blocks(GUIDE, "diff")
    lines = [line for line in diff.splitlines() if not line.startswith("-")]
    after = "\n".join(line[1:] for line in lines)
    assert len(lines) < len(diff.splitlines())
    added = (
        *("dependencies", "models.teacher_model", "train.pre_epoch_process"),
        *("train.train_data_loader.collate_fn", "train.teacher.requires_grad"),
        *("train.teacher.forward_hook", "train.student.forward_hook"),
        "train.criterion.kwargs.sub_terms.acm",
    )
    path = recipe(after, "cifar10/small", added)
    found = check(path, "models.teacher_model.kwargs.model_kwargs.k=2", size=32)
    assert len(found.stages[0].pairs) == 8
    assert found.warnings == [RANDOM]


def test_the_study_of_the_guide_can_be_run():
    Path("study.yaml").write_text(yaml_block(GUIDE, "measure: teacher"), encoding="utf-8")
    for scale, seeds in ((None, 3), ("short", 1)):
        study = read_study("study.yaml", scale)
        read_plots(study.plots, [row.name for row in study.rows], study.path)
        runs = resolve(study, Path("cache"))
        assert len(runs) == 4 * seeds + 1
        assert {run.row.measure for run in runs if run.seed is None} == {"teacher"}
        assert re.search(rf"num_epochs:.* {40 if scale is None else 2}\n", runs[0].recipe.text())


PYTHON = [
    pytest.param(block, id=f"{title_of(document)}-{number}")
    for document in DOCUMENTS
    for number, block in enumerate(blocks(document, "python"))
]


def test_there_is_python_in_the_documents():
    assert len(PYTHON) >= 2


@pytest.mark.parametrize("block", PYTHON)
def test_a_block_of_python_runs_and_prints(block, capsys):
    for optional in ("lightning", "timm"):
        if f"import {optional}\n" in block:
            pytest.importorskip(optional)
    shutil.copy(recipe_file("quickstart/mixacm"), "mixacm.yaml")
    student = Path(read_recipe("mixacm.yaml").build("models")["student_model"]["dst_ckpt"])
    student.parent.mkdir(parents=True)
    shutil.copy(recipe_file("quickstart/teacher.pt"), student)  # of the same architecture
    exec(compile(block, "document", "exec"), {})
    assert capsys.readouterr().out
