"""Two processes on the CPU, as torchrun starts them."""

import gc
import json
import os
import re
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader
from torchdistill.models.registry import register_model

from mixacm_plugin import RecipeError, Training, dm_wide_resnet
from mixacm_plugin.common.checkpoints import load_checkpoint
from mixacm_plugin.common.distributed import init_process_group
from mixacm_plugin.training import writing
from mixacm_plugin.training.box_state import learnable_transforms
from processes import PROCESSES, run_processes
from recipes import CPU, Few, loader_accuracy, mixacm, recipe, run, scratch, two_stages, write
from weights import differing, state

pytestmark = pytest.mark.slow
BATCH = "train.train_data_loader.kwargs.batch_size"


@register_model
class Spare(nn.Module):
    """A student with a layer that isn't used."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = dm_wide_resnet(10, 1, 10), nn.Linear(2, 2)

    def forward(self, images):
        return self.used(images)


def train_a_spare_layer(rank, folder):
    join(folder, "spare")
    text = re.sub("key: dm_wide_resnet\n.*", "key: Spare\n    kwargs: {}", scratch())
    with pytest.raises(RecipeError, match=r"model\.frozen_modules: 2 .*: \[spare\]"):
        Training(recipe(text), CPU)
    arguments = "{find_unused_parameters: True, gradient_as_bucket_view: True}"
    found = f"wrapper: {{key: DistributedDataParallel, kwargs: {arguments}}}"
    for key in ("frozen_modules: [spare]", found):
        process = "    forward_proc: forward_batch_only\n"
        training = Training(recipe(text.replace(process, f"{process}    {key}\n")), CPU)
        training.run()
    assert training.box.model.gradient_as_bucket_view
    dist.destroy_process_group()


AFFINE, STAGES = mixacm(2, 1, "affine").replace("n: 40", "n: 39"), two_stages(mixacm())


def join(folder, name):
    """Join a process group of its own for each run; each process works in its own folder."""
    mine = Path(folder, name, os.environ["RANK"])
    mine.mkdir(parents=True)
    os.chdir(mine)
    init_process_group(CPU, f"file://{folder}/{name}.group")
    patience = dist.group.WORLD._get_backend(CPU).options._timeout
    assert patience > timedelta(days=1)  # shares of an attack differ by hours


def train(folder, name, text, **arguments):
    join(folder, name)
    job = Training(recipe(text.replace("batch_size: 16", "batch_size: 8")), CPU, **arguments)
    before = state(job.models["student"])
    losses, order, forward = [], list(job.box.train_data_loader.batch_sampler.sampler), None
    if not hasattr(job.box, "stage_number"):
        forward = job.box.forward_process
        job.box.forward_process = lambda *batch: losses.append(forward(*batch)) or losses[-1]
    job.run()
    parameters = {n: p.detach() for n, p in job.models["student"].named_parameters()}
    transforms = learnable_transforms(job.box)
    torch.save(
        {
            "before": before,
            "student": parameters,
            "transforms": {} if transforms is None else state(transforms),
            "losses": torch.stack(losses).detach() if losses else None,
            "order": order,
            "accuracy": loader_accuracy(job.models["student"], DataLoader(Few("val", 39), 13)),
        },
        "end.pt",
    )
    dist.destroy_process_group()


def train_by_command(folder):
    """The command, in a folder that the processes share, where writing takes a while."""
    os.chdir(folder)
    save = writing.save_checkpoint

    def slow_save(path, content):
        time.sleep(1)
        save(path, content)

    writing.save_checkpoint = slow_save
    argv = (
        "--config",
        "recipe.yaml",
        "--device",
        "cpu",
        "--dist_url",
        f"file://{folder}/cli.group",
    )
    try:
        code = run("torchdistill", *argv, "--set", "train.num_epochs=1")
    except RuntimeError as error:  # the other process has gone
        code = str(error)
    Path(folder, f"exit{os.environ['RANK']}").write_text(str(code))


def process(rank, folder):
    train(folder, "affine", AFFINE)  # not seeded: each process starts from other weights
    train(folder, "stages", STAGES, seed=0, adjust_lr=True)
    train(folder, "other seed", AFFINE, seed=1)
    train_by_command(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where both processes have run."""
    folder = tmp_path_factory.mktemp("distributed")
    os.chdir(folder)
    write()
    run_processes(process, folder)
    return folder


def train_with_a_sampler_of_its_own(rank, folder):
    join(folder, "sampler")
    key = "train.train_data_loader.sampler.class_or_func"
    own = f"{key}=!import_get {{key: torch.utils.data.SequentialSampler}}"
    with pytest.raises(RecipeError, match="SequentialSampler isn't used in several processes"):
        Training(recipe(None, own), CPU)
    dist.destroy_process_group()


