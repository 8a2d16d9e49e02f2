"""Every mistake that a recipe's YAML shows is told at once, with nothing constructed."""

import pickle

import pytest

from mixacm_plugin import RecipeError
from mixacm_plugin.reading.checks import check_yaml
from recipes import mixacm, recipe, run, two_stages, write

TERMS = "train.criterion.kwargs.sub_terms"


def edited(*changes, text=None):
    text = text or mixacm()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def places(text):
    """Key paths of the mistakes in a recipe."""
    with pytest.raises(RecipeError) as error:
        check_yaml(recipe(text))
    return [line.split(": ")[1] for line in error.value.lines()]


@pytest.mark.parametrize("command", [("torchdistill",), ("main", "check")])
def test_three_misspelt_keys_are_three_lines_and_nothing_is_constructed(command, capsys):
    text = edited(
        ("src_ckpt", "src_chkpt"),
        ("collate_fn", "colate_fn"),
        ("scheduler", "schedular"),
        ("recipes.Few", "recipes.OutOfReach"),
    )
    write(text)
    assert run(*command, "--config", "recipe.yaml") == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[3] for line in lines] == [
        "models.teacher_model.src_chkpt",
        "train.train_data_loader.colate_fn",
        "train.schedular",
    ]
    assert all("unknown key. Did you mean" in line for line in lines)


def test_mistakes_of_every_kind_are_told_together():
    text = edited(
        ("num_epochs: 2", "num_epochs: two"),
        ("dataset_id: few/train", "dataset_id: few/trian"),
        ("key: SGD", "key: SDG"),
        ("key: ACMLoss", "key: ACMLos"),
        ("weight: 1.0", "weight: heavy"),
    )
    assert places(text) == [
        "train.num_epochs",
        "train.optimizer.key",
        f"{TERMS}.kd.weight",
        f"{TERMS}.acm.criterion.key",
        "train.train_data_loader.dataset_id",
    ]


@pytest.mark.parametrize(
    "change",
    [
        ("num_epochs", "num_epocs"),  # and is therefore not there
        ("requires_grad", "require_grad"),  # and so the teacher would be trained
        ("forward_hook: {output", "forward_hook: {ouput"),  # and so nothing is hooked
        ("teacher_model:", "teacher_mode:"),  # and so ACMLoss has no teacher
        ("  student_model:", "  student_modell:"),
        ("criterion:\n    key", "criterion:\n    kee"),
    ],
)
def test_what_follows_from_a_mistake_is_not_told(change):
    assert len(places(edited(change))) == 1


def test_what_an_alias_repeats_is_told_once():
    text = two_stages(mixacm())  # the second stage is an alias of the first
    assert places(edited(("key: KDLoss", "key: KDLos"), text=text)) == [
        "train.stage1.criterion.kwargs.sub_terms.kd.criterion.key"
    ]


def test_all_errors_come_from_another_process():
    with pytest.raises(RecipeError) as error:
        check_yaml(recipe(edited(("num_epochs", "num_epocs"), ("scheduler", "schedular"))))
    again = pickle.loads(pickle.dumps(error.value))
    assert type(again) is type(error.value)
    assert str(again) == str(error.value)
    assert len(again.lines()) == 2


def test_a_right_recipe_has_no_mistakes():
    assert check_yaml(recipe()) == []
