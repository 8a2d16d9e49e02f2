"""The moving average of a student: what it is, where it lies, and that training is as without."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torchdistill.common.main_util import load_ckpt

from mixacm_plugin import Training, dm_wide_resnet
from mixacm_plugin.common.distributed import init_process_group
from mixacm_plugin.common.signals import Stopped
from mixacm_plugin.loading.models import load_model
from mixacm_plugin.training.moving_average import MovingAverage
from processes import run_processes
from recipes import CPU, mixacm, recipe, run, two_stages, write
from runs import metrics, saved, trained
from weights import differing, state


def averaged(text=None, block="{decay: 0.5}"):
    return f"{mixacm() if text is None else text}\nema: {block}\n"


ROBUST = "validate: {attack: pgd, eps: 0.05, steps: 2, n: 10}\n"
SUMMED = mixacm().replace("key: SGD", "key: SGD\n    grad_accum_step: 2")
TEXTS = {  # with the number of the optimiser's steps
    "plain": (mixacm(), 4),
    "stages": (two_stages(mixacm()), 8),
    "gradients summed": (SUMMED, 2),
}


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
@pytest.mark.parametrize("text", [text for text, _ in TEXTS.values()], ids=TEXTS)
def test_the_student_is_trained_as_without_it(text):
    plain = state(trained(text).models["student"])
    assert not differing(plain, state(trained(averaged(text) + ROBUST).models["student"]))


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
@pytest.mark.parametrize(("text", "steps"), TEXTS.values(), ids=TEXTS)
def test_it_follows_every_step_of_the_optimiser(text, steps, monkeypatch):
    seen, update = [], MovingAverage.update

    def watched(self, student):
        seen.append(state(student))
        update(self, student)

    monkeypatch.setattr(MovingAverage, "update", watched)
    training = trained(averaged(text))
    assert len(seen) == steps
    expected = seen[0]
    for now in seen[1:]:
        expected = {
            name: torch.lerp(value, now[name], 0.5) if value.is_floating_point() else now[name]
            for name, value in expected.items()
        }
    found = state(training.average.model)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6)
    assert differing(found, state(training.models["student"]))


def test_no_update_reads_anything_from_a_device():
    average = MovingAverage(nn.Linear(2, 2), 0.5)
    average.to(torch.device("meta"))  # of which nothing can be read
    student = nn.Linear(2, 2, device="meta")
    average.update(student)
    average.update(student)
    assert average.state()["steps"] == 2


def test_a_table_of_integers_is_copied():
    class Indexed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("index", torch.arange(100))

    student = Indexed()
    average = MovingAverage(student, 0.9)
    for _ in range(5):
        average.update(student)
    assert torch.equal(average.model.index, torch.arange(100))


def test_it_is_written_as_a_checkpoint_of_the_plain_student():
    training = trained(averaged())
    average = state(training.average.model)
    fresh = dm_wide_resnet(10, 1, 10)
    load_ckpt("out/ema_student.pt", model=fresh, strict=True)
    loaded = load_model(recipe(averaged()), "student", "out/ema_student.pt")
    assert not differing(average, state(fresh))
    assert not differing(average, state(loaded))
    assert not differing(state(training.models["student"]), saved()["model"])


def test_it_is_validated_in_each_epoch_and_tested_at_the_end(capsys):
    write(averaged() + ROBUST)
    argv = ("--config", "recipe.yaml", "--device", "cpu", "--seed", "0", "-student_only")
    assert run("torchdistill", *argv) == 0
    told = capsys.readouterr().out
    for line in metrics():
        assert {"ema_val_accuracy", "ema_robust_val_accuracy"} <= set(line)
        assert f"ema val {100 * line['ema_val_accuracy']:.1f} %" in told
    assert "moving average out/ema_student.pt: " in told


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
@pytest.mark.parametrize("text", [mixacm(), two_stages(mixacm())], ids=["plain", "stages"])
@pytest.mark.parametrize("steps", [1, 4])  # in the first epoch, and in the second
def test_a_resumed_run_ends_with_the_same_average(text, steps):
    text = averaged(text) + ROBUST
    trained(text)
    whole, whole_metrics = saved("out/ema_student.pt"), metrics()
    asked = iter([*[0] * (steps - 1), 15])
    with pytest.raises(Stopped):
        Training(recipe(text), CPU, 0).run(asked_to_stop=lambda: next(asked))
    training = Training(recipe(text), CPU)
    training.resume("out/student.pt")
    training.run()
    assert not differing(whole["model"], saved("out/ema_student.pt")["model"])
    keys = ("ema_val_accuracy", "ema_robust_val_accuracy")
    for then, now in zip(whole_metrics, metrics(), strict=True):
        assert [then[key] for key in keys] == [now[key] for key in keys]


def test_it_begins_where_a_run_without_it_goes_on():
    trained(None, "train.num_epochs=1")
    Path("out/student.pt").rename("first.pt")
    training = Training(recipe(averaged()), CPU)
    training.resume("first.pt")
    training.run()
    assert saved()["ema"]["steps"] == 2


def test_it_begins_in_its_first_epoch():
    trained(averaged(block="{decay: 0.5, start_epoch: 1}"))
    assert ["ema_val_accuracy" in line for line in metrics()] == [False, True]
    assert saved("out/ema_student.pt")["epoch"] == 1
    assert saved()["ema"]["steps"] == 2


def test_that_of_an_earlier_run_goes_with_it():
    trained(averaged())
    assert Path("out/ema_student.pt").exists()
    trained()
    assert not Path("out/ema_student.pt").exists()


def test_a_run_does_not_write_it_over_what_it_reads():
    text = averaged().replace("src_ckpt: teacher.pt", "src_ckpt: out/ema_student.pt")
    recipe()
    Path("out").mkdir()
    Path("teacher.pt").rename("out/ema_student.pt")
    Path("recipe.yaml").write_text(text)
    argv = ("--config", "recipe.yaml", "--device", "cpu")
    assert run("torchdistill", *argv) == 2
    assert not Path("out/student.pt").exists()


REFUSED = {
    "no mapping": ("0.999", "ema: expected a mapping; found 0.999"),
    "no decay": ("{start_epoch: 1}", "ema.decay: missing"),
    "decay of 1": ("{decay: 1.0}", "ema.decay: expected a number above 0 and below 1; found 1.0"),
    "kind of decay": ("{decay: high}", "ema.decay: expected a number above 0"),
    "too late": ("{decay: 0.9, start_epoch: 2}", "ema.start_epoch: 2, counted from 0, of 2 epochs"),
    "key": ("{decay: 0.9, start_epch: 1}", "ema.start_epch: ema doesn't read it here"),
}


@pytest.mark.parametrize("block, words", REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_with_the_block_is_told_before_training(block, words, assert_refused):
    write(averaged(block=block))
    where, _, words = words.partition(": ")
    assert_refused(where, words)


def test_the_flag_is_a_block_of_the_recipe():
    write()
    argv = ("--config", "recipe.yaml", "--device", "cpu", "-student_only", "--ema", "0.5")
    assert run("torchdistill", *argv) == 0
    assert "ema" in saved()["recipe"]
    assert Path("out/ema_student.pt").exists()


def process(rank, folder):
    mine = Path(folder, str(rank))
    mine.mkdir()
    os.chdir(mine)
    init_process_group(CPU, f"file://{folder}/group")
    text = averaged().replace("batch_size: 16", "batch_size: 8") + ROBUST
    training = Training(recipe(text), CPU, 0)
    training.run()
    torch.save(training.average.model.state_dict(), "end.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_have_the_same_average(tmp_path):
    run_processes(process, tmp_path)
    first, second = (torch.load(tmp_path / str(rank) / "end.pt") for rank in (0, 1))
    assert not differing(first, second)
    assert not differing(first, saved(tmp_path / "0" / "out" / "ema_student.pt")["model"])
