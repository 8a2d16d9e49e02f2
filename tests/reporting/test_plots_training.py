"""Pictures of training runs, and their event files."""

import json
import sys
from pathlib import Path

import pytest

from made_up_results import done, epoch, failed, metrics, results, row, write
from mixacm_plugin.common.errors import RecipeError
from mixacm_plugin.reporting.courses import Course, read_courses, read_metrics
from mixacm_plugin.reporting.plots.style import line_of
from mixacm_plugin.reporting.plots.training import draw_training
from recipes import run


def panels_of(figure):
    return {axes.get_title().replace("\n", " "): axes for axes in figure.axes if axes.get_visible()}


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_training_is_drawn_a_panel_for_each_quantity_and_a_line_for_each_run():
    first = metrics("runs/mixacm", epoch(0, kd=2.0, acm=1.0) + epoch(1, kd=1.0, acm=0.5))
    second = metrics("runs/kd", epoch(0, kd=2.5))
    figure = draw_training(read_courses([first, f"{second}/metrics.jsonl"]))
    panels = panels_of(figure)
    assert [*panels] == [
        "loss",
        "loss term: kd",
        "loss term: acm",
        "learning rate",
        "validation accuracy (%)",
    ]
    assert legend_of(figure) == ["mixacm", "kd"]
    assert [list(line.get_ydata()) for line in panels["loss"].lines] == [[3, 1.5], [2.5]]
    assert list(panels["loss term: acm"].lines[0].get_xdata()) == [1, 2]
    assert [list(x.get_ydata()) for x in panels["validation accuracy (%)"].lines] == [
        [50, 50],
        [50],
    ]


def test_of_an_epoch_that_was_trained_twice_the_later_counts():
    folder = metrics("run", epoch(0, a=3.0) + epoch(1, a=2.0) + epoch(1, a=1.0))
    assert [m["loss"] for m in read_metrics(folder)] == [3, 1]


def test_a_last_line_cut_off_by_a_kill_is_left_out():
    assert len(read_metrics(metrics("run", epoch(0, a=3.0) + epoch(1, a=2.0)[:20]))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file.*dst_ckpt"),
        ("", "no epoch has been finished"),
        ("{}\n" + epoch(0, a=1.0), "not a run's metrics: KeyError: 'epoch'"),
        ("[]\n" + epoch(0, a=1.0), "not a run's metrics: TypeError"),
        (epoch(0, {"val_accuracy": "high"}, a=1.0), "expected a number; found 'high'"),
        (epoch(0, {"terms": {"a": []}}, a=1.0), r"expected a number; found \[\]"),
    ],
)
def test_a_folder_without_metrics_is_one_line(text, message, capsys):
    folder = Path("run")
    folder.mkdir()
    if text is not None:
        (folder / "metrics.jsonl").write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_metrics(folder)
    assert run("main", "plot", "training", "run") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (["out/a"], ["a"]),
        (["out/seed0/a", "out/seed1/a"], ["seed0/a", "seed1/a"]),
        (["out", "out/a"], ["out", "a"]),
    ],
)
def test_runs_are_named_by_what_tells_them_apart(runs, names):
    for folder in runs:
        metrics(folder, epoch(0, kd=2.0))
    assert [course.label for course in read_courses(runs)] == names


def test_of_a_study_all_finished_runs_are_drawn():
    for seed in (0, 1):
        metrics(f"cache/{seed}", epoch(0, kd=2.0 + seed))
    runs = [done(seed, 490, 335, checkpoint=f"cache/{seed}/student.pt") for seed in (0, 1)]
    measured = {**done(0, 490, 335), "seed": None}
    write(results([row("KD", [*runs, failed(2)]), row("teacher", [measured])]))
    found = read_courses(["study", "again=study"])
    assert {course.label: course.metrics[0]["loss"] for course in found} == {
        "KD, seed 0": 2.0,
        "KD, seed 1": 3.0,
        "again: KD, seed 0": 2.0,
        "again: KD, seed 1": 3.0,
    }


@pytest.mark.parametrize("runs", [[failed(0)], [{**done(0, 490, 335), "seed": None}]])
def test_a_study_that_has_trained_nothing_has_no_picture_of_training(runs, capsys):
    write(results([row("KD", runs)]))
    assert run("main", "plot", "training", "study") == 2
    assert "study: no run has been trained to its end" in capsys.readouterr().err
    assert not Path("training.png").exists()


def test_runs_of_a_study_that_was_moved_are_found():
    metrics("study/runs/0", epoch(0, kd=2.0))
    write(results([row("KD", [done(0, 490, 335, checkpoint="elsewhere/runs/0/student.pt")])]))
    Path("study").rename("moved")
    assert [course.label for course in read_courses(["moved"])] == ["KD, seed 0"]


