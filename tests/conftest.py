"""What all tests share: which run, one thread, a seed, an empty folder, how a refusal looks."""

import os
from datetime import date
from pathlib import Path

import pytest
import torch

from draw import keep_drawn
from recipes import run

# More threads than free cores make tiny models slower by two orders of magnitude.
torch.set_num_threads(1)


def pytest_addoption(parser):
    group = parser.getgroup("exhaustive tests")
    group.addoption(
        "--draw",
        metavar="SEED",
        default=date.today().isoformat(),
        help="which sixteenth of them runs (by default another every day)",
    )
    group.addoption("--all", action="store_true", help="run all of them")
    parser.addoption("--kills", type=int, default=4, help="how many trainings are killed")


def pytest_report_header(config):
    if config.option.all:
        return "exhaustive tests: all"
    return f"exhaustive tests: a sixteenth, again by --draw {config.option.draw}"


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
    keep_drawn(config, items)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    """Relative paths of recipes, such as dst_ckpt, lead into a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def assert_refused(capsys, recwarn):
    def assertion(where, words, *argv):
        recwarn.clear()
        assert run("torchdistill", "--config", "recipe.yaml", "--device", "cpu", *argv) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"torchdistill: error: recipe.yaml: {where}")
        assert words in error
        # A line a mistake, of which some recipes have more than the one that is looked for.
        lines = error.splitlines()
        assert all(line.startswith("torchdistill: error: recipe.yaml: ") for line in lines)
        assert not recwarn.list  # they would be further lines
        assert "\x1b" not in error
        assert not list(Path().rglob("student.pt"))

    return assertion


@pytest.fixture
def processes_that_find_the_tests_data(monkeypatch):
    tests = Path(__file__).parent  # and this tree's package, also where another one is installed
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tests / "helpers"), str(tests.parent)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
