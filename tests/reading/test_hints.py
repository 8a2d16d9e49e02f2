"""What an error says of mistakes that are easily made: how to write what was meant."""

from pathlib import Path

import pytest

from mixacm_plugin import RecipeError
from mixacm_plugin.reading.checks import check_yaml
from recipes import mixacm, recipe, two_stages

LR = "train.optimizer.kwargs"
PAIR = "train.criterion.kwargs.sub_terms.acm.criterion.kwargs.pairs.last.student"


def mistakes(text=None, *overrides):
    """Each mistake in a recipe, as key path and message."""
    with pytest.raises(RecipeError) as error:
        check_yaml(recipe(text, *overrides))
    return [line.removeprefix("recipe.yaml: ") for line in error.value.lines()]


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        (
            "{lr: 0.05,",
            "{lr: 0,05,",
            f"{LR}.05",
            "expected a name; found 05 after a comma; if it belongs to 0, write 0.05",
        ),
        (
            "{lr: 0.05, momentum: 0.9}",
            "\n      lr: 0,2",
            f"{LR}.lr",
            "expected a number above 0; found '0,2'; write 0.2",
        ),
        (
            "num_epochs: 2",
            "num_epochs: 2,5",
            "train.num_epochs",
            "expected a whole number of at least 1; found '2,5'",
        ),
        (
            "student: {path: relu, io: output}",
            "student: {path: relu, io: outputs}",
            f"{PAIR}.io",
            "expected input or output; found 'outputs'",
        ),
        (
            "student: {path: relu, io: output}",
            "student: {path: relu}",
            f"{PAIR}.io",
            "expected input or output; found None",
        ),
    ],
    ids=["comma in braces", "comma", "comma in a count", "io", "no io"],
)
def test_the_mistake_itself_is_told_with_how_to_write_it(old, new, where, message):
    assert old in mixacm()
    assert f"{where}: {message}" in mistakes(mixacm().replace(old, new))


@pytest.mark.parametrize(
    ("given", "lacks", "instead"),
    [
        ("train:\n  num_epochs: 3", "train.criterion", "train.num_epochs: 3"),
        (
            "train: {optimizer: {kwargs: {lr: 0.1}}, num_epochs: 2}",
            "train.criterion",
            "train.optimizer.kwargs.lr: 0.1",
        ),
        (
            "models: {student_model: {src_ckpt: s.pt}}",
            "models.student_model.key",
            "models.student_model.src_ckpt: s.pt",
        ),
        (
            "test: {test_data_loader: {kwargs: {batch_size: 9}}}",
            "test.test_data_loader.dataset_id",
            "test.test_data_loader.kwargs.batch_size: 9",
        ),
    ],
)
def test_a_nested_override_that_would_leave_out_the_rest_is_told_as_key_paths(
    given, lacks, instead
):
    Path("o.yaml").write_text(given)
    with pytest.raises(RecipeError) as error:
        recipe(None, "o.yaml")
    path = given.partition(":")[0]
    said = f"replaces all of {path}, without {lacks}; write what is to change: {instead}"
    assert str(error.value) == f"recipe.yaml: --set o.yaml: {path}: {said}"


def test_an_override_that_leaves_out_the_rest_is_told_in_the_form_of_set():
    with pytest.raises(RecipeError, match=r"write what is to change: train\.num_epochs=3$"):
        recipe(None, "train={num_epochs: 3}")


def test_a_whole_section_may_take_anothers_place():
    train = two_stages(mixacm()).split("\ntrain:\n")[1].split("\ntest:\n")[0]
    train = train.replace("&in_order ", "")
    Path("o.yaml").write_text(f"train:\n{train}\n")
    alone = "models={model: {key: dm_wide_resnet, kwargs: {}}}"
    assert recipe(None, "o.yaml", alone).build("train", "stage2", "num_epochs") == 2
