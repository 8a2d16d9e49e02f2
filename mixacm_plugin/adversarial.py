"""PGD, and adversarial training as a forward process of the host's TrainingBox."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchdistill.core.interfaces.registry import register_forward_proc_func

from .threat_model import (
    check_norm,
    parse_number,
    project,
    random_perturbation,
    steepest_direction,
)


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
) -> Tensor:
    """Projected gradient ascent on the cross-entropy; the last iterate.

    The model is used in the mode it is in, and its parameters' gradients are left alone.

    Args:
        model: logits of images.
        images: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)`` classes or ``(N, K)`` probabilities.
        eps: radius of the ball, in pixels of range [0, 1].
        step_size: length of a step, in the same unit and the ball's norm.
        steps: number of steps.
        norm: ``Linf`` or ``L2``.
        random_start: start at a random point of the ball instead of at the image.

    Returns:
        ``(N, C, H, W)``, inside the ball and [0, 1].

    Source: Madry et al. 2018.
    """
    adversarial = images.detach()
    if random_start:
        start = random_perturbation(adversarial, eps=eps, norm=norm)
        adversarial = (adversarial + start).clamp(0, 1)
    for _ in range(steps):
        with torch.enable_grad():
            adversarial.requires_grad_(True)
            loss = F.cross_entropy(model(adversarial), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, adversarial)
        step = step_size * steepest_direction(gradient, norm=norm)
        perturbation = project(adversarial.detach() + step - images, eps=eps, norm=norm)
        adversarial = (images + perturbation).clamp(0, 1)
    return adversarial.detach()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode for a while, then each of its modules back as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class AdversarialForward:
    """Forward process that trains on PGD's images; see ``adversarial_forward``."""

    def __init__(self, **attack: Any) -> None:
        self.attack = attack

    def __call__(
        self,
        model: nn.Module,
        sample_batch: Tensor,
        targets: Tensor,
        supp_dict: dict[str, Any] | None = None,
        **_: Any,
    ) -> Tensor:
        """Return the model's output on adversarial images."""
        with eval_mode(model):  # so that BatchNorm's statistics see the final pass only
            adversarial = pgd(model, sample_batch, targets, **self.attack)
        return model(adversarial)


def adversarial_forward(
    eps: str | float,
    step_size: str | float,
    steps: int,
    random_start: bool = True,
    norm: str = "Linf",
) -> str:
    """Register PGD adversarial training and return its key, for ``forward_proc`` in a recipe.

    The attack sees the model in eval mode and leaves no gradient in its parameters; the final
    pass, in the model's own mode, is what hooks and the loss see.

    Args:
        eps: radius of the ball, in pixels of range [0, 1]; ``8/255`` may be written as such.
        step_size: length of a step, in the same unit.
        steps: number of steps, at least 1; the paper's PGD7-AT has 7.
        random_start: start at a random point of the ball.
        norm: ``Linf`` or ``L2``.

    Raises:
        ValueError: on other values.

    Source: Madry et al. 2018; MixACM, supplement A.1 (PGD7-AT: steps of 2/255, ε 8/255).
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"adversarial_forward: steps must be an integer > 0; found {steps!r}")
    if not isinstance(random_start, bool):
        raise ValueError(
            f"adversarial_forward: random_start must be True or False; found {random_start!r}"
        )
    attack: dict[str, Any] = {"steps": steps, "random_start": random_start}
    for name, value in (("eps", eps), ("step_size", step_size)):
        try:
            attack[name] = parse_number(value)
        except ValueError as error:
            raise ValueError(f"adversarial_forward: {name}: {error}") from None
    try:
        attack["norm"] = check_norm(norm)
    except ValueError as error:
        raise ValueError(f"adversarial_forward: {error}") from None
    key = f"adversarial_forward({', '.join(f'{k}={v}' for k, v in attack.items())})"
    register_forward_proc_func(key=key)(AdversarialForward(**attack))
    return key
