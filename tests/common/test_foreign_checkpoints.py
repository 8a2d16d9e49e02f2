"""Checkpoints that others wrote, or that were damaged on the way."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mixacm_plugin import Training, dm_wide_resnet, load_student
from mixacm_plugin.common.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from mixacm_plugin.common.state_dicts import load_weights
from recipes import CPU, recipe, run, write
from weights import differing, prefixed, state


@pytest.fixture
def model():
    torch.manual_seed(1)
    return dm_wide_resnet(10, 1, 10)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: prefixed(weights, "module."),
        lambda weights: prefixed(weights, "_orig_mod."),
        lambda weights: prefixed(weights, "model."),
        lambda weights: prefixed(weights, "module._orig_mod.model."),
        lambda weights: prefixed(weights, "net."),
        lambda weights: {"state_dict": prefixed(weights, "student.backbone.")},
        lambda weights: {"state_dict": weights, "epoch": 3},
        lambda weights: {"net": prefixed(weights, "module."), "acc": 91.3},
        lambda weights: {"model": weights, "optimizer": {"state": {}}, "args": None},
        lambda weights: {"model_state_dict": weights},
        lambda weights: {"model_ema": weights},
        lambda weights: {"state_dict": prefixed(weights, "model."), "hyper_parameters": {}},
        lambda weights: {"params": weights, "epoch": 3, "best": torch.tensor(76.1)},
        lambda weights: {"state_dict": weights, "best_acc1": torch.tensor(76.1)},
        lambda weights: {"net_ema": prefixed(weights, "module."), "params": {"lr": 0.1}},
    ],
)
def test_weights_of_other_libraries_are_loaded(wrap, model):
    torch.save(wrap(model.state_dict()), "foreign.pt")
    fresh = dm_wide_resnet(10, 1, 10)
    load_weights(fresh, "foreign.pt")
    assert not differing(state(fresh), state(model))


def test_weights_of_torchs_averaged_model_are_loaded(model):
    torch.save(AveragedModel(model).state_dict(), "average.pt")
    fresh = dm_wide_resnet(10, 1, 10)
    load_weights(fresh, "average.pt")
    assert not differing(state(fresh), state(model))


def test_a_models_own_weights_are_taken_before_an_average(model):
    average = {name: value + 1 for name, value in model.state_dict().items()}
    torch.save({"model_ema": average, "model": model.state_dict()}, "both.pt")
    fresh = dm_wide_resnet(10, 1, 10)
    load_weights(fresh, "both.pt")
    assert not differing(state(fresh), state(model))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (lambda v: v.to(torch.int8), "torch.int8"),
        (lambda v: v > 0, "torch.bool"),
        (lambda v: v.to(torch.complex64), "torch.complex64"),
        (lambda v: v.to(torch.float8_e4m3fn), "torch.float8_e4m3fn"),
        (lambda v: torch._empty_affine_quantized(v.shape, scale=0.1, dtype=torch.qint8), "qint8"),
        (lambda v: v.to_sparse(), "torch.sparse_coo"),
        (lambda v: v.to("meta"), "on meta"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_weights_that_are_no_plain_numbers_are_refused(kind, words, model):
    weights = model.state_dict()
    torch.save({**weights, "logits.weight": kind(weights["logits.weight"])}, "foreign.pt")
    with pytest.raises(CheckpointError, match=f"'logits.weight' is .*{words}") as error:
        load_weights(dm_wide_resnet(10, 1, 10), "foreign.pt")
    assert str(error.value).endswith("expected plain floating-point numbers")
    assert "architecture" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_loaded(dtype, model):
    # An average of a state dict may have made BatchNorm's counters fractions, too.
    torch.save({name: v.to(dtype) for name, v in model.state_dict().items()}, "foreign.pt")
    fresh = dm_wide_resnet(10, 1, 10)
    load_weights(fresh, "foreign.pt")
    assert not differing(state(fresh), state(model.to(dtype).float()))


def test_a_part_that_is_called_like_a_prefix_stays(model):
    wrapped = nn.Sequential()
    wrapped.add_module("model", model)
    torch.save(wrapped.state_dict(), "own.pt")
    load_weights(wrapped, "own.pt")


def test_recipes_and_commands_take_foreign_checkpoints_too(model, capsys):
    read = recipe()
    torch.save({"state_dict": prefixed(torch.load("teacher.pt"), "module.")}, "teacher.pt")
    Training(read, CPU)
    torch.save({"net": prefixed(model.state_dict(), "_orig_mod.")}, "net.pt")
    write()
    torch.save({"state_dict": prefixed(model.state_dict(), "module.")}, "teacher.pt")
    argv = ("evaluate", "--config", "recipe.yaml", "--device", "cpu", "--attack", "clean")
    assert run("main", *argv, "--ckpt", "net.pt") == 0
    assert run("main", *argv, "--model", "teacher") == 0
    assert not differing(state(load_student("recipe.yaml", "net.pt")), state(model))


@pytest.mark.slow
def test_check_says_that_the_hosts_script_reads_files_as_they_are(capsys):
    write()
    plain = torch.load("teacher.pt")
    for content, warned in ((plain, False), ({"model": plain}, False), ({"net": plain}, True)):
        torch.save(content, "teacher.pt")
        assert run("main", "check", "recipe.yaml", "--device", "cpu") == 0
        out = capsys.readouterr().out
        assert ("- models.teacher_model.src_ckpt: the host's own script" in out) == warned


def damaged(path, offset):
    content = bytearray(Path(path).read_bytes())
    content[offset] ^= 0x10
    Path("damaged.pt").write_bytes(content)


@pytest.mark.slow
def test_every_flipped_byte_is_noticed_or_harmless():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    save_checkpoint("whole.pt", {"model": model.state_dict(), "epoch": 3})
    size = Path("whole.pt").stat().st_size
    noticed = 0
    for offset in range(size):  # in the pickle, in a tensor, in the list of both
        damaged("whole.pt", offset)
        try:
            loaded = load_checkpoint("damaged.pt")
        except CheckpointError as error:
            noticed += 1
            assert "damaged.pt" in str(error)
            assert "\n" not in str(error)
        else:
            assert not differing(loaded["model"], state(model)), offset
    assert noticed > 0.3 * size  # the rest is padding, dates and such


def test_a_damaged_teacher_is_one_line_before_training(capsys):
    write()
    with zipfile.ZipFile("teacher.pt") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    damaged("teacher.pt", largest.header_offset + 200)
    Path("damaged.pt").rename("teacher.pt")
    assert run("torchdistill", "--config", "recipe.yaml", "--device", "cpu") == 2
    error = capsys.readouterr().err
    assert "models.teacher_model.src_ckpt: checkpoint teacher.pt is damaged" in error
    assert error.count("\n") == 1


def test_what_training_writes_is_loaded_by_torch_in_its_default_mode():
    training = Training(recipe(), CPU, seed=0)
    training.run()
    for file in (training.last_ckpt, training.best_ckpt):
        checkpoint = torch.load(file)  # weights_only, and no classes allowed
        assert list(checkpoint["model"]) == list(training.models["student"].state_dict())


SAVE = "where it was written, save torch.save(model.state_dict(), FILE) alone"


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (
            lambda: torch.save({"net": {}, "acc": np.float64(91.3)}, "foreign.pt"),
            "tensors and plain values, such as numpy",
        ),
        (lambda: torch.save(nn.Linear(1, 1), "foreign.pt"), "values, such as torch.nn.modules."),
        (lambda: script().save("foreign.pt"), "it holds a program of TorchScript; "),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_weights_is_told_with_what_to_save_instead(write, what):
    write()
    with pytest.raises(CheckpointError) as error:
        load_checkpoint("foreign.pt")
    message = str(error.value)
    assert what in message and message.endswith(SAVE)
    assert "weights_only" not in message


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (lambda file: file.touch(), "it is empty"),
        (
            lambda file: file.write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:1"
            ),
            "it is a pointer of Git LFS; fetch the file itself with git lfs pull",
        ),
        (
            lambda file: file.write_text("\n<!DOCTYPE html><html><head><title>Sign in"),
            "it is a web page; download the file that it leads to",
        ),
        (lambda file: file.write_bytes(gzip.compress(b"weights")), "it is packed by gzip; unpack"),
        (lambda file: file.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "it is a file of HDF5"),
        (lambda file: np.save(file.open("wb"), np.ones(3)), "it is a file of NumPy"),
        (lambda file: np.savez(file.open("wb"), weight=np.ones(3)), "it is a file of NumPy"),
        (lambda file: archive(file, "model/best.pt"), "it is an archive; unpack it"),
        (lambda file: archive(file, "best.pt"), "it is an archive; unpack it"),
    ],
)
def test_a_file_of_another_kind_is_told_by_how_it_begins(write, what):
    file = Path("foreign.pt")
    write(file)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(file)
    assert f"can't read checkpoint foreign.pt: {what}" in str(error.value)


def archive(file, name):
    with zipfile.ZipFile(file, "w") as written:
        written.writestr(name, b"weights")


def test_a_safetensors_file_is_told_with_how_to_convert_it(model):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(model.state_dict(), "foreign.bin")
    fresh = dm_wide_resnet(10, 1, 10)
    with pytest.raises(CheckpointError, match="it is a file of safetensors; ") as error:
        load_weights(fresh, "foreign.bin")
    code = str(error.value).partition("convert it: ")[2].replace("FILE", "'foreign.bin'")
    exec(code, {})
    load_weights(fresh, "weights.pt")
    assert not differing(state(fresh), state(model))


def script():
    return torch.jit.trace(nn.Linear(1, 1), torch.ones(1, 1))
