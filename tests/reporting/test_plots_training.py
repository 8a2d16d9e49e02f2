"""Pictures of training runs, and their event files."""

import json
import sys
from pathlib import Path

import pytest

from made_up_results import done, failed, results, row, write
from mixacm_plugin.common.errors import RecipeError
from mixacm_plugin.reporting.plots.training import draw_training, read_metrics, read_runs
from recipes import run


def epoch(number, **terms):
    loss = sum(terms.values())
    metrics = {"epoch": number, "loss": loss, "terms": terms, "lr": 0.1, "val_accuracy": 0.5}
    return json.dumps({**metrics, "best_val_accuracy": 0.5, "seconds": 1.0}) + "\n"


def metrics(folder, text):
    Path(folder).mkdir(parents=True)
    Path(folder, "metrics.jsonl").write_text(text)
    return folder


def test_training_is_drawn_a_panel_for_each_quantity_and_a_line_for_each_run():
    first = metrics("runs/mixacm", epoch(0, kd=2.0, acm=1.0) + epoch(1, kd=1.0, acm=0.5))
    second = metrics("runs/kd", epoch(0, kd=2.5))
    figure = draw_training(read_runs([first, f"{second}/metrics.jsonl"]))
    panels = {a.get_title(): a for a in figure.axes if a.get_visible()}
    assert [*panels] == [
        "loss",
        "loss term: kd",
        "loss term: acm",
        "learning rate",
        "validation accuracy (%)",
    ]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["mixacm", "kd"]
    assert [list(line.get_ydata()) for line in panels["loss"].lines] == [[3, 1.5], [2.5]]
    assert list(panels["loss term: acm"].lines[0].get_xdata()) == [1, 2]
    assert [list(x.get_ydata()) for x in panels["validation accuracy (%)"].lines] == [
        [50, 50],
        [50],
    ]


def test_robust_accuracy_is_drawn_where_a_run_has_it():
    measured = {**json.loads(epoch(1, kd=1.0)), "robust_val_accuracy": 0.25}
    first = metrics("runs/a", epoch(0, kd=2.0) + json.dumps(measured) + "\n")
    figure = draw_training(read_runs([first, metrics("runs/b", epoch(0, kd=2.5))]))
    panels = {a.get_title(): a for a in figure.axes if a.get_visible()}
    lines = panels["robust validation accuracy (%)"].lines
    assert [(list(x.get_xdata()), list(x.get_ydata())) for x in lines] == [([2], [25]), ([], [])]


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
    assert list(read_runs(runs)) == names


def test_of_a_study_all_finished_runs_are_drawn():
    for seed in (0, 1):
        metrics(f"cache/{seed}", epoch(0, kd=2.0 + seed))
    runs = [done(seed, 490, 335, checkpoint=f"cache/{seed}/student.pt") for seed in (0, 1)]
    measured = {**done(0, 490, 335), "seed": None}
    write(results([row("KD", [*runs, failed(2)]), row("teacher", [measured])]))
    found = read_runs(["study"])
    assert {name: run[0]["loss"] for name, run in found.items()} == {
        "KD, seed 0": 2.0,
        "KD, seed 1": 3.0,
    }


def test_the_command_draws_runs_and_writes_event_files(capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics("runs/a", epoch(0, kd=2.0, acm=1.0) + epoch(1, kd=1.0, acm=0.5))
    argv = ("plot", "training", "runs/a", "--out", "pictures", "--tensorboard", "board")
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
