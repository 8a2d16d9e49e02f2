"""PGD: projected gradient ascent on any objective, and the cross-entropy's for short."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.images import check_images
from .threat_model import check_radius, project, random_perturbation, steepest_direction


def ascend(
    objective: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    eps: float,
    step_size: float,
    steps: int,
    norm: str = "Linf",
    start: Tensor | None = None,
    watch: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Projected gradient ascent from a start near the images; the last iterate.

    Args:
        objective: a number to be raised, of images; summed over the batch, not averaged.
        images: ``(N, C, H, W)`` in [0, 1].
        eps: radius of the ball, in pixels of range [0, 1].
        step_size: length of a step, in the same unit and the ball's norm.
        steps: number of steps.
        norm: ``Linf`` or ``L2``.
        start: perturbation to begin with, ``(N, C, H, W)``; by default none. It is clamped to
            images in [0, 1] before the first gradient, where some authors clamp after it.
        watch: called with each step's number and gradient.

    Returns:
        ``(N, C, H, W)``, inside the ball and [0, 1]. Images whose gradient isn't finite stay where
        they are, since the objective isn't either there.

    Raises:
        ValueError: on images outside [0, 1], another norm, or a ball that holds more than all
            images.
    """
    images = images.detach()
    check_images(images)
    check_radius(images, eps=eps, norm=norm)
    adversarial = (images if start is None else images + start).clamp(0, 1)
    for number in range(steps):
        with torch.enable_grad():
            adversarial.requires_grad_(True)
            (gradient,) = torch.autograd.grad(objective(adversarial), adversarial)
        finite = gradient.flatten(1).isfinite().all(1).view(-1, *[1] * (gradient.ndim - 1))
        gradient = torch.where(finite, gradient, 0)
        if watch is not None:
            watch(number, gradient)
        step = step_size * steepest_direction(gradient, norm=norm)
        perturbation = project(adversarial.detach() + step - images, eps=eps, norm=norm)
        adversarial = (images + perturbation).clamp(0, 1)
    return adversarial.detach()


def pgd(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    step_size: float,
    steps: int,
    norm: str = "Linf",
    random_start: bool = True,
    watch: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Projected gradient ascent on the cross-entropy; the last iterate.

    The model is used in the mode it is in, and its parameters' gradients are left alone.

    Args:
        model: logits of images.
        images: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)`` classes or ``(N, K)`` probabilities.
        eps: radius of the ball, at least 0, in pixels of range [0, 1].
        step_size: length of a step, at least 0, in the same unit and the ball's norm.
        steps: number of steps; none leaves the start.
        norm: ``Linf`` or ``L2``.
        random_start: start at a random point of the ball instead of at the image.
        watch: called with each step's number and gradient.

    Returns:
        ``(N, C, H, W)``, inside the ball and [0, 1].

    Raises:
        ValueError: see ``ascend``.

    Source: Madry et al. 2018.
    """
    return ascend(
        lambda adversarial: F.cross_entropy(model(adversarial), labels, reduction="sum"),
        images,
        eps=eps,
        step_size=step_size,
        steps=steps,
        norm=norm,
        start=random_perturbation(images, eps=eps, norm=norm) if random_start else None,
        watch=watch,
    )
