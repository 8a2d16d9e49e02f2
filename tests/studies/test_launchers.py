"""Launchers: runs in processes of their own, or as jobs of a cluster."""

import os
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import submitit
import torch
import yaml
from torchdistill.models.registry import MODEL_DICT

import recipes
from mixacm_plugin.commands.study import _parameters, tasks_of
from mixacm_plugin.common.checkpoints import load_checkpoint
from mixacm_plugin.studies.launchers import Cluster, Processes
from mixacm_plugin.studies.runner import run_all
from mixacm_plugin.studies.runs import resolve
from mixacm_plugin.studies.tasks import is_done, prepare
from studies import write_study
from weights import differing

PLUGIN = """
from torchdistill.models.registry import register_model
from mixacm_plugin import dm_wide_resnet

@register_model
def another_wide_resnet(**kwargs):
    return dm_wide_resnet(**kwargs)
"""

PREEMPTED = """
import os, signal
from pathlib import Path

from torch import nn
from torchdistill.losses.registry import register_mid_level_loss


@register_mid_level_loss
class Preempted(nn.Module):
    calls = 0

    def forward(self, student_io_dict, teacher_io_dict, targets):
        self.calls += 1
        once = Path("preempted")
        if self.calls == 3 and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGUSR2)  # as Slurm, told so by submitit
        return 0.0 * student_io_dict["."]["output"].sum()
"""


@pytest.fixture
def paths(monkeypatch):
    """Folders that processes import from: the tests', for their data, and this one."""
    helpers = Path(recipes.__file__).parent
    folders = [helpers, Path.cwd(), helpers.parent.parent]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def one_run():
    study = write_study(rows=[{"name": "one"}])
    (run,) = resolve(study, Path("cache"))
    return study, run


def ended(launcher, run):
    while not launcher.finished(run):
        time.sleep(0.05)
    return launcher.error(run)


@pytest.mark.slow
def test_a_run_knows_the_parts_that_other_plugins_register(paths, monkeypatch):
    Path("another.py").write_text(PLUGIN)
    Path("another-1.dist-info").mkdir()
    Path("another-1.dist-info/METADATA").write_text("Name: another\nVersion: 1\n")
    Path("another-1.dist-info/entry_points.txt").write_text(
        "[torchdistill.plugins]\nanother = another\n"
    )
    rows = [{"name": "one", "set": {"models.student_model.key": "another_wide_resnet"}}]
    study = write_study(rows=rows)
    monkeypatch.setitem(MODEL_DICT, "another_wide_resnet", None)  # as the command has it
    runs = resolve(study, Path("cache"))
    assert run_all(study, runs, Processes(), device="cpu") == {}


def test_a_killed_run_is_reported_with_its_signal(paths):
    study, run = one_run()
    launcher = Processes()
    launcher.submit(run, prepare(run, study, "cpu"))
    launcher.running[run.folder].kill()
    assert ended(launcher, run) == "killed by SIGKILL"


@pytest.mark.parametrize(
    ("device", "visible", "given"),
    [
        (None, None, ["0", "1", "0"]),
        ("cuda", "4,7", ["4", "7", "4"]),
        ("cuda:1", None, [None] * 3),
        ("cpu", None, [None] * 3),
    ],
)
def test_runs_on_this_machine_share_its_gpus(device, visible, given, paths, monkeypatch):
    study, run = one_run()
    found = []

    class Started:
        def __init__(self, target, args):
            found.append(args[-1].get("CUDA_VISIBLE_DEVICES"))

        def start(self):
            pass

        def is_alive(self):
            return True

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    launcher = Processes(3)
    launcher.context = Namespace(Process=Started)
    for name in ("one", "two", "three"):
        own = replace(run, folder=Path("cache", name))
        own.folder.mkdir(parents=True)
        launcher.submit(own, prepare(own, study, device))
    assert found == given


@pytest.mark.slow
def test_a_failure_is_not_blamed_on_what_an_earlier_attempt_printed(paths):
    study, run = one_run()
    task = prepare(run, study, "cpu")
    (run.folder / "log.txt").write_text("KeyboardInterrupt\n")
    (run.folder / "recipe.yaml").write_text("models: {}\n")
    launcher = Processes()
    launcher.submit(run, task)
    assert "recipe.yaml: " in ended(launcher, run)


@pytest.mark.slow
@pytest.mark.parametrize(("set_to", "threads"), [("1", 1), ("3,2", 3)])
def test_a_run_has_the_variables_of_its_study_whatever_started_before(
    set_to, threads, paths, monkeypatch
):
    study, run = one_run()
    task = prepare(run, study, "cpu")
    text = "f\"{os.environ['OMP_NUM_THREADS']}: {torch.get_num_threads()}\""
    Path("seen.py").write_text(f"import os, torch\nraise RuntimeError({text})\n")
    (run.folder / "recipe.yaml").write_text("dependencies: [{name: seen}]\n")
    monkeypatch.setenv("OMP_NUM_THREADS", set_to)
    launcher = Processes()
    launcher.submit(run, task)
    assert f"RuntimeError('{set_to}: {threads}')" in ended(launcher, run)


