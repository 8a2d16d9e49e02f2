"""Pictures of studies: that they render, and what is drawn in them."""

import math
from pathlib import Path

import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from made_up_results import WEIGHT, done, failed, made, not_run, results, row, sizes
from mixacm_plugin.reporting.plots.plot import override
from mixacm_plugin.reporting.plots.study import draw_all, read_plots, stems
from mixacm_plugin.reporting.plots.style import COLOURS
from mixacm_plugin.reporting.summary import summarise

CURVE = {"kind": "curve", "x": WEIGHT, "log": True, "label": "α_acm"}


def title_of(figure):
    """A figure's title on one line; Matplotlib has a method for it since 3.8 only."""
    (title,) = figure.texts
    return " ".join(title.get_text().split())


def draw(spec, content=None):
    """The visible panels of a plot."""
    study = made(content or results())
    (plot,) = read_plots([spec], [row.name for row in study.rows], "study.yaml")
    figure = plot.draw(study, Path("study"))
    return [axes for axes in figure.axes if axes.get_visible()], figure


def points(axes):
    """The points of each line with error bars."""
    return [
        [(float(x), round(float(y), 1)) for x, y in zip(*c.lines[0].get_data(), strict=True)]
        for c in axes.containers
    ]


def dotted(axes):
    """Positions of dotted lines across a panel: horizontal ones, vertical ones."""
    lines = [line for line in axes.lines if line.get_linestyle() == ":"]
    xs = [round(line.get_xdata()[0], 1) for line in lines if len(set(line.get_xdata())) == 1]
    ys = [round(line.get_ydata()[0], 1) for line in lines if len(set(line.get_ydata())) == 1]
    return ys, xs


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_kind_of_plot_is_saved_as_png_and_svg():
    size, content = sizes(), results()
    plots = [{"kind": "bars"}, CURVE, *size["plots"]]
    size["rows"] += content["rows"]
    drawn = draw_all(made({**size, "plots": plots}), "new/folder")
    names = ["bars", "curve_weight", "depth_width", "size_ratio"]
    assert [stem.name for _, stem in drawn] == names
    for file in [stem.with_name(f"{stem.name}.{e}") for _, stem in drawn for e in ("png", "svg")]:
        if file.suffix == ".png":
            with Image.open(file) as image:
                assert min(image.size) > 300
                assert len(image.getcolors(2**20)) > 5
        else:
            assert file.read_text().count("<path") > 20


def test_a_picture_is_the_same_to_the_byte_when_it_is_drawn_again():
    for folder in ("one", "other"):
        draw_all(made(results(plots=[CURVE])), folder)
    one, other = (sorted(Path(folder).iterdir()) for folder in ("one", "other"))
    assert len(one) == 2
    assert [f.read_bytes() for f in one] == [f.read_bytes() for f in other]


def test_pictures_that_are_there_can_be_kept():
    first = draw_all(made(results()), "study")
    Path("study/bars.svg").write_text("kept")
    assert draw_all(made(results()), "study", missing_only=True) == first
    assert Path("study/bars.svg").read_text() == "kept"


def test_a_picture_that_is_kept_stays_where_it_cant_be_drawn_again():
    draw_all(made(results()), "study")
    Path("study/bars.svg").unlink()
    draw_all(made(results([row("a", [failed(0)])])), "study", missing_only=True)
    assert Path("study/bars.png").is_file()


def test_plots_of_the_same_kind_get_files_of_their_own():
    plots = read_plots([{"kind": "bars"}, CURVE, {"kind": "bars"}, CURVE], [], "study.yaml")
    names = [stem for stem, _ in stems(plots)]
    assert names == ["bars", "curve_weight", "bars_2", "curve_weight_2"]


def test_bars_show_each_row_and_column_with_its_deviation_and_what_failed():
    (axes,), figure = draw({"kind": "bars"})
    clean, pgd = (c for c in axes.containers if hasattr(c, "patches"))
    assert [round(bar.get_width(), 1) for bar in pgd.patches[:3]] == [67, 61, 40]
    assert math.isnan(clean.patches[3].get_width())
    low, high = pgd.errorbar.lines[2][0].get_segments()[0][:, 0]
    assert (round(low, 2), round(high, 2)) == (66, 68)
    assert "failed" in [text.get_text() for text in axes.texts]
    names = [" ".join(t.get_text().split()) for t in axes.get_yticklabels()]
    failed_seeds = "no KD (1 of 3 seeds failed)", "diverged (3 of 3 seeds failed)"
    assert names == ["full", failed_seeds[0], "no ACM", failed_seeds[1]]
    assert legend(figure) == ["clean", "PGD-20"]
    # From top to bottom in the table's order.
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_a_reference_row_becomes_a_dotted_line_in_the_colour_of_its_column():
    (axes,), figure = draw({"kind": "bars", "reference": "no ACM"})
    names = [t.get_text().split(" (")[0] for t in axes.get_yticklabels()]
    assert names == ["full", "no KD", "diverged"]
    assert dotted(axes)[1] == [97, 40]
    lines = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert [to_rgb(line.get_color()) for line in lines] == [to_rgb(c) for c in COLOURS[:2]]
    assert "dotted: no ACM" in title_of(figure)


