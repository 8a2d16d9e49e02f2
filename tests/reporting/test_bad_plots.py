"""Plots that are malformed, or have nothing to show."""

import logging
from pathlib import Path

import pytest

from made_up_results import WEIGHT, failed, made, results, row
from mixacm_plugin.common.errors import RecipeError
from mixacm_plugin.reporting.plots.study import draw_all, read_plots, stems

CURVE = {"kind": "curve", "x": WEIGHT, "log": True, "label": "α_acm"}


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "bars"},
        CURVE,
        {"kind": "size_ratio"},
        {"kind": "depth_width", "depth": "a", "width": "b"},
        {"kind": "cost", "group": {"all": "*"}},
        {"kind": "channel_maps"},
    ],
)
def test_a_plot_with_nothing_to_show_is_left_out_with_a_warning(spec, caplog):
    Path("study").mkdir()
    ((stem, _),) = stems(read_plots([spec], ["a", "b"], "study.yaml"))
    for ending in ("png", "svg"):
        Path(f"study/{stem}.{ending}").write_text("of other results")
    with caplog.at_level(logging.WARNING, logger="mixacm"):
        rows = [row("a", [failed(0)]), row("b", [])]
        drawn = draw_all(made(results(rows, plots=[spec])), "study")
    assert drawn == []
    assert not list(Path("study").iterdir())
    assert "no picture" in caplog.text


@pytest.mark.parametrize(
    ("plots", "message"),
    [
        (["bars"], r"0: expected a mapping; found 'bars'"),
        ([{"kind": None}], r"0\.kind: expected one of bars, curve, .*found None"),
        ([{"kind": ["bars"]}], r"0\.kind: expected one of"),
        ([{"kind": "bar"}], "0.kind: .*Did you mean 'bars'"),
        ([{"kind": "bars"}, {"kind": "curve"}], "1.x: missing"),
        ([{"kind": "curve", "x": "a", "logg": True}], "0.logg: unknown key.* Did you mean 'log'"),
        ([{"kind": "curve", "x": 3}], "0.x: expected a key path; found 3"),
        ([{"kind": "curve", "x": None}], "0.x: expected a key path; found None"),
        ([{"kind": "cost", "group": 3}], "0.group: expected a key path, or names .*; found 3"),
        ([{"kind": "cost", "group": {"a": 3}}], "0.group: .* a list or a pattern of rows"),
        ([{"kind": "cost", "group": {"a": ["ful"]}}], "0.group.a: no row 'ful'"),
        ([{"kind": "cost", "group": "a", "names": "full"}], "0.names: expected a list"),
        ([{"kind": "channel_maps", "rows": ["no"]}], "0.rows: no row 'no'"),
        ([{"kind": "channel_maps", "n": 0}], "0.n: expected a whole number of at least 1; found 0"),
        (
            [{"kind": "bars", "reference": "no ACN"}],
            "0.reference: no row .*mean 'no ACM'",
        ),
        ([{"kind": "cost"}], "0.group: missing"),
        ([{"kind": "cost", "group": {}, "names": ["ful"]}], "0.names: no row 'ful'.*mean 'full'"),
    ],
)
def test_a_malformed_plot_is_refused_before_the_study_runs(plots, message):
    with pytest.raises(RecipeError, match=rf"study\.yaml: plots\.{message}"):
        read_plots(plots, ["full", "no ACM"], "study.yaml")


def test_all_mistakes_of_all_plots_are_told_at_once():
    plots = [{"kind": "bar"}, {"kind": "curve", "logg": True}, {"kind": "bars", "reference": "no"}]
    with pytest.raises(RecipeError) as error:
        read_plots(plots, ["full"], "study.yaml")
    places = [line.split(": ")[1] for line in error.value.lines()]
    assert places == ["plots.0.kind", "plots.1.x", "plots.1.logg", "plots.2.reference"]
