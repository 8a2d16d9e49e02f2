"""Figure 4: mean channel maps of trained models, their distances, and the picture."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from mixacm_plugin.common.errors import RecipeError
from mixacm_plugin.evaluation.channel_map_comparison import (
    Comparison,
    compare,
    parse_source,
)
from mixacm_plugin.evaluation.channel_map_distances import (
    Block,
    blocks_of,
    distances,
    mean_channel_maps,
)
from mixacm_plugin.parts.acm.pairs import PairEnd
from mixacm_plugin.reporting.plots.channel_maps import draw
from recipes import mixacm, recipe, run, scratch, write
from weights import checkpoint

IMAGES = torch.tensor([[1.0, 0.0, 0.5], [0.2, 0.4, 0.4]]).view(2, 3, 1, 1).expand(2, 3, 4, 4)
DATA = TensorDataset(IMAGES, torch.zeros(2, dtype=torch.long))


def block(path="0", io="output", kind=None, **layout):
    return Block("b", dict.fromkeys(("teacher", "student"), PairEnd(path, io, **layout)), kind)


# Of the images' channels (1, 0, .5) and (.2, .4, .4), normalised and averaged.
EXPECTED = (torch.tensor([1, 0, 0.5]) / 1.25**0.5 + torch.tensor([0.2, 0.4, 0.4]) / 0.6) / 2


@pytest.mark.parametrize(
    ("model", "path", "io"),
    [
        (nn.Sequential(nn.Identity()), "0", "output"),
        (nn.Sequential(nn.Flatten()), "0", "input"),
        # What comes after in place doesn't change what the module put out.
        (nn.Sequential(nn.Identity(), nn.Threshold(2, 7, inplace=True)), "0", "output"),
        (nn.Sequential(nn.Sequential(nn.Identity())), "0.0", "output"),
    ],
)
def test_a_mean_channel_map_is_the_mean_of_the_images_normalised_maps(model, path, io):
    images = TensorDataset(IMAGES.clone(), torch.zeros(2, dtype=torch.long))
    maps = mean_channel_maps(model, images, [block(path, io)], n=2, batch_size=1)
    torch.testing.assert_close(maps["b"], EXPECTED.double())
    assert not any(module._forward_hooks for module in model.modules())


def test_of_a_module_that_is_called_several_times_the_last_call_counts():
    shared = nn.Identity()
    model = nn.Sequential(shared, nn.Threshold(2, 7), shared)  # 7 everywhere
    maps = mean_channel_maps(model, DATA, [block()], n=2, batch_size=1)
    torch.testing.assert_close(maps["b"], torch.full((3,), 3**-0.5).double())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 3}, "between 1 and the 2 images"),
        ({"blocks": [block("layer9")]}, "Sequential has no module 'layer9' \\(block b\\)"),
        ({"blocks": [block("0.spare")]}, "Sequential never calls '0.spare' \\(block b\\)"),
        ({"dataset": TensorDataset(5 * IMAGES, torch.zeros(2))}, "expected \\[0, 1\\]"),
    ],
)
def test_what_cant_be_measured_is_refused(arguments, message):
    arguments = {"dataset": DATA, "blocks": [block()], "n": 2, **arguments}
    model = nn.Sequential(nn.Identity())
    model[0].spare = nn.Identity()
    with pytest.raises(ValueError, match=message):
        mean_channel_maps(model, **arguments)


def distance(own, other, kind=None):
    maps = {"student": {"b": torch.tensor(own)}, "teacher": {"b": torch.tensor(other)}}
    (found,) = distances(maps, [block(kind=kind)])
    values = (found.sorted_l2, found.cosine, found.l2)
    return [value if value is None else pytest.approx(value, abs=1e-6) for value in values]


def unit(*values):
    length = sum(value**2 for value in values) ** 0.5
    return [value / length for value in values]


def test_distances_are_those_computed_by_hand():
    assert distance([0.6, 0.8], [0.6, 0.8]) == [0, 1, 0]
    # The same numbers in other channels: the curves agree, the channels don't.
    assert distance([1.0, 0.0], [0.0, 1.0]) == [0, 0, 2**0.5]
    assert distance([0.6, 0.8], [0.8, 0.9]) == [0.05**0.5, 1.2 / 1.45**0.5, 0.05**0.5]


def test_maps_of_unlike_length_are_compared_by_their_curves_or_pooled_as_in_the_recipe():
    teachers = unit(0, 1, 1, 2)
    assert distance(unit(0, 1), teachers) == [0, None, None]
    assert distance(unit(1, 2), teachers, "adaptive_max_pool")[1:] == [1, 0]
    assert distance(unit(1, 3), teachers, "adaptive_avg_pool")[1:] == [1, 0]


@pytest.mark.parametrize("kind", ["adaptive_max_pool", "adaptive_avg_pool"])
@pytest.mark.parametrize("magnitude", [1, 0.5])
def test_the_number_of_channels_alone_is_no_distance(kind, magnitude):
    narrow = [magnitude * value for value in unit(1, 1)]
    wide = [magnitude * value for value in unit(1, 1, 1, 1)]
    assert distance(narrow, wide, kind) == distance(wide, narrow, kind) == [0, 1, 0]
    # Images whose maps disagree have a shorter mean, which is a distance as it is at equal widths.
    assert distance(narrow, unit(1, 1, 1, 1), kind) == distance(narrow, unit(1, 1))


def test_hook_points_are_those_of_the_recipes_acm_loss():
    blocks, mapping = blocks_of(recipe(mixacm(2, 1, "adaptive_avg_pool")))
    assert [(b.name, b.ends["teacher"].path, b.ends["student"].io, b.kind) for b in blocks] == [
        ("middle", "layer.1.block.0.relu_0", "output", "adaptive_avg_pool"),
        ("last", "relu", "output", "adaptive_avg_pool"),
    ]
    assert mapping == "mean"
    wrong = "train.criterion.kwargs.sub_terms.acm.criterion.kwargs.pairs.last.student"
    with pytest.raises(RecipeError, match=rf"{wrong}: expected {{path: ..., io: "):
        blocks_of(recipe(None, f"{wrong}={{path: relu}}"))


def test_hook_points_can_be_given():
    (b,), _ = blocks_of(recipe(scratch()), ["layer.0.block.0.relu_0:input"])
    assert (b.name, b.ends["teacher"].path) == ("layer.0.block.0.relu_0", "layer.0.block.0.relu_0")
    assert b.ends["student"].io == "input"
    (b,), _ = blocks_of(recipe(scratch()), ["features.1:output:nhwc"])
    assert b.ends["student"] == ("features.1", "output", "nhwc", 0)
    with pytest.raises(RecipeError, match=r"--blocks features\.1:output:chw: expected"):
        blocks_of(recipe(scratch()), ["features.1:output:chw"])


def test_input_and_output_of_the_same_module_are_two_blocks():
    blocks, _ = blocks_of(recipe(scratch()), ["relu:input", "layer.0:output", "relu:output"])
    assert [b.name for b in blocks] == ["relu:input", "layer.0", "relu:output"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "give them with --blocks"),
        (["relu"], "MODULE.PATH:output"),
        (["relu:out"], "relu:out"),
        (["relu:output", "layer.0:output", "relu:output"], "--blocks relu:output: given twice"),
    ],
)
def test_missing_and_malformed_hook_points_are_refused(given, message):
    with pytest.raises(RecipeError, match=message):
        blocks_of(recipe(scratch()), given)


@pytest.mark.parametrize(
    ("text", "name", "file", "role", "weights"),
    [
        ("teacher", "teacher", "recipe.yaml", "teacher", None),
        ("student", "student", "recipe.yaml", "student", None),
        ("teacher=a.pt", "teacher", "recipe.yaml", "teacher", "a.pt"),
        ("scratch=a.pt", "scratch", "recipe.yaml", "student", "a.pt"),
        ("scratch=other.yaml", "scratch", "other.yaml", "student", None),
        ("teacher=other.yaml", "teacher", "other.yaml", "student", None),
        ("t=other.yaml:teacher", "t", "other.yaml", "teacher", None),
        ("s=other.yaml:student:C:/a.pt", "s", "other.yaml", "student", "C:/a.pt"),
        ("scratch=quickstart/scratch", "scratch", "quickstart/scratch", "student", None),
        ("t=quickstart/mixacm:teacher", "t", "quickstart/mixacm", "teacher", None),
        ("s=quickstart/mixacm:student:a.pt", "s", "quickstart/mixacm", "student", "a.pt"),
    ],
)
def test_a_model_is_named_by_its_role_checkpoint_or_recipe(text, name, file, role, weights):
    Path("other.yaml").write_text(scratch())
    found, source = parse_source(text, recipe())
    assert (found, source.recipe.path) == (name, file)
    assert (source.role, source.checkpoint) == (role, weights)


@pytest.mark.parametrize("text", ["scratch", "=a.pt", "scratch="])
def test_a_model_without_a_name_or_weights_is_refused(text):
    with pytest.raises(RecipeError, match=r"expected .*NAME=CHECKPOINT"):
        parse_source(text, recipe())


def test_the_figure_has_a_panel_for_each_block_with_a_curve_for_each_model_and_a_table():
    plain = recipe()
    checkpoint("out/student.pt", 1)
    sources = dict(
        parse_source(text, plain)
        for text in (f"scratch={checkpoint('scratch.pt', 2)}", "teacher", "student")
    )
    comparison = compare(plain, sources, n=50)
    figure = draw(comparison, title="a title")
    panels = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_title() for axes in panels] == ["middle", "last"]
    for axes in panels:
        assert [line.get_label() for line in axes.lines] == ["scratch", "teacher", "student"]
        for line in axes.lines:
            assert list(line.get_ydata()) == sorted(line.get_ydata())
    tables = [axes.tables[0] for axes in figure.axes if axes.tables]
    first = {
        position: cell.get_text().get_text() for position, cell in tables[0].get_celld().items()
    }
    assert [first[0, i] for i in range(3)] == ["sorted ℓ2", "cosine", "ℓ2"]
    assert [first[1, -1], first[2, -1]] == ["scratch", "student"]
    assert f"{comparison.distances[0].cosine:.3f}" == first[1, 1]


@pytest.mark.parametrize(
    ("own", "heights", "label"),
    [
        ([0.5] * 4, [0.5, 0.5], "mean of the normalised map"),
        ([0.5**0.5] * 2, [1, 1], "mean of the normalised map × √channels"),
    ],
)
def test_curves_of_unlike_width_are_drawn_to_a_common_scale(own, heights, label):
    maps = {"teacher": {"b": torch.full((4,), 0.5)}, "student": {"b": torch.tensor(own)}}
    panel = draw(Comparison(maps, distances(maps, [block()]), [block()], "")).axes[0]
    assert [max(line.get_ydata()) for line in panel.lines] == pytest.approx(heights)
    assert panel.get_ylabel() == label


def test_a_model_with_the_teachers_weights_is_at_no_distance():
    plain = recipe()
    twin = dict(parse_source(text, plain) for text in ("teacher", "twin=teacher.pt"))
    for found in compare(plain, twin, n=10).distances:
        assert (found.sorted_l2, found.l2) == (0, 0)
        assert found.cosine == pytest.approx(1)


def test_the_command_prints_the_distances_and_writes_the_picture(capsys):
    config = write(mixacm(2, 1, "adaptive_max_pool"))
    checkpoint("out/student.pt", 1)
    Path("scratch.yaml").write_text(scratch().replace("out/student.pt", "scratch.pt"))
    checkpoint("scratch.pt", 2)
    models = ("scratch=scratch.yaml", "teacher", "student")
    argv = ("plot", "channel-maps", "--config", config, "--n", "20", "--out", "figure")
    assert run("main", *argv, "--models", *models) == 0
    printed = capsys.readouterr().out
    lines = re.findall(r"^\| (\w+) \| (\w+) \| [\d.]+ \| [\d.]+ \| [\d.]+ \|$", printed, re.M)
    assert lines == [(m, b) for m in ("scratch", "student") for b in ("middle", "last")]
    assert "n = 20 test images, seed 0" in printed
    files = sorted(path.name for path in Path("figure").iterdir())
    assert files == ["channel_maps.md", "channel_maps.png", "channel_maps.svg"]
    assert Path("figure/channel_maps.md").read_text(encoding="utf-8") in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "student"], "expected one named teacher"),
        (
            ["--models", "teacher", "scratch=missing.pt"],
            "--models scratch: checkpoint not found: missing.pt",
        ),
        (["--models", "teacher"], "expected a model besides the teacher"),
        (["--models", "teacher", "a=teacher.pt", "a=b.pt"], "--models a=b.pt: a is given twice"),
        (["--models", "teacher", "a=b.pt", "--n", "5000"], "between 1 and the 50 images"),
        (["--models", "teacher", "a=b.pt", "--blocks", "layer9:output"], "no module 'layer9'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert run("main", "plot", "channel-maps", "--config", write(), *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