def test_the_error_bar_of_a_single_seed_is_its_interval_over_test_images():
    (axes,), figure = draw({"kind": "bars"}, results([row("a", [done(0, 490, 335)])]))
    pgd = axes.containers[-1]
    low, high = pgd.errorbar.lines[2][0].get_segments()[0][:, 0]
    # Wilson, 335 of 500, by hand: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    assert (round(low, 2), round(high, 2)) == (62.76, 70.98)
    assert title_of(figure).endswith("error bars: 95 % interval")


def test_a_bar_carries_the_mark_that_its_figure_has_in_the_table():
    doubtful = done(0, 490, 335)
    doubtful["accuracies"][1]["warnings"] = ["zero gradient (7 of 490 images)"]
    rows = [row("a", [doubtful]), row("b", [done(0, 490, 340)])]
    (axes,), figure = draw({"kind": "bars"}, results(rows))
    shown = {text.get_text() for text in axes.texts}
    assert {"98.0", "67.0 †", "68.0"} == shown - {""}
    assert title_of(figure).endswith("†: see the table")


def test_an_error_bar_ends_where_an_accuracy_does():
    runs = [done(0, 484, 335), done(1, 48, 40), done(2, 484, 335)]  # 67.7 ± 50.3
    (axes,), _ = draw({"kind": "bars"}, results([row("a", runs)]))
    clean = next(c for c in axes.containers if hasattr(c, "patches"))
    low, high = clean.errorbar.lines[2][0].get_segments()[0][:, 0]
    assert (round(low, 1), high) == (17.4, 100)


@pytest.mark.parametrize("correct", [0, 250, 498])
def test_noise_of_half_a_point_does_not_look_like_a_cliff(correct):
    rows = [
        row(str(w), [done(0, 500, correct + w), done(1, 500, correct)], {WEIGHT: w}) for w in (0, 2)
    ]
    (_, axes), _ = draw({**CURVE, "group": {"all": "*"}, "log": False}, results(rows))
    low, high = axes.get_ylim()
    assert high - low >= 3.99
    assert low <= correct / 5 < high < 102


def test_a_figures_title_says_so_where_only_some_rows_have_several_seeds():
    rows = [row("a", [done(0, 490, 335), done(1, 490, 340)]), row("b", [done(0, 490, 335)])]
    _, figure = draw({"kind": "bars"}, results(rows))
    bars = "error bars: standard deviation, of a single model the 95 % interval"
    assert title_of(figure).endswith(bars)


def test_a_figures_title_says_what_it_holds_for():
    _, figure = draw({"kind": "bars"})
    title = title_of(figure)
    assert title == (
        "Components on digits Linf, ε = 0.15; n = 500; training seeds 0, 1, 2; "
        "error bars: standard deviation"
    )


def test_a_curve_has_a_line_per_column_through_the_rows_that_finished():
    (axes,), figure = draw(CURVE)
    assert points(axes) == [[(0, 97), (20, 98.5), (200, 97.9)], [(0, 40), (20, 61), (200, 67)]]
    assert axes.get_xlabel() == "α_acm"
    assert legend(figure) == ["clean", "PGD-20"]


@pytest.mark.parametrize(
    ("log", "with_zero", "scale"),
    [(False, True, "linear"), (True, True, "symlog"), (True, False, "log")],
)
def test_a_log_axis_keeps_room_for_zero(log, with_zero, scale):
    content = results()
    if not with_zero:
        del content["rows"][2]
    (axes,), _ = draw({**CURVE, "log": log}, content)
    assert axes.get_xscale() == scale
    left, right = axes.get_xlim()
    assert all(left <= x <= right for line in points(axes) for x, _ in line)


