"""Stopping in the middle of an epoch, and going on as if nothing had happened."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from mixacm_plugin import RecipeError, Training, read_recipe
from mixacm_plugin.common.distributed import init_process_group
from mixacm_plugin.common.images import every_batch
from mixacm_plugin.common.signals import Stopped
from processes import PROCESSES, run_processes, wait_until
from recipes import CPU, Few, mixacm, recipe, scratch, two_stages, write
from runs import figures, metrics, saved, trained
from weights import differing

BATCHES = ("{batch_size: 16}", "{batch_size: 4}")  # eight steps an epoch
SMALL = mixacm().replace(*BATCHES)
FREE = "&free !import_call {key: mixacm_plugin.free_adversarial_forward, init: {kwargs: {replays: 2, eps: 0.1}}}"  # noqa: E501


def with_workers(persistent):
    return SMALL.replace("batch_size: 4}", f"batch_size: 4, num_workers: 2{persistent}}}", 1)


GENERATOR = "generator: !import_call {key: torch.Generator}"
SAMPLER = "!import_get {key: torch.utils.data.RandomSampler}"
RECIPES = {
    "plain": SMALL,
    "a sampler's own generator": SMALL.replace(SAMPLER, f"{SAMPLER}, kwargs: {{{GENERATOR}}}"),
    "affine": mixacm(kind="affine").replace(*BATCHES),
    "gradients summed": SMALL.replace("key: SGD", "key: SGD\n    grad_accum_step: 3"),
    "scheduler by steps": SMALL.replace("key: Cos", "scheduling_step: 3\n    key: Cos"),
    "two stages": two_stages(SMALL),
    "workers": with_workers(""),
    "persistent workers": with_workers(", persistent_workers: True"),
    "free adversarial training": scratch(FREE, "  post_forward_process: *free\n").replace(*BATCHES),
}


def stop_after(steps, number=signal.SIGTERM):
    """What asks to stop after so many calls, which are one a step and one an epoch."""
    calls = iter(range(10**6))
    return lambda: number if next(calls) + 1 >= steps else 0


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
@pytest.mark.parametrize("steps", [3, 8, 14])
@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_a_run_stopped_within_an_epoch_ends_as_one_that_never_stopped(text, steps):
    trained(text)
    whole, whole_figures = saved(), figures()
    with pytest.raises(Stopped, match=r"stopped by SIGTERM in epoch \d after step \d of 8"):
        Training(recipe(text), CPU, 0).run(asked_to_stop=stop_after(steps))
    assert len(saved()["within_epoch"]) == 1
    assert saved()["within_epoch"][0]["steps"] == (steps if steps < 9 else steps - 9)
    torch.rand(3)  # all that counts is in the checkpoint
    training = Training(recipe(text), CPU)
    training.resume("out/student.pt")
    training.run()
    assert not differing(whole["model"], saved()["model"])
    assert not differing(whole.get("transforms", {}), saved().get("transforms", {}))
    assert figures() == whole_figures
    assert "within_epoch" not in saved()


@pytest.mark.parametrize("kind", ["workers", "persistent workers"])
def test_workers_have_ended_where_a_run_has_stopped(kind):
    with pytest.raises(Stopped) as kept:
        Training(recipe(RECIPES[kind]), CPU, 0).run(asked_to_stop=stop_after(3))
    assert kept.tb is not None  # with all that it refers to
    assert not multiprocessing.active_children()


def test_each_pass_over_persistent_workers_draws_as_the_first_one_does():
    loader = DataLoader(Few("val", 10), 5, num_workers=1, persistent_workers=True)
    states = []
    for _ in range(2):  # such as two validations, of which a resumed run makes the second alone
        torch.manual_seed(0)
        assert len(list(every_batch(loader))) == 2
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
def test_a_run_can_stop_again_and_again():
    trained(SMALL)
    whole = saved()
    Path("out/student.pt").unlink()
    for steps in range(1, 9):
        training = Training(recipe(SMALL), CPU, 0)
        if steps > 1:
            training.resume("out/student.pt")
        with pytest.raises(Stopped):
            training.run(asked_to_stop=stop_after(1))
        assert saved()["within_epoch"][0]["steps"] == steps
    training = Training(recipe(SMALL), CPU)
    training.resume("out/student.pt")
    training.run()
    assert not differing(whole["model"], saved()["model"])


def test_a_kill_loses_no_more_than_the_steps_between_two_saves():
    trained(SMALL)
    whole = saved()
    training = Training(recipe(SMALL), CPU, 0)

    def kill_at_fourteen(calls=stop_after(14)):  # noqa: B008
        if calls():
            raise KeyboardInterrupt
        return 0

    with pytest.raises(KeyboardInterrupt):
        training.run(save_every=2, asked_to_stop=kill_at_fourteen)
    assert (saved()["epoch"], saved()["within_epoch"][0]["steps"]) == (0, 4)
    assert [line["epoch"] for line in metrics()] == [0]
    training = Training(recipe(SMALL), CPU)
    training.resume("out/student.pt")
    training.run(save_every=3)
    assert not differing(whole["model"], saved()["model"])


class TellsItsProcess(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return index, os.getpid()


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="needs to know who signals")
@pytest.mark.parametrize("name", ["TERM", "INT", "USR1"])
def test_a_signal_to_all_processes_leaves_workers_to_finish_the_step(name):
    told = []
    loader = DataLoader(TellsItsProcess(), 1, num_workers=1, worker_init_fn=told.append)
    batches = every_batch(loader)
    _, worker = next(batches)
    subprocess.run(["kill", f"-{name}", str(int(worker))], check=True)  # whoever sends it
    assert [int(process) for _, process in batches] == [int(worker)] * 7
    with pytest.raises(ProcessLookupError):
        os.kill(int(worker), 0)


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="needs to know who signals")
def test_a_worker_ends_when_its_main_process_says_so():
    batches = every_batch(DataLoader(TellsItsProcess(), 1, num_workers=1))
    _, worker = next(batches)
    (child,) = (p for p in multiprocessing.active_children() if p.pid == int(worker))
    child.terminate()
    child.join(30)
    assert child.exitcode == 0


@pytest.mark.slow
@pytest.mark.usefixtures("processes_that_find_the_tests_data")
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_finishes_the_step_and_says_how_to_go_on(name):
    number = signal.Signals[name]
    write(SMALL.replace("num_epochs: 2", "num_epochs: 100000"))
    train = ("train", "--config", "recipe.yaml", "--device", "cpu", "--seed", "0")
    with subprocess.Popen(
        [sys.executable, "-m", "mixacm_plugin", *train],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        wait_until(lambda: Path("out/student.pt").exists())
        process.send_signal(number)
        assert process.wait(30) == 128 + number
        error = process.stderr.read()
    assert error.startswith(f"mixacm: stopped by {name} ")
    assert error.endswith("; --resume goes on from out/student.pt\n")
    assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_second_signal_ends_the_process_at_once():
    code = (
        "import os, signal\n"
        "from mixacm_plugin.common.signals import noticed\n"
        "with noticed() as number:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    assert number() == signal.SIGTERM\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    heeded = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n{code}"
    assert subprocess.run([sys.executable, "-c", heeded]).returncode == 130


def stop_and_go_on(rank, folder):
    for name in ("whole", "stopped", "resumed"):
        os.chdir(Path(folder, "stopped" if name == "resumed" else name))
        init_process_group(CPU, f"file://{folder}/{name}.group")
        training = Training(read_recipe("recipe.yaml"), CPU, None if name == "resumed" else 0)
        if name == "resumed":
            training.resume("out/student.pt")
        try:
            # Only the second process is asked; of its four steps an epoch it is looked at two.
            asked = stop_after(4) if name == "stopped" and rank else lambda: 0
            training.run(asked_to_stop=asked)
        except Stopped as stopped:
            Path(f"{rank}.txt").write_text(f"{stopped.code} {stopped}")
        dist.destroy_process_group()


@pytest.mark.slow
def test_processes_agree_on_the_step_at_which_they_stop(tmp_path):
    for name in ("whole", "stopped"):
        Path(name).mkdir()
        os.chdir(tmp_path / name)
        write(SMALL.replace("log_freq: 100", "log_freq: 3"))
        os.chdir(tmp_path)
    run_processes(stop_and_go_on, tmp_path)
    first, second = (Path(f"stopped/{rank}.txt").read_text() for rank in range(PROCESSES))
    assert first.startswith("143 stopped by SIGTERM in epoch 2 after step 3 of 4")
    assert second == "143 "  # the first one says it
    whole, resumed = (saved(f"{name}/out/student.pt") for name in ("whole", "stopped"))
    assert not differing(whole["model"], resumed["model"])


def test_another_number_of_processes_does_not_finish_an_epoch():
    with pytest.raises(Stopped):
        Training(recipe(SMALL), CPU, 0).run(asked_to_stop=stop_after(3))
    content = saved()
    for name in ("rng", "processes", "within_epoch"):
        content[name] *= 2
    torch.save(content, "of_two.pt")
    with pytest.raises(RecipeError, match="of 2 processes in the middle of an epoch"):
        Training(recipe(SMALL), CPU).resume("of_two.pt")
