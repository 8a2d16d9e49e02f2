"""A file beside a recipe can be a dependency: in every command, in a study's processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from mixacm_plugin.studies.runs import resolve
from mixacm_plugin.studies.study import read_study
from recipes import run, scratch, write

MODULE = """\
from torch import nn
from torchdistill.models.registry import register_model

@register_model
def {name}():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
"""
STUDY = """\
base: project/recipe.yaml
seeds: [0]
evaluate: [{attack: clean, n: 20}]
rows: [{name: own}]
"""


def project(name):
    """A recipe in a folder, beside a module with the model that it names."""
    text = scratch().replace("key: dm_wide_resnet", f"key: {name}")
    text = text.replace("{depth: 10, width: 1, num_classes: 10}", "{}")
    write(text.replace("- name: mixacm_plugin\n", f"- name: mixacm_plugin\n  - name: {name}\n"))
    Path("project").mkdir()
    Path("recipe.yaml").rename("project/recipe.yaml")
    Path(f"project/{name}.py").write_text(MODULE.format(name=name))


def key():
    """What the study's run is known by."""
    (found,) = resolve(read_study("study.yaml"), Path("cache"))
    return found.key


def test_a_module_beside_the_recipe_is_found_behind_what_is_installed():
    project("beside_the_recipe")
    assert run("main", "check", "--config", "project/recipe.yaml", "--device", "cpu") == 0
    assert sys.path[-1] == str(Path("project").resolve())


@pytest.mark.slow
@pytest.mark.usefixtures("processes_that_find_the_tests_data")
def test_a_studys_processes_find_it_and_its_change_is_another_run():
    project("in_a_study")
    Path("study.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "mixacm_plugin", "study", "study.yaml", "--device", "cpu"]
    assert subprocess.run(command, check=False).returncode == 0
    before = key()
    module = Path("project/in_a_study.py")
    module.write_text(module.read_text() + "\n")
    assert key() != before


@pytest.mark.parametrize(
    ("name", "dependencies"),
    [("a_name", "a_name"), ("in_a_list", "[in_a_list]"), ("of_two", "[[of_two, null]]")],
)
def test_its_change_is_another_run_in_all_ways_of_naming_it(name, dependencies):
    project(name)
    recipe = Path("project/recipe.yaml")
    listed = f"- name: mixacm_plugin\n  - name: {name}\n"
    text = recipe.read_text()
    assert listed in text
    recipe.write_text(text.replace(f"\n  {listed}", f" {dependencies}\n"))
    Path("study.yaml").write_text(STUDY)
    before = key()
    module = Path(f"project/{name}.py")
    module.write_text(module.read_text() + "\n")
    assert key() != before


@pytest.mark.parametrize(
    ("dependency", "changed"),
    [
        ("pack_a/__init__.py", "pack_a/net.py"),
        ("pack_b/__init__.py", "beside_b.py"),
        ("single_c.py", "beside_c.py"),
        ("single_d.py", "pack_d/deep/net.py"),
    ],
)
def test_a_change_of_what_it_imports_is_another_run(dependency, changed):
    name = dependency.removesuffix(".py").split("/")[0]
    project(name)
    own = Path(f"project/{name}.py")
    text = own.read_text()
    own.unlink()
    imported = changed.split("/")[0].removesuffix(".py")
    for file in (dependency, changed):
        Path("project", file).parent.mkdir(parents=True, exist_ok=True)
    relative = "from . import net\n" if imported == name else f"import {imported}\n"
    Path("project", dependency).write_text(relative + text)
    Path("project", changed).write_text("")
    Path("study.yaml").write_text(STUDY)
    before = key()
    assert key() == before
    Path("project", changed).write_text("x = 1\n")
    assert key() != before


@pytest.mark.parametrize(
    ("more", "noticed"), [("", True), (", download: True", False), (", download: False", True)]
)
def test_a_change_in_a_datasets_folder_is_another_run_unless_it_is_downloaded(more, noticed):
    Path("images/cat").mkdir(parents=True)
    Path("images/cat/1.png").write_bytes(b"one")
    text = scratch()
    assert "split: test" in text
    Path("recipe.yaml").write_text(text.replace("split: test", f"root: images{more}"))
    Path("study.yaml").write_text(STUDY.replace("project/", ""))
    keys = []
    for write_more in (b"one", b"another", b"another"):
        Path("images/cat/1.png").write_bytes(write_more)
        keys.append(key())
    Path("images/cat/2.png").write_bytes(b"")
    keys.append(key())
    assert len(set(keys)) == (3 if noticed else 1)


def test_a_change_of_a_module_that_only_a_tag_names_is_another_run():
    module = Path("named_by_a_tag.py")
    module.write_text("from recipes import Few\n")
    text = scratch()
    assert "recipes.Few" in text
    write(text.replace("recipes.Few", "named_by_a_tag.Few"))
    Path("study.yaml").write_text(STUDY.replace("project/", ""))
    before = key()
    module.write_text("from recipes import Few\nx = 1\n")
    assert key() != before


@pytest.mark.parametrize("name", ["!pathjoin [files, init.pt]", "!join [files/in, it.pt]"])
def test_a_change_of_a_file_that_a_tag_names_is_another_run(name):
    Path("files").mkdir()
    write(scratch().replace("dst_ckpt:", f"src_ckpt: {name}\n    dst_ckpt:"))
    Path("study.yaml").write_text(STUDY.replace("project/", ""))
    keys = []
    for content in (b"one", b"two"):
        Path("files/init.pt").write_bytes(content)
        keys.append(key())
    assert keys[0] != keys[1]
