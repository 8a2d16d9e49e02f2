"""What a recipe hooks: modules that are called more than once, and where their channels are."""

import pytest

from architectures import CONVNEXT, RESNET, SWIN, VIT, between, end, pairs_of
from mixacm_plugin import RecipeError, Training
from mixacm_plugin.preflight.inspection import inspect_recipe
from mixacm_plugin.training.prepare import prepare
from recipes import CPU, mixacm, recipe, run, write
from weights import differing, state

MAX = {"side": "teacher", "kind": "adaptive_max_pool"}
RANDOM = "the teacher's weights are random"
PAIR = "train.criterion.kwargs.sub_terms.acm.criterion.kwargs.pairs.only"


def swin(**layout):
    return between(
        "tiny_swin", "tiny_swin", pairs_of(end(SWIN[0], **layout), end(SWIN[0], **layout))
    )


def warnings(text):
    found = inspect_recipe(recipe(text), CPU, seconds=0).warnings
    return [
        warning for warning in found if RANDOM not in warning and "isn't activated" not in warning
    ]


@pytest.mark.parametrize(
    ("models", "pairs"),
    [
        (("tiny_swin", "tiny_swin"), pairs_of(end(SWIN[1]), end(SWIN[1]), layout="nhwc")),
        (
            ("tiny_resnet", "tiny_swin"),
            pairs_of(end(RESNET[1]), end(SWIN[1], layout="nhwc"), transform=MAX),
        ),
        (("tiny_convnext", "tiny_convnext"), pairs_of(end(CONVNEXT[1]), end(CONVNEXT[1]))),
        (
            ("tiny_convnext", "tiny_vit"),
            pairs_of(end(CONVNEXT[1]), end(VIT[1], layout="tokens", prefix_tokens=1)),
        ),
    ],
    ids=["swin", "resnet to swin", "convnext", "convnext to vit"],
)
def test_models_of_other_layouts_train_and_pass_the_check(models, pairs):
    text = between(*models, pairs)
    assert warnings(text) == []
    training = Training(recipe(text), CPU, seed=0)
    before = state(training.models["student"])
    training.run()
    assert differing(before, state(training.models["student"]))


def test_height_taken_for_channels_is_refused(capsys):
    with pytest.raises(RecipeError, match=r"is \(N, H, W, C\), 8×8×8 here; found layout: nchw"):
        Training(recipe(swin()), CPU)
    write(swin())
    for command in (("torchdistill",), ("main", "check")):
        assert run(*command, "--config", "recipe.yaml", "--device", "cpu") == 2
        error = capsys.readouterr().err
        assert f"recipe.yaml: {PAIR}.teacher: the output of 'features.1'" in error
        assert "Write layout: nhwc" in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("models", "ends", "found"),
    [
        ("tiny_resnet", end("layer1", layout="nhwc"), "nhwc"),
        ("tiny_convnext", end("features.1", layout="nhwc"), "nhwc"),
    ],
)
def test_channels_taken_for_width_are_refused(models, ends, found):
    with pytest.raises(RecipeError, match=rf"is \(N, C, H, W\).*found layout: {found}"):
        Training(recipe(between(models, models, pairs_of(ends, ends))), CPU)


def test_a_layout_that_cannot_be_told_is_warned_of():
    text = between("FixedSize", "FixedSize", pairs_of(end("same"), end("same")), size=4)
    teacher, student = warnings(text)
    assert teacher.startswith(f"{PAIR}.teacher: 4×4×4 is taken for (N, C, H, W)")
    assert student.startswith(f"{PAIR}.student: 4×4×4 is taken for (N, C, H, W)")


def test_a_paired_module_that_is_called_twice_is_refused_unless_it_is_meant():
    for path in ("relu", "same"):
        twice = between("CallsTwice", "CallsTwice", pairs_of(end(path), end(path)))
        with pytest.raises(RecipeError, match=rf"'{path}' is called 2 times.*write call: last"):
            Training(recipe(twice), CPU)
    meant = between("CallsTwice", "CallsTwice", pairs_of(end("relu"), end("relu"), call="last"))
    Training(recipe(meant), CPU)
    assert warnings(meant) == []


def test_a_paired_module_that_returns_a_tuple_is_refused():
    pairs = pairs_of(end("block"), end("block", "input"))
    with pytest.raises(RecipeError, match=rf"{PAIR}.teacher: the output of 'block' is a tuple"):
        Training(recipe(between("ReturnsTuple", "ReturnsTuple", pairs)), CPU)


@pytest.mark.parametrize(
    ("module", "given", "found"),
    [("with_class", 0, 1), ("with_class", 1, 1), ("with_class", 2, 1), ("tokens", 1, 0)],
)
def test_class_tokens_that_the_pair_does_not_name_are_warned_of(module, given, found):
    ends = end(module, layout="tokens", prefix_tokens=given)
    told = warnings(between("Patches", "Patches", pairs_of(ends, ends)))
    number = 65 if module == "with_class" else 64
    words = f"of the {number} tokens {found} seem to be no positions; found prefix_tokens: {given}"
    sides = ("teacher", "student") if given != found else ()
    assert told == [f"{PAIR}.{side}: {words}" for side in sides]


def test_positions_before_the_images_are_refused():
    ends = end("positions_first", layout="tokens")
    words = rf"{PAIR}.teacher: the output of 'positions_first' doesn't begin with the images: of "
    words += r"one and of two it is 64 long there\. Set batch_first=True, or hook another module"
    with pytest.raises(RecipeError, match=words):
        Training(recipe(between("Patches", "Patches", pairs_of(ends, ends))), CPU)