def test_seeds_of_a_row_are_drawn_alike_and_rows_apart():
    kd, acm = ([{**json.loads(epoch(0, a=2.0))}] for _ in range(2))
    courses = [Course("KD", kd, 0), Course("KD", kd, 1), Course("MixACM", acm, 0)]
    figure = draw_training(courses)
    first, second, third = panels_of(figure)["loss"].lines
    assert first.get_color() == second.get_color() != third.get_color()
    assert legend_of(figure) == ["KD", "MixACM"]


def test_many_rows_are_all_told_apart():
    assert len({str(line_of(number)) for number in range(21)}) == 21


def test_every_validation_accuracy_has_a_panel_with_the_epochs_where_it_was_measured():
    text = "".join(
        epoch(
            n,
            {"robust_val_accuracy": r, "ema_val_accuracy": 0.6, "best_robust_val_accuracy": 1},
            a=1,
        )
        for n, r in enumerate([0.25, None, 0.5])
    )
    panels = panels_of(draw_training(read_courses([metrics("run", text)])))
    assert [*panels] == [
        "loss",
        "learning rate",
        "validation accuracy (%)",
        "robust validation accuracy (%)",
        "moving average: validation accuracy (%)",
    ]
    (line,) = panels["robust validation accuracy (%)"].lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 3], [25, 50])


def test_no_heading_is_cut_off_at_the_edge_or_reaches_into_its_neighbour():
    keys = {
        key: 0.5 for key in ("robust_val_accuracy", "ema_val_accuracy", "ema_robust_val_accuracy")
    }
    term = {"a_term_of_a_long_name_such_as_some_have": 1.0, "kd": 2.0}
    lines = [json.dumps({**json.loads(epoch(0, **term)), **keys})]
    figure = draw_training(read_courses([metrics("run", "\n".join(lines) + "\n")]))
    figure.canvas.draw()
    width = figure.bbox.width
    for axes in panels_of(figure).values():
        box = axes.title.get_window_extent()
        left = axes.get_subplotspec().is_first_col()
        assert (0 if left else width / 2) <= box.x0 < box.x1 <= (width / 2 if left else width)


def test_a_loss_that_explodes_leaves_the_others_legible():
    calm, wild = (metrics(n, epoch(0, a=2.0) + epoch(1, a=b)) for n, b in (("a", 1), ("b", 1e4)))
    assert panels_of(draw_training(read_courses([calm])))["loss"].get_yscale() == "linear"
    assert panels_of(draw_training(read_courses([calm, wild])))["loss"].get_yscale() == "log"


def test_runs_can_be_named():
    names = ("out/a", "out/b=1", "out/c")
    a, b, c = (metrics(name, epoch(0, kd=2.0)) for name in names)
    named = [course.label for course in read_courses([f"α = 200={a}", b, c])]
    assert named == ["α = 200", "b=1", "c"]


def test_dollar_signs_in_names_are_no_formula(capsys):
    one, two = (metrics(f"runs/{name}", epoch(0, kd=2.0) + epoch(1, kd=1.0e-3)) for name in "ab")
    names = ("$_$ a", "from $5 to $6")
    runs = [f"{name}={folder}" for name, folder in zip(names, (one, two), strict=True)]
    assert run("main", "plot", "training", *runs, "--out", "out") == 0
    picture = Path("out/training.svg").read_text()
    assert all(f"<!-- {name} -->" in picture for name in names)
    assert "mathdefault" in picture  # of the log axis


def test_two_runs_of_one_name_are_refused(capsys):
    for folder in ("a", "b"):
        metrics(folder, epoch(0, kd=2.0))
    assert run("main", "plot", "training", "x=a", "x=b") == 2
    assert capsys.readouterr().err == (
        "mixacm: error: two runs are named 'x'; name them apart: NAME=RUN\n"
    )


def test_the_command_draws_runs_and_writes_event_files(capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics("runs/a", epoch(0, kd=2.0, acm=1.0) + epoch(1, kd=1.0, acm=0.5))
    argv = ("plot", "training", "a=runs/a", "--out", "pictures", "--tensorboard", "board")
    assert run("main", *argv) == 0
    assert Path("pictures/training.svg").is_file()
    events = EventAccumulator("board/a").Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss_terms/acm")] == [(1, 1), (2, 0.5)]
    assert {"loss", "lr", "val_accuracy"} <= set(events.Tags()["scalars"])


def test_without_tensorboard_the_command_says_how_to_install_it(monkeypatch, capsys):
    metrics("runs/a", epoch(0, kd=2.0))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert run("main", "plot", "training", "runs/a", "--tensorboard", "board") == 2
    error = capsys.readouterr().err
    assert "pip install 'mixacm-plugin[tensorboard]'" in error
    assert error.count("\n") == 1
