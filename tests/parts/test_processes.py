"""Forward processes: what they give the model, and what they return."""

import pytest
import torch
from torchdistill.core.interfaces.registry import get_forward_proc_func

from mixacm_plugin import dm_wide_resnet


def outputs(forward):
    """Logits of a model in float32 and by a forward process, and how that gave it its images."""
    model = dm_wide_resnet(10, 1).eval()
    images, seen = torch.rand(8, 3, 8, 8), []
    with torch.no_grad():
        exact = model(images)
        model.register_forward_pre_hook(lambda _, args: seen.extend(args))
        output = get_forward_proc_func(forward)(model, images)
    return exact, output, seen


@pytest.mark.parametrize("forward", ["forward_channels_last", "forward_bf16"])
def test_the_model_sees_channels_last_images_and_gives_float32_logits(forward):
    _, output, (images,) = outputs(forward)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert not images.is_contiguous()
    assert output.dtype == torch.float32


def test_the_layout_of_images_does_not_change_logits():
    exact, output, _ = outputs("forward_channels_last")
    torch.testing.assert_close(output, exact)


def test_bfloat16_gives_logits_close_to_those_of_float32():
    exact, rounded, _ = outputs("forward_bf16")
    assert not torch.equal(rounded, exact)
    assert rounded.sub(exact).norm() / exact.norm() == pytest.approx(0, abs=0.05)