def test_a_sampler_that_the_host_would_replace_is_refused(tmp_path):
    run_processes(train_with_a_sampler_of_its_own, tmp_path)


def train_and_leave(rank, folder):
    os.chdir(folder)
    gc.disable()  # or the training may happen to be collected in time
    flags = ("--config", "recipe.yaml", "--device", "cpu", "--dist_url", f"file://{folder}/store")
    assert run("torchdistill", *flags, "--seed", "0") == 0
    names = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in names if "gloo" in name]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_command_ends_with_no_thread_of_its_group_that_python_would_stop(tmp_path):
    write()
    run_processes(train_and_leave, tmp_path)


def train_a_wrapper(rank, folder):
    join(folder, "wrapper")
    Training(recipe(None, "compare/srd", f"{BATCH}=8", "train.num_epochs=1"), CPU, seed=0).run()
    dist.destroy_process_group()


def test_one_process_goes_on_with_what_two_trained_beside_the_student(tmp_path, monkeypatch):
    run_processes(train_a_wrapper, tmp_path)
    checkpoint = tmp_path / "wrapper/0/out/student.pt"
    auxiliary = load_checkpoint(checkpoint)["auxiliary"]["student"]
    assert not [name for name in auxiliary if "module." in name]
    monkeypatch.chdir(tmp_path)
    training = Training(recipe(None, "compare/srd"), CPU, seed=0)
    training.resume(str(checkpoint))
    own = training.box.student_model.linear.state_dict()
    assert own and all(torch.equal(v, auxiliary[f"linear.{n}"]) for n, v in own.items())


def test_a_layer_that_is_not_used_has_to_be_frozen_or_looked_for(tmp_path):
    run_processes(train_a_spare_layer, tmp_path)


@pytest.mark.parametrize("name", ["affine", "stages"])
def test_all_processes_end_with_the_same_trained_weights(name, folder):
    first, second = (torch.load(folder / name / str(rank) / "end.pt") for rank in range(PROCESSES))
    for part in ("student", "transforms"):
        assert not differing(first[part], second[part])
    assert all(not torch.equal(p, first["before"][n]) for n, p in first["student"].items())
    assert bool(first["transforms"]) == (name == "affine")


@pytest.mark.parametrize("name", ["affine", "stages"])
def test_only_the_first_process_writes(name, folder):
    written = [sorted(os.listdir(folder / name / str(rank))) for rank in range(PROCESSES)]
    assert written[0] == ["end.pt", "out", "recipe.yaml", "teacher.pt"]
    assert written[1] == ["end.pt", "recipe.yaml", "teacher.pt"]
    assert {".training.lock", "student.pt", "best_student.pt", "metrics.jsonl"} == set(
        os.listdir(folder / name / "0" / "out")
    )
    checkpoint = torch.load(folder / name / "0" / "out" / "student.pt", weights_only=False)
    end = torch.load(folder / name / "0" / "end.pt")
    assert all(torch.equal(checkpoint["model"][n], p) for n, p in end["student"].items())


def ends(folder, name):
    return [torch.load(folder / name / str(rank) / "end.pt") for rank in range(PROCESSES)]


def last_metrics(folder, name):
    lines = (folder / name / "0" / "out" / "metrics.jsonl").read_text().splitlines()
    return json.loads(lines[-1])


def test_each_validation_image_counts_once_where_processes_have_unequal_shares(folder):
    accuracy = ends(folder, "affine")[0]["accuracy"]
    assert last_metrics(folder, "affine")["val_accuracy"] == pytest.approx(accuracy)


def test_metrics_are_means_over_all_processes(folder):
    losses = torch.cat([end["losses"].reshape(2, -1)[1] for end in ends(folder, "affine")])
    assert last_metrics(folder, "affine")["loss"] == pytest.approx(losses.mean().item())


def test_the_seed_decides_on_the_order_of_images(folder):
    orders = [[end["order"] for end in ends(folder, name)] for name in ("stages", "other seed")]
    assert orders[0] != orders[1]
    for order in orders:
        assert sorted(order[0] + order[1]) == list(range(32))


def test_the_learning_rate_is_adjusted_once_in_every_stage(folder):
    lines = (folder / "stages" / "0" / "out" / "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line)["lr"] for line in lines]
    assert rates == pytest.approx([0.1, 0.05, 0.1, 0.05])


def test_the_command_tests_the_checkpoint_only_when_it_is_written(folder):
    assert [(folder / f"exit{rank}").read_text() for rank in range(PROCESSES)] == ["0", "0"]
