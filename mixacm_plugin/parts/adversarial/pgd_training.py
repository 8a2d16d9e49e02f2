"""Adversarial training on images of PGD or of a single step, as a forward process of the host."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ...common.state import eval_mode
from ...common.values import SWITCH, check_kind
from ..processes import forward_key, model_forward
from .arguments import checked_attack, warn_of_short_reach
from .pgd import pgd


class AdversarialForward:
    """Forward process that trains on PGD's images; see ``adversarial_forward``."""

    takes_pixels = True

    def __init__(self, forward: Callable[..., Tensor], **attack: Any) -> None:
        self.forward = forward
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

        def run(images: Tensor) -> Tensor:
            return self.forward(model, images, targets, supp_dict)

        with eval_mode(model):  # so that BatchNorm's statistics see the final pass only
            adversarial = pgd(run, sample_batch, targets, **self.attack)
        return run(adversarial)


def adversarial_forward(
    eps: str | float,
    step_size: str | float,
    steps: int,
    random_start: bool = True,
    norm: str = "Linf",
    forward: str = "forward_batch_only",
) -> str:
    """Register PGD adversarial training and return its key, for ``forward_proc`` in a recipe.

    The attack sees the model in eval mode and leaves no gradient in its parameters; the final
    pass, in the model's own mode, is what hooks and the loss see. A single step of 1.25 ε from a
    random start is Fast-AT, which ``watch_overfitting`` should watch.

    Args:
        eps: radius of the ball, in pixels of range [0, 1]; ``8/255`` may be written as such.
        step_size: length of a step, in the same unit.
        steps: number of steps, at least 1: 7 in PGD7-AT, 1 in Fast-AT.
        random_start: start at a random point of the ball.
        norm: ``Linf`` or ``L2``.
        forward: key of the forward process that runs the model, such as ``forward_bf16``.

    Raises:
        ValueError: on other values.

    Source: Madry et al. 2018; MixACM, supplement A.1 (PGD7-AT: steps of 2/255, ε 8/255);
    Wong et al. 2020 (Fast-AT: a step of 10/255, ε 8/255; their attack sees train mode).
    """
    caller = "adversarial_forward"
    attack = checked_attack(caller, eps=eps, step_size=step_size, steps=steps, norm=norm)
    check_kind(f"{caller}: random_start", random_start, SWITCH)
    if not random_start:
        warn_of_short_reach(caller, **attack)
    attack["random_start"] = random_start
    process = AdversarialForward(model_forward(caller, forward), **attack)
    return forward_key(process, caller, **attack, forward=forward)
