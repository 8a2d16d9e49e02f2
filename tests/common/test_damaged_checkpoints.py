"""Any flipped bit of a checkpoint, and any cut: noticed in one line, or without an effect."""

import random
from pathlib import Path

import pytest
import torch

from mixacm_plugin.common.checkpoints import CheckpointError, load_checkpoint, save_checkpoint

CONTENT = {"model": {"weight": torch.arange(24.0).reshape(4, 6)}, "epoch": 3, "recipe": "a: 1"}


def assert_harmless_or_told(damaged: bytes):
    Path("a.pt").write_bytes(damaged)
    try:
        loaded = load_checkpoint("a.pt")
    except CheckpointError as error:
        assert "a.pt" in str(error)
        assert "\n" not in str(error)
        return
    assert torch.equal(loaded["model"].pop("weight"), CONTENT["model"]["weight"])
    assert loaded == {**CONTENT, "model": {}}


@pytest.fixture
def saved():
    save_checkpoint("a.pt", CONTENT)
    return Path("a.pt").read_bytes()


@pytest.mark.slow
def test_every_flipped_bit_is_noticed_or_harmless(saved, request):
    draw = random.Random(request.config.option.draw)
    for place in range(len(saved)):
        damaged = bytearray(saved)
        damaged[place] ^= 1 << draw.randrange(8)
        assert_harmless_or_told(bytes(damaged))


def test_every_cut_is_noticed(saved, request):
    draw = random.Random(request.config.option.draw)
    for length in {0, 1, len(saved) - 1, *draw.sample(range(len(saved)), 100)}:
        Path("a.pt").write_bytes(saved[:length])
        with pytest.raises(CheckpointError):
            load_checkpoint("a.pt")
