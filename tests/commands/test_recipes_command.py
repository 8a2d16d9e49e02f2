"""The commands that list, copy and show recipes."""

from pathlib import Path

import pytest

from mixacm_plugin.reading.library import override_names, recipe_names, study_names
from recipes import mixacm, run, write


def test_recipes_are_listed_with_their_titles(capsys):
    assert run("main", "recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    names = [*recipe_names(), *override_names(), *study_names()]
    titled = [line for line in lines if line.startswith("  ")]
    assert [line.split()[0] for line in titled] == names
    assert all(len(line.split()) > 3 for line in titled)
    assert [line.split()[0] for line in lines if line and line not in titled] == [
        "Recipes,",
        "Override",
        "Studies,",
    ]
    quickstart = {f"quickstart/{n}" for n in ("teacher", "mixacm", "kd_mixup", "kd", "scratch")}
    assert quickstart <= set(recipe_names())


def test_a_recipe_is_copied_and_never_overwritten(capsys):
    assert run("main", "recipes", "copy", "quickstart/mixacm", "mine") == 0
    copied = Path(capsys.readouterr().out.strip())
    assert copied == Path("mine/mixacm.yaml")
    copied.write_text("edited")
    for to in ("mine", "mine/mixacm.yaml"):
        assert run("main", "recipes", "copy", "quickstart/mixacm", to) == 2
        assert "mine/mixacm.yaml exists" in capsys.readouterr().err
    assert run("main", "recipes", "copy", "quickstart/mixacm", "other/my.yaml") == 0
    assert Path("other/my.yaml").is_file()
    assert copied.read_text() == "edited"


def test_an_unknown_recipe_is_refused_with_the_known_ones(capsys):
    assert run("main", "recipes", "copy", "quickstart/mixacn", ".") == 2
    error = capsys.readouterr().err
    assert "no shipped recipe 'quickstart/mixacn'" in error
    assert "quickstart/mixacm" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("check", "compare/at"), "compare/at: it is an override file: --set compare/at"),
        (("check", "studies/blocks"), "studies/blocks: it is a study: mixacm study studies/blocks"),
        (("study", "quickstart/mixacm"), "it is a recipe: torchdistill --config quickstart/mixacm"),
    ],
)
def test_the_name_of_another_kind_of_file_is_answered_with_its_use(argv, words, capsys):
    assert run("main", *argv) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_shown_with_overrides_as_a_recipe(name, capsys):
    assert run("main", "recipes", "copy", name, ".") == 0
    copied = capsys.readouterr().out.strip()
    assert run("main", "show", "--config", copied, "--set", "train.log_freq=7") == 0
    shown = capsys.readouterr().out
    assert "log_freq: 7" in shown
    Path("shown.yaml").write_text(shown)
    assert run("main", "show", "--config", "shown.yaml") == 0
    assert capsys.readouterr().out == shown


def test_show_imports_nothing_that_a_recipe_names(capsys):
    write(mixacm().replace("- name: mixacm_plugin\n", "- name: mixacm_plugin\n  - name: theirs\n"))
    Path("theirs.py").write_text("raise SystemExit('imported')")
    assert run("main", "show", "--config", "recipe.yaml") == 0
    assert "theirs" in capsys.readouterr().out
