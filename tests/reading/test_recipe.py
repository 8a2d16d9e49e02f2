"""Reading and overriding recipes, and where a wrong one is said to be wrong."""

import pickle
from pathlib import Path

import pytest
from torchdistill.common.yaml_util import load_yaml_file

from mixacm_plugin import RecipeError, Training, read_recipe
from mixacm_plugin.parts.acm.pairs import PairError
from mixacm_plugin.reading.sections import get
from recipes import CPU, mixacm, run, two_stages, write
from weights import differing, state

DOCUMENT = """\
model: &model {width: 1, mean: [0.1, 0.2]}
teacher: {kwargs: *model}
student: {kwargs: *model}
epochs: &epochs 40
scheduler: {T_max: *epochs}
collate: !import_call {key: mixacm_plugin.mixup_collate, init: {kwargs: {alpha: 1.0, num_classes: 10}}}
val: &val {dataset_id: val, kwargs: {batch_size: 200}}
test: {<<: *val, dataset_id: test}
stages: [{lr: 0.1}, {lr: 0.2}]
digits/v1.0/train: {n: 1}
"""  # noqa: E501


def read(text, *overrides):
    Path("r.yaml").write_text(text)
    return read_recipe("r.yaml", overrides)


@pytest.mark.parametrize(
    "overrides, expected",
    [
        ([], {"epochs": 40, "scheduler.T_max": 40, "test.kwargs.batch_size": 200}),
        (["student=3"], {"student": 3}),
        (["student=null"], {"student": None}),
        (["student={a: [1, 2.5]}"], {"student": {"a": [1, 2.5]}}),
        (["student=two words"], {"student": "two words"}),
        (["stages.1.lr=0.5"], {"stages": [{"lr": 0.1}, {"lr": 0.5}]}),
        (["model.mean.0=0.9"], {"model.mean": [0.9, 0.2], "student.kwargs.mean": [0.9, 0.2]}),
        (
            ["collate.init.kwargs.alpha=0.2"],
            {"collate": "mixup_collate(alpha=0.2, num_classes=10, noise=0.0)"},
        ),
        (["digits/v1.0/train.n=7"], {"digits/v1": None}),
        (["epochs=2"], {"epochs": 2, "scheduler.T_max": 2}),
        (["model.width=2"], {"teacher.kwargs.width": 2, "student.kwargs.width": 2}),
        (["model={width: 5}"], {"model": {"width": 5}, "teacher.kwargs": {"width": 5}}),
        (["scheduler.T_max=2"], {"epochs": 40, "scheduler.T_max": 2}),
        (
            ["student.kwargs.width=2"],
            {"model.width": 1, "teacher.kwargs.width": 1, "student.kwargs.width": 2},
        ),
        (
            ["student.kwargs.mean.1=0.9"],
            {"model.mean": [0.1, 0.2], "student.kwargs.mean": [0.1, 0.9]},
        ),
        (["epochs=2", "scheduler.T_max=5"], {"epochs": 2, "scheduler.T_max": 5}),
        (["scheduler.T_max=5", "epochs=2"], {"epochs": 2, "scheduler.T_max": 5}),
        (
            ["student.kwargs.width=2", "model.width=3"],
            {"student.kwargs.width": 2, "model.width": 3},
        ),
        (["epochs=2", "epochs=3"], {"epochs": 3, "scheduler.T_max": 3}),
        (
            ["val.kwargs.batch_size=8"],
            {"val.kwargs.batch_size": 8, "test.kwargs.batch_size": 8},
        ),
        (["val.dataset_id=other"], {"val.dataset_id": "other", "test.dataset_id": "test"}),
        (["val={kwargs: 1}"], {"val": {"kwargs": 1}, "test.kwargs": 1}),
        (
            ["test.kwargs.batch_size=8"],
            {"val.kwargs.batch_size": 200, "test.kwargs.batch_size": 8},
        ),
        (["test.dataset_id=other"], {"val.dataset_id": "val", "test.dataset_id": "other"}),
        (["test.kwargs=1"], {"val.kwargs": {"batch_size": 200}, "test.kwargs": 1}),
    ],
    ids=" ".join,
)
def test_an_override_changes_its_value_and_the_aliases_of_it(overrides, expected):
    built = read(DOCUMENT, *overrides).build()
    assert {path: get(built, path) for path in expected} == expected


def test_a_key_that_contains_dots_can_be_overridden():
    assert read(DOCUMENT, "digits/v1.0/train.n=7").build("digits/v1.0/train") == {"n": 7}


