"""A run's folder: one training at a time, and no earlier run lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mixacm_plugin import Training
from processes import wait_until
from recipes import CPU, mixacm, recipe, run, write
from runs import metrics, saved, trained
from weights import differing

TRAIN = ("torchdistill", "--config", "recipe.yaml", "--device", "cpu")
LONG = mixacm().replace("num_epochs: 2", "num_epochs: 100000")
FILES = ("out/student.pt", "out/best_student.pt", "out/metrics.jsonl")


def contents():
    return {name: Path(name).read_bytes() for name in FILES if Path(name).exists()}


def killed_in_first_epoch(*overrides):
    """Let an overwriting run die before its first epoch is written."""
    training = Training(recipe(None, *overrides), CPU, 1)

    def dying(*_, **__):
        raise KeyboardInterrupt

    training.box.forward_process = dying
    with pytest.raises(KeyboardInterrupt):
        training.run()


def kill_at(monkeypatch, name, number):
    """Let the process die at the replacement of a file, counted from 0: nothing is cleaned up."""
    replace, calls = os.replace, iter(range(100))

    def dying(source, target):
        if Path(target).name == name and next(calls) == number:
            monkeypatch.setattr("mixacm_plugin.training.folder._put_back", lambda _: None)
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dying)


@pytest.mark.slow
@pytest.mark.usefixtures("processes_that_find_the_tests_data")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_second_training_is_refused_until_the_first_has_ended_even_if_it_was_killed(
    workers, capsys
):
    write(LONG.replace("{batch_size: 16}", f"{{batch_size: 16, num_workers: {workers}}}"))
    command = [sys.executable, "-m", "mixacm_plugin", "train", *TRAIN[1:], "--seed", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as first:
        try:
            wait_until(lambda: Path("out/student.pt").exists())
            for flag in ("--resume", "--overwrite"):
                assert run(*TRAIN, flag) == 2
                error = capsys.readouterr().err
                assert f"another training (process {first.pid} of " in error
                assert error.count("\n") == 1
            assert first.poll() is None
        finally:
            first.send_signal(signal.SIGKILL)
    epochs = saved()["epoch"] + 2
    assert run(*TRAIN, "--set", f"train.num_epochs={epochs}", "--resume", "out/student.pt") == 0
    assert [line["epoch"] for line in metrics()] == list(range(epochs))


@pytest.mark.parametrize("leave", FILES)
def test_the_same_command_again_changes_nothing(leave, capsys):
    trained()
    for name in set(FILES) - {leave}:
        Path(name).unlink()
    Path("train.log").write_text("of the first run")
    before = contents()
    assert run(*TRAIN, "--run_log", "train.log") == 2
    goes_on = "--resume goes on with it, " if leave.endswith(".pt") else ""
    words = f"dst_ckpt: an earlier run has written {leave}; {goes_on}--overwrite puts a new run in "
    assert f"{words}its place, and a dst_ckpt in another folder keeps" in capsys.readouterr().err
    assert contents() == before
    assert Path("train.log").read_text() == "of the first run"


def test_another_file_in_the_folder_of_a_run_is_not_told_to_resume(capsys):
    trained()
    other = ("--set", "models.student_model.dst_ckpt=out/other.pt")
    for flags in ((), ("--resume",)):
        assert run(*TRAIN, *other, *flags) == 2
        error = capsys.readouterr().err
        assert "an earlier run has written out/metrics.jsonl; --overwrite puts" in error


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again():
    killed_in_first_epoch()
    assert run(*TRAIN) == 0


def test_overwrite_keeps_the_earlier_run_until_the_first_epoch_is_written():
    trained()
    before = contents()
    killed_in_first_epoch("train.optimizer.kwargs.lr=0.01")
    assert contents() == before
    assert run(*TRAIN, "--overwrite", "--set", "train.num_epochs=1") == 0
    assert [line["epoch"] for line in metrics()] == [0]
    assert saved()["epoch"] == saved("out/best_student.pt")["epoch"] == 0
    assert sorted(os.listdir("out")) == sorted(
        [".training.lock", *(Path(name).name for name in FILES)]
    )


@pytest.mark.parametrize("name", [Path(name).name for name in FILES])
def test_a_kill_while_the_first_epoch_is_written_leaves_the_old_run_or_the_new(name, monkeypatch):
    trained()
    before = contents()
    for number in (0, 1):  # aside, then in place
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            kill_at(patch, f".{name}.replaced" if number == 0 else name, 0)
            trained(seed=1)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("mixacm_plugin.training.loop.Training._train", kill)
            trained(seed=1)  # the next training in the folder, killed too
        assert contents() == before
        assert sorted(os.listdir("out")) == sorted(
            [".training.lock", *(Path(name).name for name in FILES)]
        )


def kill(*_):
    raise KeyboardInterrupt


def test_resume_alone_begins_or_goes_on_or_says_that_nothing_is_left(capsys):
    write()
    killed = ("--seed", "0", "--resume")
    assert run(*TRAIN, *killed) == 0  # as a cluster starts it, again and again
    whole = saved()
    Path("out/student.pt").unlink()
    Path("out/metrics.jsonl").unlink()
    training = Training(recipe(), CPU, 0)
    training.box.num_epochs = 1
    training.run()
    assert saved()["epoch"] == 0
    assert run(*TRAIN, *killed) == 0
    assert not differing(whole["model"], saved()["model"])
    capsys.readouterr()
    before = contents()
    assert run(*TRAIN, *killed) == 0
    assert contents() == before
    assert "nothing to train: out/student.pt is of the last epoch" in capsys.readouterr().out


def test_resume_alone_goes_on_with_the_first_epochs_best_where_the_last_was_not_yet_written():
    trained()
    whole = saved()
    training = Training(recipe(), CPU, 0)
    training.box.num_epochs = 1
    training.run()
    Path("out/student.pt").unlink()
    assert run(*TRAIN, "--resume") == 0
    assert not differing(whole["model"], saved()["model"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--set", "train.num_epochs=3"), "there num_epochs: 2; now num_epochs: 3; to go on with"),
        (("--seed", "1"), "there seed 0; now seed 1"),
        (("--overwrite",), "goes on with the run that is there"),
    ],
)
def test_resume_alone_is_for_the_same_recipe_and_seed(argv, words, capsys):
    trained()
    before = contents()
    assert run(*TRAIN, "--resume", *argv) == 2
    assert words in capsys.readouterr().err
    assert contents() == before


def test_a_checkpoint_from_elsewhere_does_not_take_the_place_of_a_run(capsys):
    trained()
    Path("other.pt").write_bytes(Path("out/best_student.pt").read_bytes())
    before = contents()
    assert run(*TRAIN, "--resume", "other.pt") == 2
    assert "an earlier run has written out/student.pt" in capsys.readouterr().err
    assert contents() == before
    assert run(*TRAIN, "--resume", "other.pt", "--overwrite") == 0
    assert run(*TRAIN, "--resume", "out/best_student.pt") == 0  # of this run


def test_a_file_that_holds_no_mapping_is_no_checkpoint_to_resume_from(capsys):
    write()
    Path("out").mkdir()
    torch.save([torch.zeros(1)], "out/student.pt")
    assert run(*TRAIN, "--resume") == 2
    assert "it isn't a checkpoint to resume from" in capsys.readouterr().err


def test_a_finished_run_resumed_elsewhere_is_one_true_line(capsys):
    trained()
    capsys.readouterr()
    elsewhere = ("--set", "models.student_model.dst_ckpt=new/student.pt")
    assert run(*TRAIN, *elsewhere, "--resume", "out/student.pt") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "student" in line]
    assert lines[1:] == [
        "nothing to train: out/student.pt is of the last epoch; new/student.pt isn't written"
    ]
    assert "with other settings than dst_ckpt: new/student.pt" in lines[0]
    assert not Path("new/student.pt").exists()


def test_a_log_goes_on_with_its_run():
    write()
    assert run(*TRAIN, "--run_log", "train.log") == 0
    first = Path("train.log").read_text()
    for more, code in (
        ("--resume", 0),
        ("--seed=1", 2),
        ("-test_only", 0),
    ):
        assert run(*TRAIN, "--run_log", "train.log", more) == code
        assert Path("train.log").read_text().startswith(first)


def test_what_killed_runs_left_unfinished_is_cleared_away():
    write()
    Path("out").mkdir()
    for name in ("student.pt", "best_student.pt", "metrics.jsonl"):
        Path(f"out/.{name}.another-host.123.tmp").touch()
    Path("out/.other.pt.another-host.123.tmp").touch()
    assert run(*TRAIN) == 0
    assert [file.name for file in Path("out").glob(".*.tmp")] == [".other.pt.another-host.123.tmp"]


def test_resume_alone_goes_on_with_a_shipped_recipe_that_merges_mappings(capsys):
    command = ["--config", "quickstart/mixacm", "--device", "cpu", "--seed", "0"]
    command += ["--set", "train.num_epochs=1", "-student_only"]
    assert run("torchdistill", *command) == 0
    assert run("torchdistill", *command, "--resume") == 0
    assert "nothing to train" in capsys.readouterr().out
