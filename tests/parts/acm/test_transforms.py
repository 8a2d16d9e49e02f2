"""Transforms that make channel counts equal."""

import pytest
import torch

from mixacm_plugin import affine, resize_channels
from mixacm_plugin.parts.acm.transforms import POOLINGS


# Channel i of n pooled to m covers the channels from floor(i n / m) to ceil((i + 1) n / m).
@pytest.mark.parametrize(
    ("given", "average", "maximum"),
    [
        ([1, 5, 3, -4], [3, -0.5], [5, 3]),
        ([1, -2, 6, 0, 3], [5 / 3, 3], [6, 6]),
        ([1, -2, 6, 0, 3], [1.6], [6]),
        ([-1, 5], [-1, -1, 5, 5], [-1, -1, 5, 5]),
        ([1, 5, 3], [1, 3, 5, 4, 3], [1, 5, 5, 5, 3]),
    ],
)
def test_pooling_resizes_a_channel_map_down_and_up(given, average, maximum):
    # A second image in the batch, to see that images don't mix.
    maps = torch.tensor([given, [7.0] * len(given)])
    for kind, expected in (("adaptive_avg_pool", average), ("adaptive_max_pool", maximum)):
        resized = resize_channels(maps, len(expected), kind=kind)
        torch.testing.assert_close(resized, torch.tensor([expected, [7.0] * len(expected)]))


@pytest.mark.parametrize("kind", POOLINGS)
def test_pooling_changes_nothing_where_the_counts_are_equal(kind):
    maps = torch.randn(3, 7)
    assert torch.equal(resize_channels(maps, 7, kind=kind), maps)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="adaptive_max_pool, adaptive_avg_pool; found 'max'"):
        resize_channels(torch.ones(1, 4), 2, kind="max")


@pytest.mark.parametrize("bias", [True, False])
def test_an_affine_is_a_learnable_matrix_and_offset(bias):
    fc, maps = affine(3, 5, bias=bias), torch.randn(2, 3)
    expected = maps @ fc.weight.T + (fc.bias if bias else 0)
    torch.testing.assert_close(fc(maps), expected)
    shapes = {name: tuple(p.shape) for name, p in fc.named_parameters() if p.requires_grad}
    assert shapes == {"weight": (5, 3), **({"bias": (5,)} if bias else {})}
