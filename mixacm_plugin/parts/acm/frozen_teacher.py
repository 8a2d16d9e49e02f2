"""The frozen teacher that owns the learnable transforms of either side."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torchdistill.common.main_util import is_dist_avail_and_initialized, is_main_process
from torchdistill.common.module_util import freeze_module_params
from torchdistill.models.registry import register_auxiliary_model_wrapper
from torchdistill.models.wrapper import AuxiliaryModelWrapper


@register_auxiliary_model_wrapper
class FrozenTeacher(AuxiliaryModelWrapper):
    """A teacher that stays frozen and in eval mode, beside learnable transforms that train.

    The host's optimiser sees models only, so a transform used inside a loss has to belong to one.
    It belongs to the teacher's wrapper and not to the student's, so that the student's checkpoint
    stays a plain student's. Hook paths are those of the plain teacher. The recipe must not set
    ``requires_grad: False`` for the teacher: that would freeze the transforms too.

    Args:
        teacher_model: the teacher, given by the host.
        modules: learnable transforms from ``affine``, shared with ``ACMLoss`` by a YAML alias.
        transforms_ckpt: file for the transforms' weights, written after each epoch, for training
            under the host's own script; ``torchdistill`` keeps them in the student's checkpoint,
            under the key ``transforms``.
        device: the transforms' device, given by the host; NCCL can't share what is on a CPU.
        device_ids, distributed: given by the host, not used.
    """

    def __init__(
        self,
        teacher_model: nn.Module,
        modules: Iterable[nn.Module] = (),
        transforms_ckpt: str | None = None,
        device: torch.device | None = None,
        device_ids: Any = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(modules, Iterable):
            raise ValueError(f"modules: expected a list; found a {type(modules).__name__}")
        freeze_module_params(teacher_model)
        self.teacher_model = teacher_model.eval()
        self.learnable_transforms = nn.ModuleList(modules).to(device)
        self.transforms_ckpt = transforms_ckpt
        for parameter in self.learnable_transforms.parameters():
            if is_dist_avail_and_initialized():
                dist.broadcast(parameter.data, 0)  # as DDP does; gradients alone aren't enough
            # The host doesn't put this wrapper into DDP, so its gradients are averaged here.
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                _average_gradient
            )

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("teacher_model"), name)

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Set the transforms' mode; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher_model.eval()
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the teacher."""
        return self.teacher_model(*args, **kwargs)

    def secondary_forward(self, *args: Any, **kwargs: Any) -> None:
        """Refuse to train with frozen transforms; the host calls this in every step."""
        if not all(p.requires_grad for p in self.learnable_transforms.parameters()):
            raise ValueError(
                "FrozenTeacher: the learnable transforms are frozen; remove 'requires_grad: False' "
                "from the teacher's part of the recipe (the wrapper freezes the teacher by itself)"
            )

    def post_epoch_process(self, *args: Any, **kwargs: Any) -> None:
        """Save the transforms; the host calls this after every epoch."""
        if self.transforms_ckpt is not None and is_main_process():
            Path(self.transforms_ckpt).parent.mkdir(parents=True, exist_ok=True)
            torch.save(self.learnable_transforms.state_dict(), self.transforms_ckpt)


def _average_gradient(parameter: nn.Parameter) -> None:
    if is_dist_avail_and_initialized() and parameter.grad is not None:
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()