def test_finished_rows_that_a_curve_has_no_place_for_are_told(caplog):
    rows = [row(text, [done(0, 490, 335)], overrides={"eps": text}) for text in ("0.1", "0.2")]
    rows.append(row("in a file", [done(0, 490, 335)], overrides={"lr": 0.1}))
    draw({"kind": "curve", "x": "eps"}, results(rows))
    (told,) = caplog.messages
    assert told == "a curve against eps leaves out 'in a file', which sets no number there itself"
    caplog.clear()
    draw({"kind": "curve", "x": "eps", "reference": "in a file"}, results(rows))
    assert not caplog.messages


def test_settings_written_as_text_are_numbers_too():
    rows = [row(text, [done(0, 490, 335)], overrides={"eps": text}) for text in ("8/255", "0.1")]
    rows.append(row("neither", [done(0, 490, 335)], overrides={"eps": "large"}))
    (axes,), _ = draw({"kind": "curve", "x": "eps"}, results(rows))
    assert [x for x, _ in points(axes)[0]] == [8 / 255, 0.1]


@pytest.mark.parametrize(
    ("overrides", "value"),
    [
        ({"kwargs": {"depth": 10}, "kwargs.depth": 16}, 16),
        ({"kwargs.depth": 16, "kwargs": {"depth": 10}}, 10),
        # It replaces all that was there.
        ({"kwargs.depth": 16, "kwargs": {"width": 2}}, None),
        ({"kwargs": {"depth": 10}, "kwargs.width": 2}, 10),
    ],
)
def test_the_last_override_of_a_setting_is_what_a_row_has(overrides, value):
    (line,) = summarise(made(results([row("a", [], overrides)]))).rows
    assert override(line, "kwargs.depth") == value


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ({"soft": ["full"], "hard": ["no KD"]}, ["soft", "hard"]),
        ("train.num_epochs", ["num_epochs 10", "num_epochs 20"]),
    ],
)
def test_a_grouped_curve_has_a_panel_per_column_and_a_line_per_group(group, names):
    content = results()
    for line, epochs in zip(content["rows"], (10, 20, None), strict=False):
        line["changes"].append({"train.num_epochs": epochs})
    panels, figure = draw({**CURVE, "group": group, "reference": "no ACM"}, content)
    assert [axes.get_title() for axes in panels] == ["clean", "PGD-20"]
    assert legend(figure) == names
    assert points(panels[1]) == [[(200, 67)], [(20, 61)]]
    assert [dotted(axes)[0] for axes in panels] == [[97], [40]]


def test_the_size_plot_has_a_log_axis_and_a_dotted_line_at_a_tenth():
    (axes,), _ = draw({"kind": "size_ratio"})
    assert axes.get_xscale() == "log"
    assert dotted(axes)[1] == [0.1]
    assert points(axes)[1] == [(0.05, 40), (0.25, 61), (1, 67)]


@pytest.mark.parametrize("rows", [["no KD", "no ACM"], "no *"])
def test_the_size_plot_can_set_groups_of_rows_side_by_side(rows):
    group = {"MixACM": ["full"], "PGD7-AT": rows}
    panels, figure = draw({"kind": "size_ratio", "group": group})
    assert points(panels[1]) == [[(1, 67)], [(0.05, 40), (0.25, 61)]]
    assert legend(figure) == ["MixACM", "PGD7-AT"]
    assert [dotted(axes)[1] for axes in panels] == [[0.1], [0.1]]


def test_the_cost_plot_sets_groups_apart_by_points_and_names_some():
    spec = {"kind": "cost", "group": {"parts": "no *", "whole": ["full"]}, "names": ["no ACM"]}
    (panel,), figure = draw(spec)
    assert (panel.get_title(), panel.get_xscale()) == ("PGD-20", "log")
    assert points(panel) == [[(0.8, 40.0), (1.0, 61.0)], [(1.0, 67.0)]]
    assert all(container.lines[0].get_linestyle() == "None" for container in panel.containers)
    assert [text.get_text() for text in panel.texts] == ["no ACM"]
    assert legend(figure) == ["parts", "whole"]


def test_depth_by_width_has_a_line_for_each_width():
    content = sizes()
    panels, figure = draw(content["plots"][0], content)
    assert legend(figure) == ["width 1", "width 10"]
    narrow, wide = points(panels[1])
    assert narrow == [(10, 22.2), (16, 23.4), (28, 25.8)]
    assert wide == [(10, 24), (16, 25.2), (28, 27.6)]
    assert [t.get_text() for t in panels[0].get_xticklabels()] == ["10", "16", "28"]


def test_a_row_that_was_not_run_has_no_bar():
    content = results([row("a", [done(0, 490, 335)]), row("b", [not_run(0)])])
    ((axes,), _) = draw({"kind": "bars"}, content)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a"]
