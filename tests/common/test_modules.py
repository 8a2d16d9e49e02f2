"""Modules that hold given parameters."""

import pytest
from torch import nn

from mixacm_plugin.common.modules import covering


def model():
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    return nn.Sequential(block, nn.Linear(4, 4), nn.PReLU())


@pytest.mark.parametrize(
    "names, modules",
    [
        (["0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"], ["0"]),
        (["0.1.weight", "0.1.bias", "2.weight"], ["0.1", "2"]),
        (["1.weight"], ["1.weight"]),
        ([], []),
    ],
)
def test_a_module_covers_parameters_if_it_has_no_others(names, modules):
    assert covering(model(), set(names)) == modules
