"""Resuming: a run goes on from a checkpoint as if it had never stopped."""

from pathlib import Path

import pytest
import torch
from torchdistill.losses.high_level import WeightedSumLoss
from torchdistill.losses.registry import register_high_level_loss

from mixacm_plugin import RecipeError, Training, dm_wide_resnet
from mixacm_plugin.training import checkpoint
from recipes import CPU, mixacm, recipe, two_stages
from runs import figures, kill_in_epoch, metrics, saved, trained
from weights import differing


@register_high_level_loss
class Ramped(WeightedSumLoss):
    """A sum of one's own, which grows over the first four steps and counts them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, *args, **kwargs):
        self.steps += 1
        return super().forward(*args, **kwargs) * self.steps.clamp(max=4) / 4


RESUMED = {  # the recipe, and the epoch in which it is killed
    "plain": (mixacm(), 1),
    "affine": (mixacm(kind="affine"), 1),
    "gradients summed": (mixacm().replace("key: SGD", "key: SGD\n    grad_accum_step: 4"), 1),
    "scheduler by steps": (mixacm().replace("key: Cos", "scheduling_step: 3\n    key: Cos"), 1),
    "own sum": (mixacm().replace("WeightedSumLoss", "Ramped"), 1),
    "stage 1": (two_stages(mixacm()), 1),
    "start of stage 2": (two_stages(mixacm()), 2),
    "stage 2": (two_stages(mixacm()), 3),
    "affine, stage 2": (two_stages(mixacm(kind="affine")), 3),
}


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
@pytest.mark.parametrize("text, killed_in", RESUMED.values(), ids=RESUMED)
def test_a_resumed_run_ends_as_one_that_never_stopped(text, killed_in):
    trained(text)
    whole, whole_figures = saved(), figures()
    kill_in_epoch(Training(recipe(text), CPU, 0), killed_in)
    assert saved()["epoch"] == killed_in - 1
    training = Training(recipe(text), CPU)  # not seeded: all that counts is in the checkpoint
    training.resume("out/student.pt")
    assert 100 * training.best_val_accuracy == saved()["best_value"]
    training.run()
    resumed = saved()
    assert not differing(whole["model"], resumed["model"])
    assert not differing(whole.get("transforms", {}), resumed.get("transforms", {}))
    assert whole["best_value"] == resumed["best_value"]
    assert figures() == whole_figures


def test_metrics_have_one_line_an_epoch_also_after_resuming_from_an_earlier_checkpoint():
    trained(None, "train.num_epochs=1")
    Path("out/student.pt").rename("first.pt")
    trained()
    training = Training(recipe(), CPU)
    training.resume("first.pt")
    training.run()
    assert [line["epoch"] for line in metrics()] == [0, 1]


@pytest.mark.parametrize("text", [mixacm(), two_stages(mixacm())], ids=["one stage", "two"])
def test_resuming_from_a_finished_run_trains_nothing(text):
    trained(text)
    before = Path("out/student.pt").read_bytes()
    training = Training(recipe(text), CPU)
    training.resume("out/student.pt")
    training.run()
    assert Path("out/student.pt").read_bytes() == before


@pytest.mark.parametrize(
    "content, words",
    [
        (dm_wide_resnet(10, 1, 10).state_dict(), "name it as the student's src_ckpt"),
        (None, "not found"),
    ],
    ids=["weights only", "missing"],
)
def test_what_cannot_be_resumed_is_refused(content, words):
    training = Training(recipe(), CPU)
    if content is not None:
        torch.save(content, "given.pt")
    with pytest.raises(RecipeError, match=f"--resume: .*{words}"):
        training.resume("given.pt")


@pytest.mark.parametrize("epochs", [2, 3])
def test_resuming_with_other_settings_is_warned_of(epochs, caplog):
    trained()
    with caplog.at_level("WARNING", logger="mixacm"):
        Training(recipe(None, f"train.num_epochs={epochs}"), CPU).resume("out/student.pt")
    assert ("other settings than num_epochs: 3" in caplog.text) == (epochs == 3)


@pytest.mark.parametrize(
    "override", ["models.student_model.kwargs.width=2", "train.scheduler=null"]
)
def test_a_checkpoint_of_another_recipe_is_refused(override):
    trained(mixacm(kind="adaptive_max_pool"), override)
    with pytest.raises(RecipeError, match="--resume: "):
        Training(recipe(), CPU).resume("out/student.pt")


def test_a_line_of_metrics_that_a_kill_cut_off_does_not_stop_resuming():
    trained()
    lines = Path("out/metrics.jsonl").read_text().splitlines()
    Path("out/metrics.jsonl").write_text(f"{lines[0]}\n{lines[1][:20]}")
    training = Training(recipe(), CPU)
    training.resume("out/student.pt")
    training.run()
    assert [line["epoch"] for line in metrics()] == [0]


def test_a_kill_while_a_resumed_run_begins_leaves_its_history(monkeypatch):
    trained()
    before, resumed = metrics(), Training(recipe(), CPU)
    resumed.resume("out/student.pt")

    def kill(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", kill)
    with pytest.raises(KeyboardInterrupt):
        resumed.run()
    assert metrics() == before


@pytest.mark.parametrize("processes", [1, 2])
def test_what_processes_remember_each_for_itself_is_said_to_be_lost(processes, monkeypatch, caplog):
    arguments = mixacm().replace("recipes.Few", "recipes.FirstDigits"), "compare/crd"
    trained(*arguments, "train.num_epochs=1")
    training = Training(recipe(*arguments, "train.num_epochs=1"), CPU)
    torch.save({**saved(), "rng": saved()["rng"] * processes}, "given.pt")
    monkeypatch.setattr(checkpoint, "get_world_size", lambda: processes)
    training.resume("given.pt")
    assert ("the first process's memory of crd" in caplog.text) == (processes == 2)


@pytest.mark.parametrize("scheduled", [True, False])
@pytest.mark.parametrize("begun, goes_on", [(False, True), (True, False), (True, True)])
def test_a_learning_rate_that_is_adjusted_too_late_is_told(
    begun, goes_on, scheduled, monkeypatch, caplog
):
    monkeypatch.setattr("torchdistill.common.main_util.get_world_size", lambda: 2)
    text = recipe(None, *([] if scheduled else ["train.scheduler=null"]))
    Training(text, CPU, 0, adjust_lr=begun).run()
    Training(text, CPU, adjust_lr=goes_on).resume("out/student.pt")
    first, now = (0.05 * (1 + adjusted) for adjusted in (begun, goes_on))
    told = f"begun with learning rate {first:g}, with which it goes on, not with {now:g}"
    assert (told in caplog.text) == (begun != goes_on)


@pytest.mark.parametrize("moved", [True, False])
def test_a_best_epoch_that_lies_in_another_folder_is_said_to_be_missing(moved, caplog):
    trained(None, "train.num_epochs=1")
    folder = "elsewhere" if moved else "out"
    training = Training(recipe(None, f"models.student_model.dst_ckpt={folder}/student.pt"), CPU)
    training.resume("out/student.pt")
    training.validator.best.score = [2.0]  # which no later epoch has
    training.run()
    assert ("elsewhere/best_student.pt isn't there" in caplog.text) == moved
    assert Path(folder, "best_student.pt").exists() != moved
