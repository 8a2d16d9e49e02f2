"""A run that is tracked by TensorBoard while it trains."""

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mixacm_plugin import Training, UserError
from mixacm_plugin.studies.execute import execute
from mixacm_plugin.studies.runs import resolve
from mixacm_plugin.studies.tasks import prepare
from recipes import CPU, mixacm, recipe, run, write
from runs import metrics, trained
from studies import write_study
from weights import differing, state

MORE = "\nvalidate: {attack: pgd, eps: 0.05, steps: 2, n: 10}\nema: {decay: 0.5}\n"


def logged(folder="out/tensorboard"):
    return EventAccumulator(str(folder)).Reload()


def points(name, folder="out/tensorboard"):
    return [(event.step, event.value) for event in logged(folder).Scalars(name)]


def track(text=None, checkpoint=None, **arguments):
    training = Training(recipe(text), CPU, 0)
    if checkpoint is not None:
        training.resume(checkpoint)
    training.run(track="tensorboard", **arguments)
    return training


def test_it_has_what_metrics_has_and_the_recipe():
    track(mixacm() + MORE)
    lines = metrics()
    for key in ("loss", "lr", "val_accuracy", "robust_val_accuracy", "ema_val_accuracy"):
        assert points(key) == [(n, pytest.approx(line[key])) for n, line in enumerate(lines, 1)]
    terms = [(n, pytest.approx(line["terms"]["acm"])) for n, line in enumerate(lines, 1)]
    assert points("loss_terms/acm") == terms
    (text,) = logged().Tensors("recipe/text_summary")
    assert "dm_wide_resnet" in text.tensor_proto.string_val[0].decode()


def test_a_tracker_that_there_is_not_is_refused_before_training():
    training = Training(recipe(), CPU, 0)
    with pytest.raises(UserError, match="track: expected tensorboard; found 'wandb'"):
        training.run(track="wandb")
    training.run()


def test_a_tracked_run_is_trained_as_another():
    plain = state(trained().models["student"])
    assert not differing(plain, state(track().models["student"]))


def test_a_resumed_run_goes_on_in_the_same_log(monkeypatch):
    text = mixacm().replace("num_epochs: 2", "num_epochs: 3")
    save = Training._save

    def killed(self, epoch, *rest):
        if epoch == 1:  # told of, but not saved
            raise KeyboardInterrupt
        save(self, epoch, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "_save", killed)
        track(text)
    assert [step for step, _ in points("loss")] == [1, 2]
    track(text, "out/student.pt")
    assert points("loss") == [(n, pytest.approx(m["loss"])) for n, m in enumerate(metrics(), 1)]
    assert len(logged().Tensors("recipe/text_summary")) == 1


def test_a_run_that_was_not_tracked_from_the_beginning_has_its_earlier_epochs():
    trained(None, "train.num_epochs=1")
    Path("out/student.pt").rename("first.pt")
    track(None, "first.pt")
    assert points("loss") == [(n, pytest.approx(m["loss"])) for n, m in enumerate(metrics(), 1)]


def test_a_new_run_takes_the_place_of_an_earlier_one():
    track(mixacm().replace("num_epochs: 2", "num_epochs: 3"))
    track()
    assert points("loss") == [(n, pytest.approx(m["loss"])) for n, m in enumerate(metrics(), 1)]


def test_the_command_tracks():
    write()
    argv = ("--config", "recipe.yaml", "--device", "cpu", "-student_only")
    assert run("torchdistill", *argv, "--track", "tensorboard") == 0
    assert len(points("val_accuracy")) == 2


@pytest.mark.parametrize("command", ["train --config recipe.yaml", "study study.yaml"])
def test_without_its_package_nothing_is_trained(command, monkeypatch, capsys):
    write_study()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert run("main", *command.split(), "--device", "cpu", "--track", "tensorboard") == 2
    error = capsys.readouterr().err
    assert "pip install 'mixacm-plugin[tensorboard]'" in error
    assert error.count("\n") == 1
    assert [*Path().rglob("*.pt")] == [Path("teacher.pt")]


def test_runs_of_a_study_are_tracked_in_their_folders():
    study = write_study(rows=[{"name": "one"}])
    (one,) = resolve(study, Path("cache"))
    execute(prepare(one, study, "cpu", "tensorboard"))
    assert [step for step, _ in points("loss", one.folder / "tensorboard")] == [1, 2]


@pytest.mark.slow
@pytest.mark.usefixtures("processes_that_find_the_tests_data")
def test_a_study_hands_the_tracker_on():
    write_study(rows=[{"name": "one"}])
    assert run("main", "study", "study.yaml", "--device", "cpu", "--track", "tensorboard") == 0
    assert list(Path("runs/studies/cache").glob("*/tensorboard/events*"))
