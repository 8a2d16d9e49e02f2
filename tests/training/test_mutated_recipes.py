"""Recipes with mistakes that nobody thought of: refused in a line before training, or trained."""

import math
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from mixacm_plugin import Training, read_recipe
from mixacm_plugin.common.errors import UserError
from mixacm_plugin.reading.checks import check_yaml
from mixacm_plugin.reading.nodes import walk_once
from mutations import flipped, mutated
from recipes import mixacm, run, scratch, two_stages, write

PGD = (
    "!import_call {key: mixacm_plugin.adversarial_forward, "
    "init: {kwargs: {eps: 8/255, step_size: 2/255, steps: 1}}}"
)
BLOCKS = """\
validate: {attack: pgd, eps: 8/255, steps: 1, n: 8}
ema: {decay: 0.9}
compute: {precision: bf16, channels_last: true}
"""
RECIPES = {
    "plain": mixacm(),
    "affine": mixacm(2, 1, "affine"),
    "alone": scratch(PGD) + BLOCKS,
    "frozen teacher": mixacm(kind="adaptive_max_pool", frozen_teacher=True) + BLOCKS,
    "two stages": two_stages(mixacm()),
}
LARGEST = {"num_epochs": 4, "width": 4, "depth": 16, "steps": 8}  # more may well take long
INTEGERS = st.integers(0, 500)
MUTATIONS = st.lists(st.tuples(INTEGERS, INTEGERS, INTEGERS), min_size=1, max_size=3)
FLIPS = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 511)), min_size=1, max_size=4)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs alarms"),
]


class Hang(BaseException):
    """Something takes too long; nothing catches it."""


@contextmanager
def no_hang(seconds):
    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def for_examples(request):
    """Check a number of recipes, with changes that the seed of the run decides on."""

    def decide(check, number, changes):
        limits = settings(
            max_examples=number,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
            phases=[Phase.generate],  # an example is small already; a smaller one takes minutes
        )
        of_seed = seed(request.config.option.draw)
        of_seed(limits(given(name=st.sampled_from(list(RECIPES)), changes=changes)(check)))()

    return decide


def read(content):
    """Read the changed recipe; return None if it is refused for what its YAML shows."""
    Path("changed.yaml").write_bytes(content)
    try:
        recipe = read_recipe("changed.yaml")
        check_yaml(recipe)
    except UserError as error:
        assert all(line.startswith("changed.yaml: ") for line in error.lines())
        return None
    return recipe


def is_large(recipe):
    return any(
        node.tag.endswith(":int")
        and int(node.value) > LARGEST.get(path.rpartition(".")[2], math.inf)
        for path, node in walk_once(recipe.root)
    )


def test_bytes_that_differ_end_in_no_traceback(for_examples):
    def check(name, changes):
        with no_hang(10):
            read(flipped(RECIPES[name], changes))

    for_examples(check, 150, FLIPS)


def test_keys_and_values_that_differ_end_in_no_traceback(for_examples):
    def check(name, changes):
        with no_hang(10):
            read(mutated(RECIPES[name], changes).encode())

    for_examples(check, 150, MUTATIONS)


def test_training_that_begins_ends_unless_a_loss_does_not_stay_finite(
    for_examples, monkeypatch, capsys
):
    begun, train = [], Training.run

    def noting(training, *args):
        begun.append(training)
        train(training, *args)

    monkeypatch.setattr(Training, "run", noting)

    def check(name, changes):
        shutil.rmtree("out", ignore_errors=True)
        recipe = read(mutated(RECIPES[name], changes).encode())
        if recipe is None or is_large(recipe):
            return
        write(RECIPES[name])  # and the teacher
        begun.clear()
        with no_hang(60):
            code = run("torchdistill", "--config", "changed.yaml", "--device", "cpu", "--seed", "0")
        error = capsys.readouterr().err
        if code:
            assert code == 2 and "torchdistill: error: " in error
            assert not begun or "finite" in error

    for_examples(check, 100, MUTATIONS)