OVERRIDE_FILE = """\
# A comment
scheduler.T_max: &n 3
stages: [{lr: *n}]
teacher.kwargs.width: 5
collate: !import_call {key: mixacm_plugin.mixup_collate, init: {kwargs: {alpha: 2, num_classes: 10}}}
student.more: {added: *n}
val.kwargs.drop_last: True
"""  # noqa: E501


def test_an_override_file_replaces_values_and_adds_keys():
    Path("changes.yaml").write_text(OVERRIDE_FILE)
    built = read(DOCUMENT, "changes.yaml", "epochs=2").build()
    expected = {
        "epochs": 2,
        "scheduler.T_max": 3,
        "stages": [{"lr": 3}],
        "teacher.kwargs.width": 5,
        "student.kwargs.width": 1,
        "student.more": {"added": 3},
        "collate": "mixup_collate(alpha=2, num_classes=10, noise=0.0)",
        "test.kwargs": {"batch_size": 200, "drop_last": True},
    }
    assert {path: get(built, path) for path in expected} == expected


@pytest.mark.parametrize(
    "text, words",
    [
        ("modle.width: 2", "--set f.yaml: modle.width: no 'modle' in the recipe.*'model'"),
        ("model.width.deeper: 2", "no 'deeper' in model.width; it has no keys"),
        ("[1, 2]", "f.yaml: expected a mapping of key paths to values"),
        ("", "f.yaml: expected a mapping of key paths to values"),
        ("epochs: 3\nepochs: 5", "f.yaml: key 'epochs' is given twice"),
        ("<<: {epochs: 3}", "f.yaml: expected a key path; found '<<'"),
        ("1: 3", "f.yaml: expected a key path; found '1'"),
        ("? [a, b]\n: 3", "f.yaml: expected a key path; found 'no text'"),
        ("a: [", "f.yaml: line 1, column 5: YAML syntax"),
    ],
)
def test_a_wrong_override_file_is_named(text, words):
    Path("f.yaml").write_text(text)
    with pytest.raises(RecipeError, match=words):
        read(DOCUMENT, "f.yaml")


@pytest.mark.parametrize("first", ["teacher", "student"])
def test_what_an_override_file_anchors_is_overridden_with_its_aliases(first):
    second = {"teacher": "student", "student": "teacher"}[first]
    Path("f.yaml").write_text(f"{first}: &new {{width: 7}}\n{second}: *new\n")
    built = read(DOCUMENT, "f.yaml", f"{first}.width=8").build()
    assert (built["teacher"], built["student"]) == ({"width": 8}, {"width": 8})
    built = read(DOCUMENT, "f.yaml", f"{second}.width=8").build()
    assert (built[first], built[second]) == ({"width": 7}, {"width": 8})


def test_an_override_file_that_is_not_there_is_named():
    with pytest.raises(RecipeError, match=r"compare/none.*can't read the override file"):
        read(DOCUMENT, "compare/none")


@pytest.mark.parametrize(
    "override, words",
    [
        ("modle.width=2", "no 'modle' in the recipe; it has model, .*Did you mean 'model'?"),
        ("model.wdith=2", r"no 'wdith' in model; it has width, mean\. Did you mean 'width'?"),
        ("stages.2.lr=1", "no '2' in stages; it has 0, 1"),
        ("epochs.more=1", "no 'more' in epochs; it has no keys"),
        ("collate.init.kwargs.alhpa=1", "no 'alhpa' in collate.init.kwargs; it has alpha, num_"),
        ("test.kwargs.size=1", "no 'size' in test.kwargs; it has batch_size"),
        ("epochs", "expected key.path=value"),
        ("=3", "expected key.path=value"),
        ("epochs=[1", "YAML syntax"),
        ("epochs=5e-4", r"YAML reads 5e-4 as text, not as a number; write 5\.0e-4"),
    ],
)
def test_a_wrong_override_is_named_with_the_keys_that_are_there(override, words):
    with pytest.raises(RecipeError, match=words):
        read(DOCUMENT, override)


