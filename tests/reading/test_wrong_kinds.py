"""Recipes with a value of the wrong kind: an error of one line, wherever the value stands."""

import pytest
import yaml

from mixacm_plugin import RecipeError, Training
from mixacm_plugin.reading.nodes import children_of, put, walk
from recipes import CPU, mixacm, recipe

WRONG = ("x", "null", "[1]", "7", "{a: 1}")


@pytest.mark.slow
def test_no_value_of_a_wrong_kind_ends_in_a_traceback():
    built = recipe(mixacm(2, 1, "affine"))
    tracebacks, refused = [], 0
    for path, parent in list(walk(built.root)):
        for name, child in children_of(parent, merged=False).items():
            for value in WRONG:
                put(parent, name, yaml.compose(value))
                try:
                    Training(built, CPU)  # all that is done before the first step
                except RecipeError:
                    refused += 1
                except Exception as error:
                    tracebacks.append(f"{path}.{name}={value}: {type(error).__name__}: {error}")
            put(parent, name, child)
    assert tracebacks == []
    assert refused > 500
    Training(built, CPU)
