"""A global batch that is the same whatever the number of processes and their memory."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torchdistill.models.registry import register_model

from mixacm_plugin import RecipeError, Training, accumulation_steps, local_batch_size
from mixacm_plugin.common.distributed import init_process_group
from processes import run_processes
from recipes import CPU, recipe, scratch
from weights import differing, state

BATCH = "{{key: mixacm_plugin.{}, init: {{kwargs: {{global_batch: {}, at_most: {}}}}}}}"


@register_model
def flat_linear():
    """Without BatchNorm, which would tell how a batch was cut."""
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 10))


def processes(monkeypatch, number):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", str(number))


def shared_recipe(global_batch, at_most):
    """Training on 32 images, unmixed; in their order where one process trains."""
    sizes = (global_batch, at_most)
    text = scratch().replace("dm_wide_resnet", "flat_linear")
    text = text.replace("{depth: 10, width: 1, num_classes: 10}", "{}").replace(
        "alpha: 1.0", "alpha: 0.0"
    )
    if not dist.is_initialized():  # several processes have their own order
        text = text.replace("RandomSampler", "SequentialSampler")
    text = text.replace(
        "batch_size: 16", f"batch_size: !import_call {BATCH.format('local_batch_size', *sizes)}"
    )
    text = text.replace(
        "key: SGD",
        f"key: SGD\n    grad_accum_step: !import_call {BATCH.format('accumulation_steps', *sizes)}",
    )
    return recipe(text)


def trained(global_batch, at_most):
    training = Training(shared_recipe(global_batch, at_most), CPU, seed=0)
    before = state(training.models["student"])
    training.run()
    after = state(training.models["student"])
    assert set(differing(before, after)) == set(before)
    return after


@pytest.mark.parametrize(
    ("number", "local", "steps"), [(1, 64, 32), (8, 64, 4), (32, 64, 1), (64, 32, 1), (2048, 1, 1)]
)
def test_the_papers_2048_images_are_shared_by_any_number_of_processes(
    number, local, steps, monkeypatch
):
    processes(monkeypatch, number)
    assert local_batch_size(2048, at_most=64) == local
    assert accumulation_steps(2048, at_most=64) == steps


@pytest.mark.parametrize("number", [1, 2, 3, 5])
@pytest.mark.parametrize("share", [1, 8, 96, 100])
@pytest.mark.parametrize("at_most", [1, 5, 64, 1000])
def test_nothing_is_lost_and_memory_is_used_as_far_as_it_goes(number, share, at_most, monkeypatch):
    processes(monkeypatch, number)
    local = local_batch_size(number * share, at_most)
    assert number * local * accumulation_steps(number * share, at_most) == number * share
    assert local <= at_most
    assert all(share % larger for larger in range(local + 1, min(at_most, share) + 1))


@pytest.mark.parametrize("environment", [{}, {"RANK": "0"}, {"WORLD_SIZE": "4"}])
def test_without_torchrun_there_is_one_process(environment, monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert local_batch_size(64, 64) == 64


@pytest.mark.parametrize(
    ("number", "arguments", "words"),
    [
        ("3", (2048, 64), "3 processes can't have equal shares of global_batch 2048"),
        ("2", (1, 64), "2 processes can't have equal shares of global_batch 1"),
        ("1", (2038, 64), "share of 2038 images can only be loaded 2 at once, not up to 64"),
        ("3", (21, 5), "share of 7 images can only be loaded 1 at once, not up to 5"),
        ("1", (0, 64), "global_batch must be a whole number of at least 1; found 0"),
        ("1", (2048, 0), "at_most must be a whole number of at least 1; found 0"),
        ("1", (2048, 64.0), "at_most must be a whole number of at least 1; found 64.0"),
        ("1", (True, 64), "global_batch must be a whole number of at least 1; found True"),
        ("many", (2048, 64), "WORLD_SIZE must be a whole number of at least 1; found 'many'"),
        ("0", (2048, 64), "WORLD_SIZE must be a whole number of at least 1; found '0'"),
    ],
)
@pytest.mark.parametrize("function", [local_batch_size, accumulation_steps])
def test_what_cannot_be_shared_is_refused(function, number, arguments, words, monkeypatch):
    processes(monkeypatch, number)
    with pytest.raises(ValueError, match=words):
        function(*arguments)


def test_a_recipe_that_cannot_be_shared_is_refused_with_its_key_path(monkeypatch):
    processes(monkeypatch, 3)
    with pytest.raises(RecipeError, match=r"train\..*: 3 processes can't have equal shares"):
        shared_recipe(16, 16).build("train")


@pytest.mark.parametrize("at_most", [8, 5, 1])
def test_a_batch_that_is_loaded_in_parts_makes_the_same_steps(at_most):
    whole, parts = trained(16, 16), trained(16, at_most)
    torch.testing.assert_close(parts, whole)


def process(rank, folder):
    mine = Path(folder, str(rank))
    mine.mkdir()
    os.chdir(mine)
    init_process_group(CPU, f"file://{folder}/group")
    student = trained(32, at_most=8)
    assert (local_batch_size(32, 8), accumulation_steps(32, 8)) == (8, 2)
    if rank == 0:
        torch.save(student, "shared.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one(tmp_path):
    run_processes(process, tmp_path)
    # One step an epoch is of all images, in whatever order they are drawn.
    torch.testing.assert_close(torch.load("0/shared.pt"), trained(32, at_most=32))
