"""What a study's runs are told to be at, on a terminal and in a log."""

import io
import json
import logging
import re

import pytest

from mixacm_plugin.commands.common import set_up_log
from mixacm_plugin.evaluation import progress as telling
from mixacm_plugin.evaluation.progress import Progress
from mixacm_plugin.studies import execute, progress
from mixacm_plugin.studies.progress import COLUMNS, line, shown, state
from mixacm_plugin.studies.runs import TOLD, resolve
from studies import done_here, write_study

EPOCH = '{"epoch": 0, "seconds": 7.0}\n'


@pytest.fixture
def study():
    return write_study(rows=[{"name": "one"}, {"name": "very long " * 10}])


@pytest.fixture
def runs(study, tmp_path):
    found = resolve(study, tmp_path / "cache")
    for run in found:
        run.folder.mkdir(parents=True, exist_ok=True)
    return found


def test_a_run_starts_trains_and_is_measured(study, runs):
    run = runs[0]
    assert state(run, study) == "starting"
    (run.folder / "metrics.jsonl").write_text(EPOCH)
    assert state(run, study) == "epoch 1/2, 7 s to train"
    clean, pgd = study.measurements
    for done, told in (
        ([], "measuring clean"),
        ([clean], "measuring PGD-2"),
        ([clean, pgd], "ending"),
    ):
        result = {"accuracies": {m.key: {} for m in done}}
        (run.folder / "result.json").write_text(json.dumps(result))
        assert state(run, study).startswith(told)


def test_a_study_sees_the_steps_of_a_training(study, runs, monkeypatch):
    seen = []

    class Writes(type(runs[0].folder / TOLD)):
        def write_text(self, *args, **kwargs):
            super().write_text(*args, **kwargs)
            if self.name == TOLD:
                seen.append(state(runs[0], study))

    monkeypatch.setattr(execute, "TOLD_EVERY", 0.0)
    monkeypatch.setattr(execute, "Path", Writes)
    done_here(study, runs[:1])
    assert [each for each in seen if each.startswith("epoch")][:2] == [
        "epoch 1/2, step 1/2",
        "epoch 1/2, step 2/2",
    ]
    assert any(re.fullmatch(r"epoch 2/2, step 1/2, \d+ s to train", each) for each in seen)


def test_a_study_sees_how_far_the_attack_of_a_run_is(study, runs, monkeypatch):
    seen = []
    tell = Progress.tell

    def tell_and_look(self):
        tell(self)
        seen.append(state(runs[0], study))

    monkeypatch.setattr(telling, "TO_FUNCTION", 0)
    monkeypatch.setattr(execute, "TOLD_EVERY", 0)
    monkeypatch.setattr(Progress, "tell", tell_and_look)
    done_here(study, runs[:1])
    assert any(re.fullmatch(r"PGD-2: \d+/\d+ images, 0 s left", each) for each in seen)
    assert state(runs[0], study) == "ending"
    assert not (runs[0].folder / TOLD).exists()


def test_a_sanity_check_is_told(runs):
    study = write_study(sanity=True, rows=[{"name": "one"}])
    accuracies = {m.key: {} for m in study.measurements}
    for sanity, told in ({}, "sanity check of PGD-2"), ({study.sanity.key: []}, "ending"):
        result = {"accuracies": accuracies, "sanity": sanity}
        (runs[0].folder / "result.json").write_text(json.dumps(result))
        assert state(runs[0], study) == told


def test_a_line_is_no_wider_than_a_terminal(study, runs):
    assert line(runs[0], study) == "one, seed 0: starting"
    assert len(line(runs[1], study)) == COLUMNS - 1
    assert line(runs[1], study).endswith("…: starting")


def test_a_log_gets_a_line_a_run_now_and_then(study, runs, caplog, monkeypatch):
    caplog.set_level("INFO", "mixacm")
    with shown(study, 1) as show:
        show(runs[:1], 0, 2)
        assert caplog.messages == []
        monkeypatch.setattr(progress, "EVERY", 0.0)
        show(runs[:1], 0, 2)
    assert caplog.messages == ["one, seed 0: starting"]


def test_a_terminal_gets_lines_that_are_rewritten(study, runs, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with shown(study, 2) as show:
        show(runs, 1, 3)
        written = capsys.readouterr().err
    assert "1/3 finished, 0 s so far, about 0 min left" in written
    assert "one, seed 0: starting" in written
    assert line(runs[1], study) in written


def test_lines_of_the_log_go_above_what_a_terminal_shows(study, runs, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stderr", terminal)
    set_up_log(None)
    with shown(study, 1) as show:
        show(runs, 1, 3)
        logging.getLogger("mixacm").info("finished one")
    before, _, after = terminal.getvalue().partition("finished one\n")
    assert re.search(r"\r +\r(\x1b\[A)?$", before)  # the lines were emptied, in any order
    assert "1/3 finished" in after  # and drawn again below
