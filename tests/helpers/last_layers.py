"""The tests' WRN-10 with another last layer, and recipes of it."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torchdistill.models.registry import register_model

from mixacm_plugin import dm_wide_resnet
from recipes import mixacm

LAST = {
    "softmax": partial(F.softmax, dim=1),
    "log_softmax": partial(F.log_softmax, dim=1),
    "sigmoid": torch.sigmoid,
}


@register_model
def ends_in(last: str, num_classes: int = 10) -> nn.Module:
    """A WRN-10 that returns something of its logits, or whose last layer is lazy."""
    model = dm_wide_resnet(10, 1, num_classes)
    if last == "lazy":
        model.logits = nn.LazyLinear(num_classes)
    else:
        model.register_forward_hook(lambda _, args, logits: LAST[last](logits))
    return model


def ending_in(role: str, last: str) -> str:
    """The recipe with such a teacher or student."""
    head, name, rest = mixacm().partition(f"  {role}_model:\n")
    old = "key: dm_wide_resnet\n    kwargs: {depth: 10, width: 1, num_classes: 10}"
    assert name and old in rest
    new = f"key: ends_in\n    kwargs: {{last: {last}}}"
    own = head.replace("- name: mixacm_plugin", "- name: mixacm_plugin\n  - name: last_layers")
    return own + name + rest.replace(old, new, 1)
