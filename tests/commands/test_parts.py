"""``mixacm parts``: what a recipe can name."""

import re

import pytest

from documents import GUIDE, section
from recipes import run


def listed(capsys):
    assert run("main", "parts") == 0
    return set(re.findall(r"[\w.]+", capsys.readouterr().out))


@pytest.mark.parametrize("title", ["Losses", "Teacher and processes", "Models", "Data"])
def test_it_lists_every_part_that_the_guide_names(title, capsys):
    parts = set(re.findall(r"^\| `([\w.]+)` ", section(GUIDE, title), re.MULTILINE))
    assert parts - listed(capsys) == set()


def test_it_lists_the_hosts_parts_and_no_names_that_torch_imports(capsys):
    names = listed(capsys)
    assert {"KDLoss", "CRDLoss", "SGD", "forward_batch_only", "resnet20"} <= names
    assert not {"Any", "Callable", "Generic"} & names


@pytest.mark.parametrize(
    ("name", "first", "words"),
    [
        ("ACMLoss", "ACMLoss: loss, of mixacm_plugin.parts.acm.loss", "transform=None, grid=1)"),
        ("KDLoss", "KDLoss: loss, of torchdistill.losses.mid_level", "temperature"),
        ("mixup_collate", "mixup_collate: called by !import_call", "alpha, num_classes, noise=0.0"),
        ("SGD", "SGD: optimizer, of torch.optim.sgd", "momentum"),
    ],
)
def test_it_shows_a_parts_arguments_and_docstring(name, first, words, capsys):
    assert run("main", "parts", name) == 0
    out = capsys.readouterr().out
    assert out.startswith(first)
    assert words in out
    assert out.count(f"\n{name}(") == 1


def test_an_unknown_part_is_one_line_with_what_is_like_it(capsys):
    assert run("main", "parts", "ACMLos") == 2
    error = capsys.readouterr().err
    assert error.startswith("mixacm: error: no part 'ACMLos' is registered. Did you mean 'ACMLoss'")
    assert error.count("\n") == 1
