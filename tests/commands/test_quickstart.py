"""The quickstart: how it stops, and how many processes it starts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import recipes
from mixacm_plugin.commands import quickstart
from mixacm_plugin.common.distributed import available_cpus
from mixacm_plugin.studies.runs import resolve
from processes import wait_until
from studies import done_here, write_study


def test_it_ends_with_what_to_do_next(monkeypatch, capsys):
    study = write_study(rows=[{"name": "one"}])
    done_here(study, resolve(study, Path("out/runs")))
    monkeypatch.setattr(quickstart, "STUDY", "study.yaml")
    assert recipes.run("main", "quickstart", "--out", "out", "--device", "cpu") == 0
    _, _, after = capsys.readouterr().out.partition("written to out\n")
    assert after.startswith("next:\n  mixacm report out  (")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
@pytest.mark.usefixtures("processes_that_find_the_tests_data")
@pytest.mark.parametrize(
    "begun",
    ["task_*.json", "metrics.jsonl"],  # what runs need is imported; a student is trained
)
def test_ctrl_c_ends_all_processes_at_once(begun):
    command = [sys.executable, "-m", "mixacm_plugin", "quickstart", "--device", "cpu"]
    with subprocess.Popen(
        command,
        start_new_session=True,
        stderr=subprocess.PIPE,
        # A shell's background jobs ignore SIGINT, and with them these tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            wait_until(lambda: list(Path().rglob(begun)))
            time.sleep(0.5)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            assert process.wait(timeout=30) == 130
            assert process.stderr.read().decode() == ""
            wait_until(lambda: not is_running(process.pid))
        finally:
            if is_running(process.pid):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
@pytest.mark.usefixtures("processes_that_find_the_tests_data")
@pytest.mark.parametrize("launcher", ["processes", "submitit-local"])
def test_runs_end_with_the_study_that_started_them_even_if_it_is_killed(launcher):
    write_study(set={"train.num_epochs": 100_000})
    command = [sys.executable, "-m", "mixacm_plugin", "study", "study.yaml", "--device", "cpu"]
    command += ["--launcher", launcher, "--cache", "cache"]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            wait_until(lambda: [f for f in Path().rglob("metrics.jsonl") if f.stat().st_size])
            process.kill()
            process.wait()
            (folder,) = Path("cache").iterdir()
            wait_until(lambda: has_ended(folder), seconds=30)
        finally:
            if is_running(process.pid):
                os.killpg(process.pid, signal.SIGKILL)


def has_ended(folder):
    """Whether nobody writes epochs into a run's folder any more."""
    size = (folder / "metrics.jsonl").stat().st_size
    time.sleep(2)
    return (folder / "metrics.jsonl").stat().st_size == size


def is_running(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_cores_that_the_process_may_not_use_are_not_counted(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 5}, raising=False)
    assert available_cpus() == 2
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS, Windows
    assert available_cpus() == 8
