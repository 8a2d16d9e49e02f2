"""What an error says of mistakes that are easily made: how to write what was meant."""

import pytest

from mixacm_plugin import RecipeError
from mixacm_plugin.reading.checks import check_yaml
from recipes import mixacm, recipe

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