def test_several_rows_of_an_image_are_warned_of():
    told = warnings(between("Patches", "Patches", pairs_of(end("rows"), end("rows"))))
    words = "the output of 'rows' has 64 rows of each image, which are matched one by one"
    assert [line.split("; ")[0] for line in told] == [
        f"{PAIR}.{side}: {words}" for side in ("teacher", "student")
    ]


TOKENS = end("tokens", layout="tokens")


@pytest.mark.parametrize(
    ("teacher", "student", "grid", "refused"),
    [
        (TOKENS, TOKENS, 2, True),
        (TOKENS, TOKENS, 1, False),
        (TOKENS, TOKENS, "full", False),
        (end("grid"), TOKENS, 2, False),
        (TOKENS, end("pool"), 2, True),  # a square, whatever the images
    ],
)
def test_tokens_of_oblong_images_have_cells_only_where_their_rectangle_is_told(
    teacher, student, grid, refused
):
    text = between("Patches", "Patches", pairs_of(teacher, student, grid=grid))
    Training(recipe(text), CPU)  # of square images
    oblong = text.replace("shape: [3, 16, 16]", "shape: [3, 4, 16]")
    if refused:
        words = rf"{PAIR}: found grid: 2 for 16 tokens of images that aren't square"
        with pytest.raises(RecipeError, match=words):
            Training(recipe(oblong), CPU)
    else:
        Training(recipe(oblong), CPU)


def test_a_hooked_module_that_is_called_twice_is_warned_of():
    pairs = pairs_of(end("second"), end("second"))
    text = between("CallsTwice", "CallsTwice", pairs)
    text = text.replace(
        "forward_hook: {input: [], output: [second]}", "forward_hook: {output: [second, relu]}", 1
    )
    assert warnings(text) == [
        "train.teacher.forward_hook.output: relu is called 2 times in a pass; the host keeps its "
        "last call"
    ]


def test_an_activation_before_its_activation_function_is_warned_of():
    pairs = pairs_of(end("second"), end("first"))
    found = inspect_recipe(recipe(between("CallsTwice", "CallsTwice", pairs)), CPU, seconds=0)
    raw = [warning for warning in found.warnings if "isn't activated" in warning]
    assert f"{PAIR}.teacher: the output of second falls to -" in raw[0]
    assert f"{PAIR}.student: the output of first falls to -" in raw[1]


@pytest.mark.parametrize(("weight", "count"), [("1.0e+9", 1), ("1.0", 0), ("0.0", 0)])
def test_a_term_that_drowns_the_rest_is_warned_of(weight, count):
    change = f"train.criterion.kwargs.sub_terms.acm.weight={weight}"
    found = inspect_recipe(recipe(None, change), CPU, seconds=0).warnings
    assert ["acm: its gradient is " in warning for warning in found] == [True] * count


def test_a_term_that_trains_nothing_is_warned_of():
    # The teacher with itself: what a misspelt is_from_teacher makes of a loss.
    same = "{is_from_teacher: True, module_path: relu, io: output}"
    term = (
        "        l2: {criterion: {key: MSELoss, kwargs: {}}, criterion_wrapper: "
        f"{{key: SimpleLossWrapper, kwargs: {{input: {same}, target: {same}}}}}, weight: 1.0}}\n"
    )
    text = mixacm().replace("      sub_terms:\n", "      sub_terms:\n" + term)
    (warning,) = inspect_recipe(recipe(text), CPU, seconds=0).warnings
    assert warning.endswith("sub_terms.l2: its gradient is zero at the start, so it trains nothing")
    assert prepare(recipe(text), CPU).warnings == [warning]  # which training shows, too
    assert not prepare(recipe(text.replace("weight: 1.0}\n", "weight: 0.0}\n", 1)), CPU).warnings


WINDOWS = end("windows", layout="nhwc")


@pytest.mark.parametrize(
    ("teacher", "student", "grid", "refused"),
    [
        (WINDOWS, end("grid"), 1, None),
        (WINDOWS, end("grid"), 2, "teacher"),
        (end("grid"), WINDOWS, "full", "student"),
        (end("pool"), WINDOWS, 2, "student"),
        (WINDOWS, WINDOWS, 2, None),  # of the same places
        (end("grid"), end("pool"), 2, None),
    ],
)
def test_cells_of_windows_are_refused_beside_what_is_not_cut_so(teacher, student, grid, refused):
    text = between("Patches", "Patches", pairs_of(teacher, student, grid=grid))
    if refused is None:
        Training(recipe(text), CPU)
        return
    for shape, size in (("[3, 16, 16]", "16×4"), ("[3, 8, 8]", "4×4")):  # or a map's proportions
        words = rf"{PAIR}.{refused}: found grid: {grid} for {size} positions that lie otherwise"
        with pytest.raises(RecipeError, match=words):
            Training(recipe(text.replace("[3, 16, 16]", shape)), CPU)


def test_windows_are_told_by_their_proportions_where_images_have_one_size():
    text = between("FixedPatches", "Patches", pairs_of(WINDOWS, end("grid"), grid=2))
    with pytest.raises(RecipeError, match=rf"{PAIR}.teacher: found grid: 2 for 16×4 positions"):
        Training(recipe(text), CPU)
