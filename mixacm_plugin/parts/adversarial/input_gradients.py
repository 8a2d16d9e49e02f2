"""Matching input gradients: a forward process that takes them, and a loss on their distance."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchdistill.losses.registry import register_mid_level_loss

from ..acm.frozen_teacher import FrozenTeacher
from ..computed import Computed
from ..processes import forward_key, model_forward
from .output_parts import IODict, output_of


class LogitsAndInputGradient(NamedTuple):
    """A model's logits, ``(N, K)``, and its gradient at each image, ``(N, C, H, W)``.

    It is the gradient of the batch's summed cross-entropy: of an image's own loss in eval mode, and
    in train mode, through BatchNorm, of the other images' losses too.
    """

    logits: Tensor
    input_gradient: Tensor


class InputGradientForward:
    """Forward process that takes input gradients; see ``input_gradient_forward``."""

    def __init__(self, forward: Callable[..., Tensor]) -> None:
        self.forward = forward

    def __call__(
        self,
        model: nn.Module,
        sample_batch: Tensor,
        targets: Tensor,
        supp_dict: dict[str, Any] | None = None,
        **_: Any,
    ) -> LogitsAndInputGradient:
        """Return logits and the summed cross-entropy's gradient with respect to the images."""
        plain = model.model if isinstance(model, Computed) else model
        if isinstance(plain, FrozenTeacher):  # it runs its teacher without gradients
            teacher = plain.teacher_model
            model = model.around(teacher) if isinstance(model, Computed) else teacher
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in model.parameters())
        # Fused attention has no second derivative.
        attention = sdpa_kernel(SDPBackend.MATH) if trained else nullcontext()
        with torch.enable_grad(), attention:  # the host turns gradients off for a frozen teacher
            images = sample_batch.detach().requires_grad_()
            logits = self.forward(model, images, targets, supp_dict)
            loss = F.cross_entropy(logits, targets, reduction="sum")
            # The graph is retained for other losses: they may read hooked tensors of the teacher,
            # which here hang on the images.
            (gradient,) = torch.autograd.grad(loss, images, create_graph=trained, retain_graph=True)
        return LogitsAndInputGradient(logits if trained else logits.detach(), gradient)


def input_gradient_forward(forward: str = "forward_batch_only") -> str:
    """Register a forward process that takes input gradients and return its key.

    It is for the teacher and for the student, both in their own mode. Its output is a
    ``LogitsAndInputGradient``, which ``InputGradientLoss`` reads; ``OutputPart`` gives its logits
    to another loss. A trained model's gradient can be differentiated again, at the price of a
    second backward pass; a frozen one's is a constant.

    Args:
        forward: key of the forward process that runs the model, such as ``forward_bf16``.

    Raises:
        ValueError: if none has that key.

    Source: Chan et al. 2020 (IGAM), Shao et al. 2021 (KDIGA).
    """
    caller = "input_gradient_forward"
    process = InputGradientForward(model_forward(caller, forward))
    return forward_key(process, caller, forward=forward)


def input_gradient_loss(student: Tensor, teacher: Tensor, *, squared: bool = True) -> Tensor:
    r"""Squared distance of the input gradients, the mean over a batch.

    .. math:: \frac{1}{N} \sum_n \| g^s_n - g^t_n \|_2^2

    Args:
        student: :math:`g^s_n = \partial \sum_m CE(s(x)_m, y_m) / \partial x_n`, with the outputs
            :math:`s(x)` on a whole batch; ``(N, C, H, W)``.
        teacher: :math:`g^t`, of the same shape.
        squared: as above; otherwise :math:`\| g^s_n - g^t_n \|_2`, whose pull doesn't fade as the
            gradients come near.

    Returns:
        A scalar.

    Raises:
        ValueError: if the shapes differ.

    Source: after Chan et al. 2020 (IGAM), of which it is the ℓ2 term alone, without the
    discriminator. Their code differs: it takes the gradient of the true class's probability
    rather than of the cross-entropy, and of pixels in [0, 255], and sums over the batch, so that
    their weight doesn't fit here. Not squared, it aligns input gradients as Shao et al. 2021 do
    (KDIGA), beside soft labels.

    Example:
        >>> import torch
        >>> input_gradient_loss(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)).item()
        48.0
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"input gradients differ in shape: student {tuple(student.shape)}, "
            f"teacher {tuple(teacher.shape)}"
        )
    difference = (student - teacher).flatten(1)
    if squared:
        return difference.square().sum(1).mean()
    distance: Tensor = torch.linalg.vector_norm(difference, dim=1).mean()
    return distance


@register_mid_level_loss
class InputGradientLoss(nn.Module):
    """``input_gradient_loss`` for a recipe; both outputs are a ``LogitsAndInputGradient``.

    Args:
        squared: see there.

    Raises:
        ValueError: in the first step, if an output is something else.
    """

    def __init__(self, squared: bool = True) -> None:
        super().__init__()
        self.squared = squared

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, targets: Tensor | None = None
    ) -> Tensor:
        """Return the loss, a scalar."""
        student, teacher = (
            output_of(
                io_dict,
                LogitsAndInputGradient,
                side=side,
                forward="!import_call {key: mixacm_plugin.input_gradient_forward}",
            ).input_gradient
            for side, io_dict in (("student", student_io_dict), ("teacher", teacher_io_dict))
        )
        return input_gradient_loss(student, teacher, squared=self.squared)
