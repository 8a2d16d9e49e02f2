"""What ``mixacm check`` suggests for a recipe that isn't MixACM yet."""

import re

import yaml

from architectures import Branches
from mixacm_plugin.preflight.inspection import inspect_recipe
from recipes import CPU, mixacm, recipe, write

SHAPE = (3, 8, 8)
KD_ONLY = re.sub(r"        acm:.*?weight: 20\.0\n", "", mixacm(), flags=re.DOTALL)
EVAL_LINE = "  pre_epoch_process: keep_teacher_in_eval\n"


def inspect(text=None, *overrides, **settings):
    return inspect_recipe(recipe(text, *overrides), CPU, seconds=0, **settings)


def test_a_recipe_with_the_hosts_parts_only_gets_lines_that_make_it_mixacm():
    text = re.sub(
        r"(?m)^dependencies:\n.*\n|^    forward_hook: .*\n|^    collate_fn: .*\n", "", KD_ONLY
    )
    found = inspect(text.replace(EVAL_LINE, ""), input_shape=SHAPE)
    assert len(found.warnings) == 1
    assert found.stages[0].pairs == []
    # The recipe with these lines merged in is one with pairs.
    write(text)
    source = re.sub(
        r"(?m)^datasets:\n(  .*\n)*", "datasets: {few/train: 1, few/val: 2, few/test: 3}\n", text
    )
    config = yaml.load(source.replace("!import_get", ""), yaml.SafeLoader)
    added = yaml.safe_load("\n".join(line for line, _ in found.suggestion))
    merged = yaml.safe_dump(merge(config, {"train": added})).replace(
        "class_or_func:", "class_or_func: !import_get"
    )
    after = inspect(merged, input_shape=SHAPE)
    assert after.warnings == []
    assert [end.channels for end in after.stages[0].pairs] == [16, 16, 16, 16, 32, 32, 64, 64]
    assert after.suggestion == []


def merge(one, other):
    """Two nested mappings in one; the other's values win."""
    both = dict(one)
    for name, value in other.items():
        both[name] = merge(one[name], value) if isinstance(value, dict) and name in one else value
    return both


def test_a_student_of_an_unknown_family_gets_a_suggestion_or_a_reason():
    other = "key: squeezenet1_1\n    kwargs: {num_classes: 10}"
    text = re.sub(r"(?<=student_model:\n    )key: .*\n.*", other, KD_ONLY)
    none = ("train.student.forward_hook={}",)
    found = inspect(text, *none, input_shape=(3, 64, 64), batch_size=2)
    assert "    output: [features.1, features.4, features.7, features]" in dict(found.suggestion)
    text = text.replace(other, f"key: {Branches.__name__}\n    kwargs: {{}}")
    found = inspect(text, *none, input_shape=(3, 64, 64), batch_size=2)
    assert found.suggestion == []
    assert "no hook points found in Branches" in found.warnings[0]
