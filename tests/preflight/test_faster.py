"""A check names settings that are faster on this machine, and none that are slower."""

import re

import pytest
import torch

from mixacm_plugin.preflight import faster
from mixacm_plugin.preflight.faster import bfloat16_gain, faster_loading, faster_precision
from mixacm_plugin.preflight.inspection import inspect_recipe
from recipes import CPU, mixacm, recipe

BF16, FP32 = "try --precision bf16 --channels_last", "try --precision fp32 --channels_last"


@pytest.mark.parametrize(
    ("waited", "workers", "hint"),
    [
        (0.1, 0, None),
        (0.5, 0, "num_workers: .* or dataset_wrapper"),
        (0.5, 4, "loader: dataset_wrapper"),
    ],
)
def test_a_setting_is_named_where_the_loader_is_waited_for(waited, workers, hint):
    told = list(faster_loading(waited, workers))
    assert len(told) == bool(hint)
    assert all(re.search(hint, line) for line in told)


@pytest.mark.parametrize(
    ("gain", "bfloat16", "hint"),
    [
        (2.0, False, BF16),
        (2.0, True, None),
        (1.1, False, None),
        (0.95, True, None),
        (0.6, True, f"in float32 are 1.7 times as fast as in bfloat16 here: {FP32}"),
        (0.6, False, None),
    ],
)
def test_the_precision_that_is_faster_here_is_named(gain, bfloat16, hint, monkeypatch):
    monkeypatch.setattr(faster, "bfloat16_gain", lambda device: gain)
    told = list(faster_precision(CPU, bfloat16))
    assert len(told) == bool(hint)
    assert all(hint in line for line in told)


def test_the_gain_is_that_of_a_convolution_by_turns(monkeypatch):
    clock = iter(range(10**6))
    waits = {torch.float32: 3, torch.bfloat16: 1}

    def convolve(images, weights, padding):
        assert images.is_contiguous(memory_format=torch.channels_last)
        for _ in range(waits[images.dtype] - 1):
            next(clock)

    monkeypatch.setattr(faster, "conv2d", convolve)
    monkeypatch.setattr(faster.time, "perf_counter", lambda: next(clock))
    assert bfloat16_gain(CPU) == 3


@pytest.mark.parametrize(
    ("forward", "compute", "told"),
    [
        ("forward_batch_only", (), None),
        ("forward_bf16", (), FP32),
        ("forward_batch_only", ("compute.precision=bf16",), FP32),
        ("forward_bf16", ("compute.precision=fp32",), None),
    ],
)
def test_what_a_step_runs_in_is_seen(forward, compute, told, monkeypatch):
    monkeypatch.setattr(faster, "bfloat16_gain", lambda device: 0.5)
    text = mixacm().replace("forward_batch_only", forward)
    hints = inspect_recipe(recipe(text, *compute), CPU).stages[0].hints
    assert [hint for hint in hints if "--precision" in hint] == [
        hint for hint in hints if told and told in hint
    ]
    assert any("--precision" in hint for hint in hints) == bool(told)