@pytest.mark.parametrize(
    "text, where, words",
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "line 3, column 2", "expected ',' or ']'"),
        ("a: b: c\n", "line 1, column 5", "mapping values are not allowed here"),
        ("a:\n\t- 1\n", "line 2, column 1", "cannot start any token"),
        ("a: *nobody\n", "line 1, column 4", "undefined alias 'nobody'"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1", "another document"),
        ("a: \x01\n", "", "special characters are not allowed"),
        ("a: {b: 1, c: 2, b: 3}\n", "a", "key 'b' is given twice (from line 1)"),
        ("a: 1\nb: 2\na: 3\n", "", "key 'a' is given twice (from line 1)"),
        ("a:\n  lr: 5e-4\n", "a.lr", "YAML reads 5e-4 as text, not as a number; write 5.0e-4"),
        ("a: [0.1, 1E5]\n", "a.1", "write 1.0e+5"),
        ("a: 1.5e3\n", "a", "write 1.5e+3"),
        ("- 1\n", "", "expected a mapping with datasets, models, train and test"),
        ("", "", "expected a mapping"),
        ("dependencies: [{name: no_such_package}]\n", "dependencies.0", "'no_such_package'"),
        ("dependencies: [{name: os}, {nmae: os}]\n", "dependencies.1", "'nmae'"),
    ],
)
def test_a_broken_file_is_refused_in_one_line_that_says_where(text, where, words):
    with pytest.raises(RecipeError) as caught:
        read(text)
    assert str(caught.value).startswith(f"r.yaml: {where}: " if where else "r.yaml: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: 5.0e-4", "a: '5e-4'", "a: 1e", "a: e5", "a: 0x1e5"])
def test_what_only_looks_like_a_number_read_as_text_is_accepted(text):
    assert read(text).build() == load_yaml_file("r.yaml")


def test_a_file_that_cannot_be_read_is_named():
    with pytest.raises(RecipeError, match=r"^none\.yaml: can't read the recipe: No such file"):
        read_recipe("none.yaml")
    Path("latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(RecipeError, match=r"^latin\.yaml: can't read the recipe: .*utf-8"):
        read_recipe("latin.yaml")


@pytest.mark.parametrize(
    "text, path, words",
    [
        ("a: !import_call {key: mixacm_plugin.Digitz}", ["a"], "Digitz"),
        (
            "a: {b: !import_call {key: mixacm_plugin.Digits, init: {kwargs: {split: dev}}}}",
            ["a", "b"],
            "split must be one of train, val, test; found 'dev'",
        ),
        ("a: !nope 1", ["a"], "!nope"),
        ("a: {b: 1, bc: 2}", ["a", "x"], "missing; there is b, bc"),
    ],
)
def test_what_cannot_be_built_is_named_by_its_key_path(text, path, words):
    with pytest.raises(RecipeError) as caught:
        read(text).build(*path)
    assert str(caught.value).startswith(f"r.yaml: {'.'.join(path)}: ")
    assert words in str(caught.value)


def test_only_what_is_asked_for_is_built():
    recipe = read("a: {n: 1}\nb: !import_call {key: recipes.OutOfReach}")
    assert recipe.build("a") == {"n": 1}
    with pytest.raises(RecipeError, match="no such folder"):
        recipe.build()


@pytest.mark.parametrize(
    "text, overrides",
    [
        (mixacm(), ["train.num_epochs=1", "train.train_data_loader.kwargs.batch_size=7"]),
        (mixacm(2, 1, "affine"), []),
        (two_stages(mixacm()), ["train.stage2.optimizer.kwargs.lr=0.5"]),
    ],
    ids=["plain", "affine", "stages"],
)
def test_the_printed_recipe_is_a_recipe_to_the_same_effect(text, overrides):
    recipe = read_recipe(write(text), overrides)
    Path("printed.yaml").write_text(recipe.text())
    students = []
    for one in (recipe, read_recipe("printed.yaml")):
        training = Training(one, CPU, seed=0)
        training.run()
        students.append(state(training.models["student"]))
    assert not differing(*students)
    assert load_yaml_file("printed.yaml")["models"] == recipe.build("models")


def test_a_shipped_recipe_is_read_by_its_name():
    shipped = read_recipe("quickstart/kd", ["train.num_epochs=3"])
    assert shipped.path == "quickstart/kd"
    assert shipped.build("train", "num_epochs") == 3
    with pytest.raises(RecipeError, match=r"can't read the recipe.*'quickstart/kd'"):
        read_recipe("quickstart/kdd")


@pytest.mark.parametrize(
    "error", [RecipeError("a.yaml", "train", "wrong"), PairError("pairs.a", "wrong")]
)
def test_an_error_comes_whole_from_another_process(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.where) == (type(error), str(error), error.where)


def test_a_recipe_that_is_not_there_is_refused(capsys):
    assert run("torchdistill", "--config", "none.yaml") == 2
    error = capsys.readouterr().err
    assert error.startswith("torchdistill: error: none.yaml: can't read the recipe: No such file")
    assert error.count("\n") == 1
