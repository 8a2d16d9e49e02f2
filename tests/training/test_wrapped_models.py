"""Models that the host puts into a wrapper: module paths and checkpoints are the wrapper's."""

from pathlib import Path

import pytest
import torch

from mixacm_plugin import RecipeError, Training
from recipes import CPU, mixacm, recipe

HEAD = "  student:\n    forward_proc: forward_batch_only\n"
WRAPPER = """\
    auxiliary_model_wrapper:
      key: Connector4DAB
      kwargs:
        connectors:
          last:
            path: student_model.relu
            io: output
            conv2d_kwargs: {in_channels: 64, out_channels: 64, kernel_size: 1}
"""


def wrapped(own: str = "") -> str:
    """MixACM with a student in one of the host's wrappers, under which its paths lie."""
    head, tail = mixacm().split(HEAD)
    for path in ("layer.1.block.0.relu_0", "relu"):
        tail = tail.replace(f"student: {{path: {path},", f"student: {{path: student_model.{path},")
    hooks = "[layer.1.block.0.relu_0, relu]"
    tail = tail.replace(hooks, "[student_model.layer.1.block.0.relu_0, student_model.relu]", 1)
    return f"{head}{HEAD}{own}{WRAPPER}{tail}"


def test_channel_maps_of_a_wrapped_student_are_matched():
    Training(recipe(wrapped()), CPU, 0)


def test_a_stages_checkpoint_of_a_wrapped_student_is_the_wrappers():
    plain = Training(recipe(wrapped()), CPU, 0)
    weights = {n: torch.ones_like(v) for n, v in plain.box.student_model.state_dict().items()}
    assert any(name.startswith("connector_dict") for name in weights)
    torch.save(weights, "own.pt")
    training = Training(recipe(wrapped("    src_ckpt: own.pt\n")), CPU, 0)
    assert all((p == 1).all() for p in training.box.student_model.parameters())


@pytest.mark.parametrize("content", [None, b"text"], ids=["missing", "unreadable"])
def test_a_wrappers_checkpoint_that_cannot_be_read_is_refused(content):
    if content is not None:
        Path("own.pt").write_bytes(content)
    with pytest.raises(RecipeError, match=r"train\.student\.src_ckpt: .*own\.pt"):
        Training(recipe(wrapped("    src_ckpt: own.pt\n")), CPU, 0)
