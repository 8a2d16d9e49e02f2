"""``mixacm new`` with models of the user's own: what is imported, and what is taken along."""

import importlib
import os
import sys
from pathlib import Path

import pytest
from torchdistill.models import registry

from mixacm_plugin import read_recipe
from mixacm_plugin.projects.modules import STUB
from mixacm_plugin.projects.writing import write
from projects import MODELS, new, text_of
from shapes import draw_shapes

NET = STUB.read_text()
TEACHER = MODELS[4:]


def forget_own_modules():
    """Another command, in a process of its own, has none of them."""
    for name in [name for name in sys.modules if name.partition(".")[0].startswith("mine")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture(autouse=True)
def _nothing_of_another_test(monkeypatch):
    monkeypatch.delitem(registry.MODEL_DICT, "Net", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    forget_own_modules()


@pytest.mark.slow
def test_a_module_beside_the_project_is_taken_along_and_one_in_it_is_left_alone(capsys):
    draw_shapes("images", 5)
    Path("mine.py").write_text(NET)
    assert new(models=("--student", "mine.Net", *MODELS[4:])) == 0
    assert "p/mine.py: a copy of mine.py" in capsys.readouterr().out
    assert Path("p/mine.py").read_text() == NET
    assert "- name: mine " in text_of("mixacm.yaml")
    assert "- name: mine" not in text_of("teacher.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "words"),
    [
        (NET.replace("@register_model", ""), "no model 'Net' is registered. … Put @register_model"),
        (f"import nowhere\n{NET}", "No module named 'nowhere'"),
        (NET.replace("(2, 3)))", "(2, 3))), features"), "a tuple … take logits alone"),
        (NET.replace("(2, 3)))", "(2, 3))).softmax(1)"), "probabilities … leave its softmax out"),
    ],
)
def test_a_module_that_is_mended_is_taken_by_the_same_command(capsys, first, words):
    draw_shapes("images", 5)
    models = ("--student", "mine.Net", *TEACHER)
    Path("mine.py").write_text(first)
    assert new(models=models) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(part in line for part in words.split(" … "))  # which may suggest others
    assert not Path("p").exists()
    Path("mine.py").write_text(NET)
    forget_own_modules()
    assert new(models=models) == 0
    assert text_of("mine.py") == NET


def test_a_model_that_is_not_registered_is_told_with_the_file_that_was_read(capsys):
    draw_shapes("images", 5)
    Path("p").mkdir()
    Path("p/mine.py").touch()
    Path("mine.py").write_text(NET)
    assert new(models=("--student", "mine.Nett", *TEACHER)) == 2
    assert f"Put @register_model above it in {Path('p/mine.py').resolve()}" in (
        capsys.readouterr().err
    )


def test_a_stub_is_written_only_if_all_else_is_right():
    draw_shapes("images", 5)
    assert new(models=("--student", "mine.Net", "--teacher", "resnt18")) == 2
    assert not Path("p").exists()


@pytest.mark.slow
def test_what_a_module_imports_from_the_working_folder_is_taken_along(capsys, monkeypatch):
    draw_shapes("images", 5)
    library = Path("env/lib").resolve()  # an environment in the working folder is found from all
    monkeypatch.setenv("PYTHONPATH", str(library), prepend=os.pathsep)
    monkeypatch.syspath_prepend(library)
    imports = "import mine_blocks, mine_library\nfrom .parts import WIDTH\n"
    write(
        Path(),
        {
            "mine_blocks.py": "",
            "mine/__init__.py": "",
            "mine/parts.py": "WIDTH = 3",
            "mine/nets.py": imports + NET,
            "mine/another.py": "",
            "env/lib/mine_library.py": "",
        },
    )
    assert new(models=("--student", "mine.nets.Net", *TEACHER)) == 0
    assert "p/mine/parts.py: a copy of mine/parts.py" in capsys.readouterr().out
    taken = {str(path.relative_to("p")) for path in Path("p").rglob("*.py")}
    assert taken == {"mine_blocks.py", "mine/__init__.py", "mine/parts.py", "mine/nets.py"}

    sys.path.remove(str(Path.cwd()))
    monkeypatch.chdir("p")
    forget_own_modules()
    read_recipe("mixacm.yaml")
    assert Path(sys.modules["mine_blocks"].__file__).parent == Path.cwd()
