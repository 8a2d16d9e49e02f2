"""A check names settings in which steps are faster on this machine, as measured."""

import re

import pytest
import torch

from mixacm_plugin.preflight import faster
from mixacm_plugin.preflight.faster import faster_computing, faster_loading
from mixacm_plugin.preflight.inspection import inspect_recipe
from mixacm_plugin.training.compute import Compute
from mixacm_plugin.training.prepare import prepare
from recipes import CPU, mixacm, recipe, run, write

FP32, BF16 = Compute("fp32", channels_last=True), Compute("bf16", channels_last=True)
COMPUTES = "_is_mkldnn_bf16_supported"


@pytest.fixture
def computes_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, COMPUTES, lambda: True)


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


@pytest.mark.usefixtures("computes_bfloat16")
@pytest.mark.parametrize(
    ("compute", "seconds", "told"),
    [
        ((), {FP32: 1.9, BF16: 1.0}, "--precision bf16 --channels_last makes steps 2.0"),
        ((), {FP32: 1.0, BF16: 3.0}, "--precision fp32 --channels_last makes steps 2.0"),
        ((), {FP32: 1.9, BF16: 1.8}, None),
        ((), {FP32: 2.5, BF16: 2.5}, None),
        (("precision=bf16", "channels_last=True"), {FP32: 1.0}, "--precision fp32"),
        (("precision=fp32",), {FP32: 1.0}, "--precision fp32"),  # and bf16 isn't tried
        (("precision=fp32", "channels_last=True"), {}, None),
    ],
)
def test_the_setting_that_is_much_faster_is_named(compute, seconds, told, monkeypatch):
    prepared = prepare(recipe(None, *(f"compute.{key}" for key in compute)), CPU, seed=0)
    given = Compute(**(prepared.config.get("compute") or {}))
    times = {given: 2.0, **seconds}
    monkeypatch.setattr(faster, "_step", lambda prepared, setting, *_: times[setting])
    lines = list(faster_computing(prepared, CPU, 0.0))
    assert len(lines) == bool(told)
    assert all(told in line for line in lines)


def watched(prepared):
    """Types and formats in which the student runs, while steps are made in other settings."""
    seen = []

    def see(module, args, output):
        last = output.is_contiguous(memory_format=torch.channels_last)
        seen.append((output.dtype, last, module.training))

    handle = prepared.models["student"].relu.register_forward_hook(see)
    lines = list(faster_computing(prepared, CPU, 0.0))
    handle.remove()
    return seen, lines


@pytest.mark.usefixtures("computes_bfloat16")
def test_steps_are_real_and_the_box_is_as_it_was_afterwards():
    prepared = prepare(recipe(), CPU, seed=0)
    box, student = prepared.box, prepared.models["student"]
    processes = (box.student_forward_proc, box.teacher_forward_proc)
    weights = [p.detach().clone() for p in student.parameters()]
    seen, _ = watched(prepared)
    assert seen == [
        (torch.float32, False, True),
        (torch.float32, True, True),
        (torch.bfloat16, True, True),
    ]
    assert (box.student_forward_proc, box.teacher_forward_proc) == processes
    assert all(p.is_contiguous() for p in student.parameters())
    moved = zip(weights, student.parameters(), strict=True)
    assert any(not torch.equal(before, after) for before, after in moved)  # as in training


def test_bfloat16_that_is_emulated_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, COMPUTES, lambda: False)
    seen, _ = watched(prepare(recipe(), CPU, seed=0))
    assert {dtype for dtype, *_ in seen} == {torch.float32}


@pytest.mark.usefixtures("computes_bfloat16")
@pytest.mark.parametrize("wrong", ["raises", "not finite"])
def test_a_setting_that_a_recipe_does_not_suit_is_not_named(wrong, monkeypatch):
    prepared = prepare(recipe(), CPU, seed=0)

    def see(module, args, output):
        if output.dtype == torch.bfloat16:
            if wrong == "raises":
                raise RuntimeError("out of memory")
            return output * torch.nan

    prepared.models["student"].relu.register_forward_hook(see)
    clock = iter(range(100))
    monkeypatch.setattr(faster.time, "perf_counter", lambda: next(clock))
    assert not list(faster_computing(prepared, CPU, 0.0))
    batch = next(iter(prepared.box.train_data_loader))
    assert faster._step(prepared, BF16, batch, CPU) == float("inf")


def test_nothing_is_compiled_to_try_it():
    prepared = prepare(recipe(None, "compute.precision=fp32"), CPU, seed=0)
    prepared.config["compute"]["compile"] = True
    assert watched(prepared) == ([], [])


def test_a_check_tells_it_after_the_memory_that_the_recipe_takes(capsys, monkeypatch):
    monkeypatch.setattr(faster, "GAIN", 0.0)
    write(mixacm())
    assert run("main", "check", "recipe.yaml", "--device", "cpu") == 0
    assert re.search(
        r"peak memory: .*\n--precision \w+ --channels_last makes", capsys.readouterr().out
    )


def test_a_check_without_time_tries_none(monkeypatch):
    monkeypatch.setattr(faster, "GAIN", 0.0)
    assert not inspect_recipe(recipe(), CPU, seconds=0).faster
