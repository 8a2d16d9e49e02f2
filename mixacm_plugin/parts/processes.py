"""Pre-epoch and forward processes for the host's boxes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchdistill.core.distillation import DistillationBox
from torchdistill.core.interfaces.pre_epoch_proc import default_pre_epoch_process_with_teacher
from torchdistill.core.interfaces.registry import (
    FORWARD_PROC_FUNC_DICT,
    register_forward_proc_func,
    register_pre_epoch_proc_func,
)

from ..common.errors import nearest
from ..common.outputs import in_float32
from .computed import Computed, bfloat16_autocast


@register_pre_epoch_proc_func
def keep_teacher_in_eval(self: DistillationBox, epoch: int | None = None, **kwargs: Any) -> None:
    """Put the teacher into eval mode, then do what the host's default does.

    The host leaves the teacher in train mode, where mixed images move its running statistics.
    What a wrapper has beside the teacher, such as a paraphraser, is trained and keeps its mode.
    """
    self.org_teacher_model.eval()
    default_pre_epoch_process_with_teacher(self, epoch=epoch, **kwargs)


@register_forward_proc_func
def forward_channels_last(
    model: nn.Module,
    sample_batch: Tensor,
    targets: Tensor | None = None,
    supp_dict: dict[str, Any] | None = None,
    **_: Any,
) -> Any:
    """Run the model on channels-last images ``(N, C, H, W)``; its output is otherwise the same.

    Faster for convolutions on CPUs.
    """
    return model(sample_batch.contiguous(memory_format=torch.channels_last))


@register_forward_proc_func
def forward_bf16(
    model: nn.Module,
    sample_batch: Tensor,
    targets: Tensor | None = None,
    supp_dict: dict[str, Any] | None = None,
    **_: Any,
) -> Any:
    """Run the model under bfloat16 autocast on channels-last images; float32 logits ``(N, K)``.

    Faster where the hardware computes in bfloat16: recent GPUs, and CPUs with AMX. On others it is
    no faster than float32 by ``forward_channels_last`` or, where it is emulated, much slower.
    """
    if isinstance(model, Computed) and model.precision == "fp32":  # by the compute block
        return forward_channels_last(model, sample_batch)
    with bfloat16_autocast(sample_batch.device.type):
        output = forward_channels_last(model, sample_batch)
    return in_float32(output)


def model_forward(caller: str, forward: str) -> Callable[..., Any]:
    """Return the registered forward process that a recipe names to run a model.

    Raises:
        ValueError: if there is none; the message begins with ``caller``.
    """
    if forward not in FORWARD_PROC_FUNC_DICT:
        hint = nearest(forward, FORWARD_PROC_FUNC_DICT)
        raise ValueError(f"{caller}: forward: no forward process {forward!r} is registered.{hint}")
    process: Callable[..., Any] = FORWARD_PROC_FUNC_DICT[forward]
    return process


def key_of(caller: str, **arguments: Any) -> str:
    """Return the registry key of what a recipe configures: its function and its arguments.

    Example:
        >>> key_of("shared_forward", forward="forward_bf16")
        'shared_forward(forward=forward_bf16)'
    """
    return f"{caller}({', '.join(f'{name}={value}' for name, value in arguments.items())})"


def forward_key(process: Callable[..., Any], caller: str, **arguments: Any) -> str:
    """Register a forward process and return its key, see ``key_of``."""
    key = key_of(caller, **arguments)
    register_forward_proc_func(key=key)(process)
    return key
