"""What all tests share: one thread, and a recipe small enough to train in a second."""

import pytest
import torch

# More threads than free cores make tiny models slower by two orders of magnitude.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    """Relative paths of recipes, such as dst_ckpt, lead into a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
