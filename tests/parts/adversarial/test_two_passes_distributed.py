"""Several passes of one model before a backward pass, on two processes."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchdistill.core.interfaces.registry import get_forward_proc_func

from mixacm_plugin import (
    clean_and_adversarial_forward,
    input_gradient_forward,
    input_gradient_loss,
    trades_loss,
)
from processes import PROCESSES, run_processes

METHODS = ("trades", "input_gradients")


def tiny():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(), nn.Linear(64, 10)
    ).double()


def loss(model, rank, method):
    torch.manual_seed(rank)
    images, labels = torch.rand(8, 3, 6, 6).double(), torch.randint(10, (8,))
    if method == "trades":
        key = clean_and_adversarial_forward("clean", 0.1, 0.05, 2, start="gaussian")
        return trades_loss(*get_forward_proc_func(key)(model, images, labels), labels)
    output = get_forward_proc_func(input_gradient_forward())(model, images, labels)
    return input_gradient_loss(output.input_gradient, torch.zeros_like(images))


def gradients(model, rank, method):
    model.zero_grad()
    loss(model, rank, method).backward()
    return [p.grad.clone() for p in model.parameters()]


def process(rank, folder):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=PROCESSES
    )
    for method in METHODS:
        model = DistributedDataParallel(tiny())
        gradients(model, rank, method)  # a second step would notice what the first left open
        torch.save(gradients(model, rank, method), f"{folder}/{method}{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where both processes have left their gradients."""
    folder = tmp_path_factory.mktemp("distributed")
    run_processes(process, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_processes_average_the_gradients_of_all_passes(method, folder):
    alone = []
    for rank in range(PROCESSES):
        model = tiny()
        gradients(model, 0, method)  # moves BatchNorm's statistics as the first process does
        alone.append(gradients(model, rank, method))
    for rank in range(PROCESSES):
        for got, *each in zip(torch.load(folder / f"{method}{rank}.pt"), *alone, strict=True):
            torch.testing.assert_close(got, sum(each) / PROCESSES)
