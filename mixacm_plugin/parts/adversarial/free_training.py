"""Free adversarial training, as a forward and a post-forward process of the host's boxes."""

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torchdistill.core.distillation import DistillationBox
from torchdistill.core.interfaces.post_forward_proc import default_post_forward_process
from torchdistill.core.interfaces.registry import register_post_forward_proc_func
from torchdistill.core.training import TrainingBox

from ...common.errors import UserError
from ...common.values import COUNT, check_kind
from ..processes import forward_key, model_forward
from .arguments import checked_ball
from .threat_model import check_radius, project, steepest_direction


class FreeAdversarialTraining:
    """Both processes of free adversarial training; see ``free_adversarial_forward``."""

    takes_pixels = True

    def __init__(
        self,
        *,
        replays: int,
        run_model: Callable[..., Tensor],
        eps: float,
        step_size: float,
        norm: str,
    ) -> None:
        self.replays, self.run_model = replays, run_model
        self.eps, self.step_size, self.norm = eps, step_size, norm
        self.perturbation: Tensor | None = None  # kept from batch to batch
        self.batch: tuple[Any, ...] | None = None  # held between the two processes of a step
        self.replaying = False

    def state_dict(self) -> dict[str, Tensor | None]:
        """Return what is kept from batch to batch, for a checkpoint."""
        kept = self.perturbation
        return {"perturbation": None if kept is None else kept.detach().cpu().clone()}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        """Go on from what ``state_dict`` gave."""
        self.perturbation = state["perturbation"]

    def check_box(self, box: TrainingBox | DistillationBox) -> None:
        """Raise ``UserError`` if a box has it in one of the two places only, or can't replay."""
        # Asked of the box: on its class may be the process of a box that was built after it.
        if getattr(box.post_forward_process, "__func__", None) is not self:
            raise _half(named="the model's forward_proc", missing="the post_forward_process")
        forward = getattr(box, "model_forward_proc", getattr(box, "student_forward_proc", None))
        if getattr(forward, "__self__", None) is not self:
            raise _half(named="the post_forward_process", missing="the model's forward_proc")
        if self.replays > 1 and box.grad_accum_step > 1:
            raise UserError(
                f"free_adversarial_forward: the optimizer's grad_accum_step is "
                f"{box.grad_accum_step}, with which replays of a batch would see the same weights; "
                "set it to 1"
            )

    def __get__(self, box: Any, owner: type | None = None) -> Any:
        # The host sets processes on the box's class, from where Python binds functions only.
        return self if box is None else MethodType(self, box)

    def forward(
        self,
        model: nn.Module,
        sample_batch: Tensor,
        targets: Tensor | None = None,
        supp_dict: dict[str, Any] | None = None,
        **_: Any,
    ) -> Tensor:
        """Return the model's output on perturbed images; backward moves the perturbation."""
        if self.batch is not None and not self.replaying:
            raise _half(named="the model's forward_proc", missing="the post_forward_process")
        check_radius(sample_batch, eps=self.eps, norm=self.norm)
        self.batch = (sample_batch, targets, supp_dict)
        kept = self.perturbation
        if (
            kept is None
            or kept.shape[1:] != sample_batch.shape[1:]
            or len(kept) < len(sample_batch)
        ):
            kept = torch.zeros_like(sample_batch)
        self.perturbation = kept = kept.to(sample_batch.device)
        images = (sample_batch + kept[: len(sample_batch)]).clamp(0, 1).requires_grad_()
        # Behind the clamp, which holds gradients back.
        images.register_hook(  # type: ignore[no-untyped-call]
            partial(self._ascend, kept[: len(sample_batch)], sample_batch)
        )
        return self.run_model(model, images, targets, supp_dict)

    def _ascend(self, kept: Tensor, images: Tensor, gradient: Tensor) -> None:
        moved = kept + self.step_size * steepest_direction(gradient, norm=self.norm)
        moved = project(moved, eps=self.eps, norm=self.norm)
        kept.copy_((images + moved).clamp(0, 1) - images)

    def __call__(self, box: TrainingBox | DistillationBox, loss: Tensor, **kwargs: Any) -> None:
        """Do the host's default step, then repeat both processes on the same batch."""
        if self.batch is None:
            raise _half(named="the post_forward_process", missing="the model's forward_proc")
        self.check_box(box)
        batch, self.replaying = self.batch, True
        try:
            default_post_forward_process(box, loss=loss, **kwargs)
            for _ in range(self.replays - 1):
                default_post_forward_process(box, loss=box.forward_process(*batch), **kwargs)
        finally:
            self.batch, self.replaying = None, False


def _half(*, named: str, missing: str) -> UserError:
    return UserError(
        f"free_adversarial_forward: it is {named}, but not {missing}; it has to be both: write "
        "'forward_proc: &free !import_call {...}' for the model and 'post_forward_process: *free' "
        "for the stage"
    )


def free_adversarial_forward(
    replays: int,
    eps: str | float,
    step_size: str | float | None = None,
    norm: str = "Linf",
    forward: str = "forward_batch_only",
) -> str:
    """Register free adversarial training and return its key, for two places of a recipe.

    These are the model's ``forward_proc`` and the stage's ``post_forward_process``. Each batch is
    used ``replays`` times. The backward pass that gives the parameters' gradients also gives that
    of the perturbation, which goes a step up and is kept for the next use and the next batch; a
    smaller batch uses its first rows, and where images change their shape or grow in number it
    starts at zero. Hooks and the loss see perturbed images, the model in its own mode.

    An epoch has ``replays`` times the usual optimiser steps and backward passes, so a recipe
    divides its number of epochs by it. Schedules that step by iteration count every replay. What
    is logged of a batch is of its first use. The perturbation of each process is in checkpoints.

    Args:
        replays: how often a batch is used, at least 1; m in the paper, 8 there for CIFAR-10.
        eps: radius of the ball, in pixels of range [0, 1]; ``8/255`` may be written as such.
        step_size: length of a step, in the same unit; by default ``eps``.
        norm: ``Linf`` or ``L2``.
        forward: key of the forward process that runs the model, such as ``forward_bf16``.

    Raises:
        ValueError: on other values.
        UserError: by the first step, under ``torchdistill`` before training, if a recipe names it
            in one of the two places only, or gives its optimiser a ``grad_accum_step`` above 1:
            replays would see the same weights.

    Source: Shafahi et al. 2019, algorithm 1. Like Wong et al.'s code (2020) and unlike theirs, it
    clips the kept perturbation so that the image it was made for stays in [0, 1].
    """
    caller = "free_adversarial_forward"
    check_kind(f"{caller}: replays", replays, COUNT)
    step_size = eps if step_size is None else step_size
    ball = checked_ball(caller, eps=eps, step_size=step_size, norm=norm)
    run_model = model_forward(caller, forward)
    free = FreeAdversarialTraining(replays=replays, run_model=run_model, **ball)
    key = forward_key(free.forward, caller, replays=replays, **ball, forward=forward)
    register_post_forward_proc_func(key=key)(free)
    return key
