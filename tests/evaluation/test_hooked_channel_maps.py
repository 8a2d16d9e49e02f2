"""What the figure of channel maps hooks: as training does, and with channels where they are."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from architectures import SWIN, VIT, Patches, activation, tiny_swin, tiny_vit
from mixacm_plugin import channel_map
from mixacm_plugin.evaluation.channel_map_distances import Block, mean_channel_maps
from mixacm_plugin.parts.acm.pairs import PairEnd

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def maps_of(model, path, io="output", **layout):
    block = Block("b", dict.fromkeys(("teacher", "student"), PairEnd(path, io, **layout)))
    return mean_channel_maps(model, TensorDataset(IMAGES, torch.zeros(2).long()), [block], n=2)["b"]


class Outputs(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, images):
        return (images,) * self.count


class Wrapped(nn.Module):
    """A network whose module takes its images by keyword, and returns a tuple."""

    def __init__(self, outputs):
        super().__init__()
        self.inner = Outputs(outputs)

    def forward(self, images):
        return self.inner(images=images)[0]


def test_a_tuple_of_one_tensor_is_that_tensor_as_in_training():
    expected = maps_of(nn.Sequential(nn.Identity()), "0")
    assert torch.equal(maps_of(Wrapped(1), "inner"), expected)


@pytest.mark.parametrize(("outputs", "io"), [(2, "output"), (1, "input")])
def test_what_is_no_tensor_alone_is_refused(outputs, io):
    with pytest.raises(ValueError, match=f"the {io} of 'inner' is no tensor alone"):
        maps_of(Wrapped(outputs), "inner", io)


@pytest.mark.parametrize(
    ("build", "paths", "layout"), [(tiny_swin, SWIN, "nhwc"), (tiny_vit, VIT, "tokens")]
)
def test_a_layout_that_is_another_is_refused_and_the_right_one_told(build, paths, layout):
    model = build().eval()
    for path in paths:
        told = f"aren't where .* write layout: {layout}, of --blocks {path}:output:"
        for wrong in {"nchw", "nhwc", "tokens"} - {layout}:
            with pytest.raises(ValueError, match=told):
                maps_of(model, path, layout=wrong)
        expected = channel_map(activation(model, path, IMAGES), layout=layout)
        expected = (expected / expected.norm(dim=1, keepdim=True)).mean(0)
        torch.testing.assert_close(maps_of(model, path, layout=layout), expected.double())


class ChannelsLast(nn.Module):
    """A network of one image size, of whose hooked module only the operations tell the layout."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 16, 3, padding=1)
        self.hooked = nn.Identity()
        self.head = nn.Linear(16 * 16 * 16, 10)

    def forward(self, images):
        activation = self.hooked(self.convolution(images).relu().permute(0, 2, 3, 1))
        return self.head(activation.flatten(1))


def test_a_layout_that_only_the_operations_tell_is_known_as_in_training():
    with pytest.raises(ValueError, match=r"aren't where the layout nchw .* write layout: nhwc"):
        maps_of(ChannelsLast(), "hooked")
    assert maps_of(ChannelsLast(), "hooked", layout="nhwc").shape == (16,)


def test_rows_count_by_the_images_that_they_are_of():
    model = Patches().eval()
    rows = activation(model, "rows", IMAGES)
    expected = (rows / rows.norm(dim=1, keepdim=True)).nan_to_num().mean(0)
    torch.testing.assert_close(maps_of(model, "rows"), expected.double())
    with pytest.raises(ValueError, match="'positions_first' doesn't begin with the images"):
        maps_of(model, "positions_first", layout="tokens")
