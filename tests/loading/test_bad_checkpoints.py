"""Checkpoints that a recipe names and that can't be loaded: refused in one line, and not run."""

import pickle
from pathlib import Path

import pytest
import torch

from hostile import Code
from mixacm_plugin import dm_wide_resnet
from recipes import mixacm, two_stages, write
from runs import saved, trained

WIDER, DEEPER = dm_wide_resnet(10, 2), dm_wide_resnet(16, 1)
UNREADABLE = "can't read checkpoint teacher.pt"
CHECKPOINTS = {
    "missing": (None, "checkpoint not found: teacher.pt"),
    "empty": (b"", UNREADABLE),
    "text": (b"version https://git-lfs.github.com/spec/v1\n", UNREADABLE),
    "a word": (b"text", UNREADABLE),
    "garbage": (bytes(range(256)), UNREADABLE),
    "list": ([1, 2], "expected a state dict"),
    "deeper": (DEEPER.state_dict(), "the file has 'layer.0.block.1.batchnorm_0.weight'"),
    "wider": ({"model": WIDER.state_dict()}, "teacher.pt is of another architecture"),
    "shape": (
        {**dm_wide_resnet(10, 1).state_dict(), "logits.bias": torch.zeros(7)},
        "another architecture: 'logits.bias' is (7,) in the file and (10,) in WideResNet",
    ),
    "whole model": (WIDER, UNREADABLE),
    "code": ({"model": Code()}, UNREADABLE),
    "pickled code": (pickle.dumps(Code()), UNREADABLE),
}


@pytest.mark.parametrize("content, words", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_teacher_that_cannot_be_loaded_is_refused_and_not_run(content, words, assert_refused):
    write()
    Path("teacher.pt").unlink()
    if isinstance(content, bytes):
        Path("teacher.pt").write_bytes(content)
    elif content is not None:
        torch.save(content, "teacher.pt")
    assert_refused("models.teacher_model.src_ckpt", words)
    assert not Path("executed").exists()


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.parametrize("content", [None, {"model": Code()}], ids=["missing", "code"])
def test_a_stages_own_checkpoint_is_checked_too(content, stage, assert_refused):
    write(two_stages(mixacm()))
    if content is not None:
        torch.save(content, "own.pt")
    where = f"train.{stage}.student"
    hooks = "forward_hook: {output: [layer.1.block.0.relu_0, relu]}"
    student = f"{{forward_proc: forward_batch_only, src_ckpt: own.pt, {hooks}}}"
    assert_refused(f"{where}.src_ckpt", "own.pt", "--set", f"{where}={student}")
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"state_dict": weights},
        lambda weights: {f"module.{name}": value for name, value in weights.items()},
    ],
)
def test_a_stages_own_checkpoint_that_torchdistill_cannot_read_is_refused(wrap, assert_refused):
    write()
    torch.save(wrap(dm_wide_resnet(10, 1).state_dict()), "own.pt")
    Path("changes.yaml").write_text("train.student.src_ckpt: own.pt\n")
    words = "torchdistill loads a stage's file as it is; name it at models.student_model.src_ckpt"
    assert_refused("train.student.src_ckpt: own.pt ", words, "--set", "changes.yaml")


def test_what_an_earlier_run_left_between_stages_is_neither_run_nor_in_the_way():
    Path("changes.yaml").write_text(
        "train.student: {dst_ckpt: between.pt}\ntrain.stage2.student.src_ckpt: between.pt\n"
    )
    torch.save({"model": Code()}, "between.pt")
    trained(two_stages(mixacm()), "changes.yaml")
    assert not Path("executed").exists()
    assert saved()["epoch"] == 3


def test_a_checkpoint_that_no_earlier_stage_writes_has_to_be_there(assert_refused):
    write()
    Path("changes.yaml").write_text(
        "train.student.dst_ckpt: own.pt\ntrain.student.src_ckpt: own.pt\n"
    )
    assert_refused("train.student.src_ckpt", "not found: own.pt", "--set", "changes.yaml")
