"""A config of the host's format before 0.4."""

import pytest

from recipes import run, write

OLD = """\
datasets:
  cifar10:
    name: cifar10
    type: CIFAR10
    splits: {train: {dataset_id: cifar10/train, params: {root: data}}}
models:
  model:
    name: resnet20
    params: {num_classes: 10}
    ckpt: out/student.pt
train: {num_epochs: 2, optimizer: {type: SGD, params: {lr: 0.1}}}
test: {test_data_loader: {dataset_id: cifar10/test, batch_size: 1}}
"""


@pytest.mark.parametrize("command", [("torchdistill",), ("main", "check")])
def test_it_is_told_in_one_line(command, capsys):
    write(OLD)
    assert run(*command, "--config", "recipe.yaml") == 2
    error = capsys.readouterr().err
    assert "recipe.yaml: models: this is a config for torchdistill before 0.4" in error
    assert error.count("\n") == 1
