"""Channel maps and their normalisation: formulas, dtypes, invariances, gradients."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from mixacm_plugin import channel_map, normalize_map
from mixacm_plugin.parts.acm.channel_maps import MAPPINGS

FORMULAS = {
    "mean": lambda values: sum(values) / len(values),
    "abs_mean": lambda values: sum(abs(v) for v in values) / len(values),
    "square_mean": lambda values: sum(v * v for v in values) / len(values),
    "max": max,
}
every_mapping = pytest.mark.parametrize("mapping", MAPPINGS)


def activation(*shape):
    return torch.randn(*(shape or (2, 3, 4, 5)), dtype=torch.float64)


@every_mapping
def test_a_mapping_summarises_the_positions_of_each_channel(mapping):
    a = activation()
    expected = [[FORMULAS[mapping](channel.flatten().tolist()) for channel in image] for image in a]
    torch.testing.assert_close(channel_map(a, mapping=mapping), a.new_tensor(expected))


def test_the_default_mapping_is_the_mean():
    a = activation()
    assert torch.equal(channel_map(a), channel_map(a, mapping="mean"))


@every_mapping
def test_a_channel_map_passes_through_as_it_is(mapping):
    maps = activation(4, 6)
    assert torch.equal(channel_map(maps, mapping=mapping), maps)


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3)])
@every_mapping
def test_low_precision_is_raised_before_anything_is_summed(mapping, shape, given, computed):
    a = torch.randn(shape).to(given)
    maps = channel_map(a, mapping=mapping)
    assert maps.dtype == computed
    assert torch.equal(maps, channel_map(a.to(computed), mapping=mapping))


@every_mapping
def test_the_order_of_the_positions_does_not_matter(mapping):
    a = activation()
    shuffled = a.flatten(2)[:, :, torch.randperm(20)].view_as(a)
    assert not torch.equal(a, shuffled)
    torch.testing.assert_close(
        channel_map(shuffled, mapping=mapping), channel_map(a, mapping=mapping)
    )


@every_mapping
def test_a_mapping_is_differentiable(mapping):
    a = activation(2, 3, 2, 2).requires_grad_()
    assert gradcheck(lambda a: channel_map(a, mapping=mapping), a)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (2, 3, 4, 5, 6)])
def test_an_activation_of_another_rank_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
        channel_map(torch.zeros(shape))


def test_an_unknown_mapping_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"mean, abs_mean, square_mean, max; found 'median'"):
        channel_map(activation(), mapping="median")


def test_a_normalised_map_is_the_map_divided_by_its_magnitude():
    maps = activation(4, 6)
    magnitudes = [sum(v * v for v in row) ** 0.5 for row in maps.tolist()]
    expected = [[v / m for v in row] for row, m in zip(maps.tolist(), magnitudes, strict=True)]
    torch.testing.assert_close(normalize_map(maps), maps.new_tensor(expected))


def test_normalising_is_differentiable():
    assert gradcheck(normalize_map, activation(3, 4).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_zero_map_stays_zero_and_gets_a_zero_gradient(dtype):
    maps = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=dtype, requires_grad=True)
    normalised = normalize_map(maps)
    normalised[:, 0].sum().backward()
    assert normalised[0].tolist() == [0.0, 0.0]
    assert maps.grad[0].tolist() == [0.0, 0.0]
    # d(x / |x|) of (3, 4) is (16, -12) / 125, as if the zero map weren't there
    torch.testing.assert_close(maps.grad[1], torch.tensor([0.128, -0.096], dtype=dtype))


LAID_OUT = {
    "channels last": activation(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "a part": activation(2, 3, 9, 5)[:, :, 2:6],
}


@every_mapping
@pytest.mark.parametrize("kind", LAID_OUT)
def test_gradients_are_right_however_the_activation_lies_in_memory(mapping, kind):
    a = LAID_OUT[kind].detach().requires_grad_()
    assert gradcheck(lambda a: channel_map(a, mapping=mapping), a)
    assert gradgradcheck(lambda a: channel_map(a, mapping=mapping).square(), a)


@every_mapping
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_gradient_has_the_activations_own_type_and_memory_format(mapping, dtype):
    a = activation(2, 3, 4, 5).to(dtype, memory_format=torch.channels_last)
    behind = (a.requires_grad_() * 1).clone(memory_format=torch.preserve_format)
    behind.register_hook(lambda gradient: seen.append(gradient))
    seen = []
    channel_map(behind, mapping=mapping).sum().backward()
    (gradient,) = seen
    assert gradient.dtype == dtype
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_the_gradient_of_a_largest_value_goes_to_one_of_equal_positions():
    a = torch.zeros(1, 2, 3, 3).index_fill_(3, torch.tensor([1]), 4.0).requires_grad_()
    channel_map(a, mapping="max").sum().backward()
    assert a.grad.flatten(2).sum(2).tolist() == [[1.0, 1.0]]
    assert (a.grad[a != 4] == 0).all() and a.grad.count_nonzero() == 2


def test_a_mean_of_bfloat16_is_summed_in_float32():
    a = torch.full((1, 1, 64, 64), 1.0, dtype=torch.bfloat16)
    a[0, 0, 0, 0] = 1.5
    assert channel_map(a).item() == 1 + 0.5 / 64**2