@pytest.mark.slow
def test_runs_go_through_submitit_as_an_array(paths, monkeypatch):
    study = write_study()
    runs = resolve(study, Path("cache"))
    launcher = Cluster(Path("submitit"), "local", {"timeout_min": 5}, jobs=2)
    submit, sizes = submitit.AutoExecutor._internal_process_submissions, []

    def note(self, submissions):
        sizes.append(len(submissions))
        return submit(self, submissions)

    monkeypatch.setattr(submitit.AutoExecutor, "_internal_process_submissions", note)
    assert run_all(study, runs, launcher, device="cpu") == {}
    assert sizes == [2]
    assert all(is_done(run, study) for run in runs)


@pytest.mark.slow
def test_a_preempted_job_is_queued_again_and_ends_as_if_nothing_had_happened(paths):
    Path("preempted_once.py").write_text(PREEMPTED)
    odd = {"criterion": {"key": "Preempted", "kwargs": {}}, "weight": 1.0}
    changes = {
        "dependencies": [{"name": "mixacm_plugin"}, {"name": "preempted_once"}],
        "train.criterion.kwargs.sub_terms.odd": odd,
        "train.train_data_loader.kwargs.batch_size": 4,
    }
    Path("odd.yaml").write_text(yaml.safe_dump(changes))
    study = write_study(rows=[{"name": "one", "set": "odd.yaml"}])
    weights = []
    for cache in ("cache", "undisturbed"):
        (run,) = resolve(study, Path(cache))
        launcher = Cluster(Path(cache) / "submitit", "local", {"timeout_min": 5}, jobs=1)
        assert run_all(study, [run], launcher, device="cpu") == {}
        assert is_done(run, study)
        weights.append(load_checkpoint(run.folder / "student.pt")["model"])
    assert Path("preempted").exists()
    (log,) = Path("cache/submitit").glob("*_log.out")
    assert "Requeued job" in log.read_text()
    assert not differing(*weights)


@pytest.mark.slow
def test_the_tasks_of_a_job_share_a_run(paths):
    study, run = one_run()
    tasks = {"timeout_min": 5, "tasks_per_node": 2}
    launcher = Cluster(Path("submitit"), "local", tasks, jobs=1)
    assert run_all(study, [run], launcher, device="cpu") == {}
    assert is_done(run, study)
    assert len(load_checkpoint(run.folder / "student.pt")["processes"]) == 2
    assert not list(run.folder.glob("*.state*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["slurm"], "--launcher: "),
        (["submitit-local", "--cluster", "gpus=1"], "--cluster: "),
        (["submitit-local", "--cluster", "timeout_min=1:30:00"], "--cluster: "),
        (["submitit-local", "--cluster", "gpus_per_node=1.5"], "--cluster: "),
        (["processes", "--cluster", "slurm_partition=gpu"], "--cluster slurm_partition=gpu: "),
    ],
    ids=["no scheduler", "no such parameter", "a text", "a fraction", "no cluster"],
)
def test_a_cluster_that_cannot_be_used_is_one_line(arguments, words, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    one_run()
    assert recipes.run("main", "study", "study.yaml", "--launcher", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mixacm: error: {words}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("launcher", "given", "tasks"),
    [
        ("slurm", ["nodes=2", "tasks_per_node=4"], 8),
        ("slurm", ["slurm_tasks_per_node=4"], 4),
        ("slurm", ["slurm_ntasks_per_node=4", "slurm_tasks_per_node=3", "tasks_per_node=2"], 4),
        ("slurm", ["slurm_nodes=2", "nodes=3", "local_tasks_per_node=5"], 2),
        ("submitit-local", ["local_tasks_per_node=2", "tasks_per_node=3"], 2),
        ("submitit-local", ["slurm_ntasks_per_node=4"], 1),
    ],
)
def test_tasks_are_counted_as_submitit_reads_them(launcher, given, tasks):
    assert tasks_of(Namespace(launcher=launcher, cluster=given)) == tasks


def test_parameters_of_a_cluster_have_their_kinds():
    given = ["mem_gb=1.5", "slurm_use_srun=False", "slurm_nodelist=1,2", "timeout_min=90"]
    given += ["slurm_additional_parameters={'account': 'a'}", "slurm_time=1:30:00"]
    assert _parameters(Namespace(launcher="slurm", cluster=given)) == {
        "mem_gb": 1.5,
        "slurm_use_srun": False,
        "slurm_nodelist": "1,2",
        "timeout_min": 90,
        "slurm_additional_parameters": {"account": "a"},
        "slurm_time": "1:30:00",
    }


def test_only_jobs_that_still_run_are_cancelled():
    class Job:
        def __init__(self, done):
            self.ended, self.cancelled = done, False

        def done(self):
            return self.ended

        def cancel(self, check):
            assert not check  # Slurm's scancel fails for a job that has just ended
            self.cancelled = True

    launcher = Cluster(Path("submitit"), "local", {}, jobs=2)
    launcher.running = {Path("a"): Job(done=True), Path("b"): Job(done=False)}
    launcher.stop()
    assert [job.cancelled for job in launcher.running.values()] == [False, True]
