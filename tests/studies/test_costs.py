"""Costs: the time of a row's training step, relative to the first row's."""

from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

import recipes
from mixacm_plugin.studies import costs
from mixacm_plugin.studies.costs import relative_costs
from mixacm_plugin.studies.runs import resolve
from studies import LR, done_here, write_study


@pytest.mark.slow
def test_costs_are_ratios_of_steps_that_take_turns_in_one_process(monkeypatch):
    pairs = "train.criterion.kwargs.sub_terms.acm.criterion.kwargs.pairs"
    pool = {"side": "teacher", "kind": "adaptive_max_pool"}
    wider = {f"{pairs}.{name}.transform": pool for name in ("middle", "last")}
    wider["models.student_model.kwargs.width"] = 8
    study = write_study(rows=[{"name": "one"}, {"name": "same"}, {"name": "wide", "set": wider}])
    runs = resolve(study, Path("cache"))
    assert relative_costs(study, runs, recipes.CPU) == {}
    monkeypatch.setattr(costs, "SECONDS", 0.0)
    done_here(study, runs)
    found = relative_costs(study, runs, recipes.CPU)
    assert list(found) == ["one", "same", "wide"]
    assert (found["one"], found["same"]) == (1.0, 1.0)
    assert found["wide"] > 2
    assert relative_costs(study, runs, recipes.CPU) == found  # from the cache


def test_the_cost_of_a_row_is_that_of_all_its_stages(monkeypatch):
    Path("staged.yaml").write_text(recipes.two_stages(recipes.scratch()))
    study = write_study(rows=[{"name": "one"}, {"name": "two", "base": "staged.yaml"}])
    runs = resolve(study, Path("cache"), ["train.stage2.num_epochs=6"])
    one, two = (costs.stage_steps(run, recipes.CPU) for run in runs)
    assert [share for share, _ in one] == [1.0]
    assert [share for share, _ in two] == [0.25, 0.75]
    clock = iter([0.0, 10.0, 0.0, 2.0])  # a first stage of slow steps, a second of fast ones
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert costs.seconds_of(two, recipes.CPU) == 0.25 * 10 + 0.75 * 2


def test_a_row_whose_cost_cannot_be_measured_has_none(caplog):
    rows = [{"name": "one"}, {"name": "two", "set": {LR: 0.3}}]
    study = write_study(rows=rows)
    runs = resolve(study, Path("cache"))
    done_here(study, runs)
    Path("teacher.pt").unlink()
    assert relative_costs(study, runs, recipes.CPU) == {"one": 1.0}
    assert "the cost of 'two' can't be measured" in caplog.text


def test_measuring_costs_leaves_the_checkpoints_between_stages_alone(monkeypatch):
    monkeypatch.setattr(costs, "SECONDS", 0.0)
    staged = recipes.two_stages(recipes.scratch())
    Path("staged.yaml").write_text(
        staged.replace("train:\n", "train:\n  model: {dst_ckpt: stage1.pt}\n", 1)
    )
    study = write_study(rows=[{"name": "one"}, {"name": "two", "base": "staged.yaml"}])
    runs = resolve(study, Path("cache"))
    done_here(study, runs)
    between = runs[1].folder / "stage_model.pt"
    before = between.read_bytes()
    assert set(relative_costs(study, runs, recipes.CPU)) == {"one", "two"}
    assert between.read_bytes() == before
    assert [run.key for run in resolve(study, Path("cache"))] == [run.key for run in runs]


def test_free_adversarial_training_has_a_cost_beside_a_row_of_the_same_kind_of_box(monkeypatch):
    monkeypatch.setattr(costs, "SECONDS", 0.0)
    Path("scratch.yaml").write_text(recipes.scratch())
    rows = [{"name": "scratch"}, {"name": "free", "set": "compare/free_at"}]
    study = write_study(base="scratch.yaml", rows=rows)
    runs = resolve(study, Path("cache"))
    done_here(study, runs)
    assert set(relative_costs(study, runs, recipes.CPU)) == {"scratch", "free"}


def test_a_run_that_is_being_measured_does_not_hold_up_its_cost(monkeypatch):
    monkeypatch.setattr(costs, "SECONDS", 0.0)
    study = write_study(rows=[{"name": "one"}, {"name": "two", "set": {LR: 0.3}}])
    runs = resolve(study, Path("cache"))
    done_here(study, runs)
    monkeypatch.setattr(costs, "FileLock", partial(FileLock, timeout=0))
    with FileLock(runs[1].folder / "lock"):
        found = relative_costs(study, runs, recipes.CPU)
    assert set(found) == {"one", "two"}
