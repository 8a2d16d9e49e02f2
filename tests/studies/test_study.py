"""Studies: resolved into runs, run in processes of their own, cached and resumable."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout

import recipes
from mixacm_plugin import Clean, evaluate
from mixacm_plugin.loading.models import load_model
from mixacm_plugin.reporting.plots.channel_maps import ChannelMaps
from mixacm_plugin.reporting.summary import OTHER_IMAGES, summarise
from mixacm_plugin.reporting.tables import lay_out
from mixacm_plugin.studies.execute import execute
from mixacm_plugin.studies.launchers import Processes
from mixacm_plugin.studies.results import read_results, write_results
from mixacm_plugin.studies.runner import collect, run_all
from mixacm_plugin.studies.runs import resolve
from mixacm_plugin.studies.tasks import is_done, prepare
from studies import LR, REFERENCE, done_here, write_study
from weights import differing, state

pytestmark = pytest.mark.usefixtures("processes_that_find_the_tests_data")


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was_and_ends_as_if_it_had_not_been_killed():
    study = write_study(set={"train.num_epochs": 60, "train.scheduler.kwargs.T_max": 60})
    runs = resolve(study, Path("cache"))

    def kill_in_row_two(active, finished, total):
        if active[:1] == [runs[1]] and len(runs[1].epochs) >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(study, runs, Processes(), watch=kill_in_row_two, device="cpu", poll_seconds=0.02)
    assert is_done(runs[0], study)
    assert not is_done(runs[1], study)
    files = {f: f.stat().st_mtime_ns for f in runs[0].folder.iterdir()}
    epochs = len(runs[1].epochs)

    started = []
    assert run_all(study, runs, Processes(), report=started.append, device="cpu") == {}
    assert [line for line in started if line.startswith("started")] == ["started two, seed 0"]
    assert {f: f.stat().st_mtime_ns for f in runs[0].folder.iterdir()} == files
    assert 3 <= epochs < 60 == len(runs[1].epochs)

    uninterrupted = resolve(study, Path("other"))[1]
    done_here(study, [uninterrupted])
    assert uninterrupted.result["accuracies"] == runs[1].result["accuracies"]
    weights = [
        torch.load(r.folder / "best_student.pt", weights_only=False)["model"]
        for r in (uninterrupted, runs[1])
    ]
    assert differing(*weights) == []


def test_only_one_process_works_at_a_run(monkeypatch):
    study = write_study(rows=[{"name": "one"}])
    (run,) = resolve(study, Path("cache"))
    worked = []

    class Watched(recipes.Few):
        """A dataset, which is made only while the run is worked at."""

        def __init__(self, *args, **kwargs):
            with pytest.raises(Timeout):
                FileLock(run.folder / "lock", timeout=0).acquire()
            worked.append(kwargs["split"])
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(recipes, "Few", Watched)
    execute(prepare(run, study, "cpu"))
    assert {"train", "val", "test"} <= set(worked)
    worked.clear()
    execute(prepare(run, study, "cpu"))
    assert worked


def test_studies_that_share_a_run_each_get_their_own_measurements():
    pgd = {"attack": "pgd", "eps": 0.1, "steps": 2, "n": 20}
    one = write_study(rows=[{"name": "one"}], evaluate=[{"attack": "clean"}])
    (run,) = resolve(one, Path("cache"))
    first = prepare(run, one, "cpu")
    other = write_study(rows=[{"name": "one"}], evaluate=[pgd])
    for task in (prepare(run, other, "cpu"), first):
        execute(task)
    assert is_done(run, one)
    assert is_done(run, other)


@pytest.mark.slow
def test_a_failing_row_is_reported_and_does_not_stop_the_others():
    study = write_study(rows=[{"name": "bad", "set": {"train.num_epochs": None}}, {"name": "good"}])
    runs = resolve(study, Path("cache"))
    lines = []
    errors = run_all(study, runs, Processes(), report=lines.append, device="cpu")
    assert list(errors) == [runs[0].key]
    assert "train.num_epochs" in errors[runs[0].key]
    results = collect(study, runs, errors)
    assert [row.runs[0].status for row in results.rows] == ["failed", "done"]
    assert "train.num_epochs" in results.rows[0].runs[0].error


def test_only_missing_measurements_are_made_of_a_trained_run():
    study = write_study(rows=[{"name": "one"}])
    (run,) = resolve(study, Path("cache"))
    done_here(study, [run])
    checkpoint = run.folder / "student.pt"
    trained = checkpoint.stat().st_mtime_ns
    more = write_study(rows=[{"name": "one"}], evaluate=[{"attack": "clean", "n": 7}])
    assert not is_done(run, more)
    done_here(more, [run])
    assert is_done(run, more)
    assert is_done(run, study)
    assert checkpoint.stat().st_mtime_ns == trained


def test_a_measurement_on_other_test_images_takes_those_before_it_along(monkeypatch):
    clean, still = {"attack": "clean"}, {"attack": "pgd", "eps": 0.0, "steps": 1}
    runs = resolve(write_study(rows=[{"name": "one"}]), Path("cache"))
    done_here(write_study(rows=[{"name": "one"}], evaluate=[clean]), runs)
    state = runs[0].folder / "0-1.state"
    state.touch()
    before = runs[0].result["test_images"]

    class Other(recipes.FirstDigits):
        """Images that no recipe tells of."""

        def __init__(self, split, n):
            super().__init__(split, n)
            self.images = 1 - self.images

    monkeypatch.setattr(recipes, "Few", Other)
    done_here(write_study(rows=[{"name": "one"}], evaluate=[clean]), runs)
    assert runs[0].result["test_images"] == before  # nothing was missing
    done_here(write_study(rows=[{"name": "one"}], evaluate=[clean, still]), runs)
    assert runs[0].result["test_images"] != before
    student = load_model(runs[0].recipe, "student")
    expected = evaluate(student, Other("test", 50), Clean()).correct
    figures = runs[0].result["accuracies"].values()
    assert {figure["correct"] for figure in figures} == {expected}
    assert not state.exists()


def test_results_carry_the_versions_that_trained_and_measured():
    study = write_study(rows=[{"name": "one"}])
    runs = resolve(study, Path("cache"))
    done_here(study, runs)
    result = {**runs[0].result, "packages": {"torch": ["1.0"]}}
    result["accuracies"].popitem()
    (runs[0].folder / "result.json").write_text(json.dumps(result))
    done_here(study, runs)  # the measurement that is missing
    assert collect(study, runs, {}).packages["torch"] == f"1.0, {version('torch')}"


def test_a_checkpoint_between_stages_is_a_runs_own():
    Path("staged.yaml").write_text(recipes.two_stages(recipes.scratch()))
    Path("between.yaml").write_text(
        "train.model: {dst_ckpt: between.pt}\ntrain.stage2.model.src_ckpt: between.pt\n"
    )
    study = write_study(
        seeds=[0, 1], rows=[{"name": "a", "base": "staged.yaml", "set": "between.yaml"}]
    )
    runs = resolve(study, Path("cache"))
    done_here(study, runs)
    assert not Path("between.pt").exists()
    first, second = (torch.load(run.folder / "stage_model.pt") for run in runs)
    assert differing(first, second)
    assert [run.key for run in resolve(study, Path("cache"))] == [run.key for run in runs]


def test_a_students_checkpoint_between_stages_is_not_the_one_of_its_epochs():
    Path("staged.yaml").write_text(recipes.two_stages(recipes.mixacm()))
    Path("between.yaml").write_text(
        "train.student: {dst_ckpt: between.pt}\ntrain.stage2.student.src_ckpt: between.pt\n"
    )
    study = write_study(rows=[{"name": "a", "base": "staged.yaml", "set": "between.yaml"}])
    (run,) = resolve(study, Path("cache"))
    config = run.recipe.build()
    between = config["train"]["student"]["dst_ckpt"]
    assert between == config["train"]["stage2"]["student"]["src_ckpt"]
    assert between != config["models"]["student_model"]["dst_ckpt"]


def test_results_carry_every_figure_with_its_setting():
    study = write_study(
        seeds=[0, 1],
        rows=[{"name": "one", "reference": [1.0, 2.0]}],
        reference=REFERENCE,
    )
    runs = resolve(study, Path("cache"))
    done_here(study, runs)
    results = collect(study, runs, {})
    assert results.packages["mixacm-plugin"]
    (row,) = results.rows
    assert row.size_ratio == 1.0
    assert row.reference == [1.0, 2.0]
    assert [run.seed for run in row.runs] == [0, 1]
    pgd = row.runs[1].accuracies[1]
    assert pgd.attack == {
        "name": "pgd",
        "norm": "Linf",
        "eps": 0.1,
        "steps": 2,
        "step_size": "0.025",
        "restarts": 1,
    }
    assert pgd.n == 20
    command = row.training_command(row.runs[1])
    assert command == ["torchdistill", "--config", "recipe.yaml", "--seed", "1"]
    write_results(results, "out")
    assert read_results("out") == results


def test_a_row_can_be_the_moving_average_of_its_student():
    Path("ema.yaml").write_text("ema: {decay: 0.5}\n")
    rows = [{"name": name, "set": "ema.yaml", "measure": name} for name in ("student", "ema")]
    study = write_study(rows=rows)
    runs = resolve(study, Path("cache"))
    done_here(study, runs)
    average = load_model(runs[1].recipe, "student", str(runs[1].folder / "ema_student.pt"))
    student = load_model(runs[1].recipe, "student")
    assert differing(state(average), state(student))
    (run,) = collect(study, runs, {}).rows[1].runs
    expected = evaluate(average, recipes.Few("test", 50), Clean())
    assert run.figures()[0].correct == expected.correct


def test_the_channel_maps_of_a_moving_averages_row_are_the_averages():
    Path("ema.yaml").write_text("ema: {decay: 0.5}\n")
    study = write_study(rows=[{"name": "average", "set": "ema.yaml", "measure": "ema"}])
    runs = resolve(study, Path("cache"))
    done_here(study, runs)
    shutil.copy("teacher.pt", runs[0].folder / "ema_student.pt")  # at no distance
    figure = ChannelMaps(kind="channel_maps", n=10).draw(collect(study, runs, {}), Path())
    (table, _) = (table for axes in figure.axes for table in axes.tables)
    assert [table[1, column].get_text().get_text() for column in range(3)] == [
        "0.000",
        "1.000",
        "0.000",
    ]


def test_rows_that_are_measured_on_other_images_are_known():
    other = {"datasets.few/test.init.kwargs.n": 40}
    rows = [{"name": "one"}, {"name": "other", "set": other}, {"name": "slow", "set": {LR: 0.01}}]
    study = write_study(rows=rows)
    runs = resolve(study, Path("cache"))
    done_here(study, runs)
    table = summarise(collect(study, runs, {}))
    assert [row.other_images for row in table.rows] == ["", OTHER_IMAGES, ""]


def test_a_row_can_be_a_teacher_that_is_only_measured():
    rows = [{"name": "student"}, {"name": "teacher", "measure": "teacher"}]
    study = write_study(seeds=[0, 1], rows=rows)
    runs = resolve(study, Path("cache"))
    assert [run.label for run in runs] == ["student, seed 0", "student, seed 1", "teacher"]
    done_here(study, runs)
    assert not (runs[2].folder / "student.pt").exists()
    row = collect(study, runs, {}).rows[1]
    assert (row.runs[0].seed, row.runs[0].status) == (None, "done")
    teacher = evaluate(load_model(runs[2].recipe, "teacher"), recipes.Few("test", 50), Clean())
    assert row.runs[0].figures()[0].correct == teacher.correct
    table = lay_out(summarise(collect(study, runs, {})))
    assert "training seeds 0, 1 (without ±: of a single model)" in table.caption


@pytest.mark.slow
def test_equal_rows_are_run_once():
    study = write_study(rows=[{"name": "a"}, {"name": "b", "set": {LR: 0.05}}])
    runs = resolve(study, Path("cache"))
    lines = []
    run_all(study, runs, Processes(), report=lines.append, device="cpu")
    assert len([line for line in lines if line.startswith("started")]) == 1
    assert all(is_done(run, study) for run in runs)
