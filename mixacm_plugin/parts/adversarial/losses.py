"""Losses on the student's output on clean and adversarial images: TRADES, ARD, RSLAD and IGDM."""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchdistill.losses.registry import register_mid_level_loss

from ...common.values import parse_number
from .clean_and_adversarial import BothWays, CleanAndAdversarial
from .output_parts import IODict, output_of


def kl_divergence(target: Tensor, logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    r"""KL divergence of the predicted from the target probabilities, the mean over a batch.

    Args:
        target: logits :math:`t` of the target, ``(N, K)``.
        logits: logits :math:`s` of the prediction, ``(N, K)``.
        temperature: :math:`\gamma`, both are divided by it.

    Returns:
        :math:`KL(\sigma(t / \gamma) \| \sigma(s / \gamma))`, a scalar, zero where the
        probabilities agree.

    Example:
        >>> import torch
        >>> even, odd = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> round(kl_divergence(even, odd).item(), 3), round(kl_divergence(odd, even).item(), 3)
        (0.434, 0.328)
    """
    return F.kl_div(
        F.log_softmax(logits / temperature, dim=1),
        F.log_softmax(target / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def trades_loss(clean: Tensor, adversarial: Tensor, labels: Tensor, *, beta: float = 6.0) -> Tensor:
    r"""Cross-entropy on clean images, and how far the output moves on adversarial ones.

    .. math:: CE(f(x), y) + \beta \, KL(f(x) \| f(x'))

    Args:
        clean: logits :math:`f(x)`, ``(N, K)``.
        adversarial: logits :math:`f(x')`, ``(N, K)``.
        labels: ``(N,)`` classes or ``(N, K)`` probabilities.
        beta: :math:`\beta`, which is 1/λ in the paper.

    Returns:
        A scalar, with a gradient to both logits.

    Source: Zhang et al. 2019, with 1/λ = 6 for CIFAR-10 as in the authors' code.
    """
    return F.cross_entropy(clean, labels) + beta * kl_divergence(clean, adversarial)


def ard_loss(
    clean: Tensor,
    adversarial: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    temperature: float = 30.0,
) -> Tensor:
    r"""Knowledge distillation on adversarial images from a teacher who sees the clean ones.

    .. math::
        \alpha \gamma^2 \, KL(\sigma(t(x) / \gamma) \| \sigma(s(x') / \gamma))
        + (1 - \alpha) \, CE(s(x), y)

    Args:
        clean: the student's logits :math:`s(x)`, ``(N, K)``.
        adversarial: the student's logits :math:`s(x')`, ``(N, K)``.
        teacher: the teacher's logits :math:`t(x)`, ``(N, K)``.
        labels: ``(N,)`` classes or ``(N, K)`` probabilities; unused where ``alpha`` is 1.
        alpha: :math:`\alpha`, of the teacher; the host's ``KDLoss`` gives this name to the labels'.
        temperature: :math:`\gamma`.

    Returns:
        A scalar.

    Source: Goldblum et al. 2020; the defaults are those of the authors' code, which takes the mean
    over classes too, so that its first term is K times smaller.
    """
    loss = alpha * temperature**2 * kl_divergence(teacher, adversarial, temperature=temperature)
    return loss if alpha == 1 else loss + (1 - alpha) * F.cross_entropy(clean, labels)


def rslad_loss(
    clean: Tensor, adversarial: Tensor, teacher: Tensor, *, adversarial_weight: float = 5 / 6
) -> Tensor:
    r"""Distillation of robust soft labels on clean and adversarial images, without hard labels.

    .. math:: (1 - w) \, KL(t(x) \| s(x)) + w \, KL(t(x) \| s(x'))

    Args:
        clean: the student's logits :math:`s(x)`, ``(N, K)``.
        adversarial: the student's logits :math:`s(x')`, ``(N, K)``.
        teacher: the teacher's logits :math:`t(x)`, ``(N, K)``.
        adversarial_weight: :math:`w`.

    Returns:
        A scalar.

    Source: Zi et al. 2021; w = 5/6 is that of the authors' code, which takes the mean over classes
    too, so that its loss is K times smaller.
    """
    on_clean, on_adversarial = kl_divergence(teacher, clean), kl_divergence(teacher, adversarial)
    return (1 - adversarial_weight) * on_clean + adversarial_weight * on_adversarial


def igdm_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Match how outputs move across the ball, which stands for the input gradients.

    .. math:: KL(\sigma(t(x + \delta) - t(x - \delta)) \| \sigma(s(x + \delta) - s(x - \delta)))

    To the first order in the perturbation :math:`\delta` a difference is
    :math:`2 \nabla_x f(x)^T \delta`.

    Args:
        student: difference :math:`s(x + \delta) - s(x - \delta)` of its logits, ``(N, K)``.
        teacher: the same of the teacher.

    Returns:
        A scalar, zero where the differences agree.

    Source: Lee et al. 2024 (IGDM), which adds it to the loss of ARD, RSLAD or another. Their code
    lets its weight grow from 0 to 20 with the epochs; here it is constant.
    """
    return kl_divergence(teacher, student)


@register_mid_level_loss
class TRADESLoss(nn.Module):
    """``trades_loss`` for a recipe; the student's output is a ``CleanAndAdversarial``.

    Args:
        beta: see ``trades_loss``.

    Raises:
        ValueError: on another value; in the first step, if the output is something else.
    """

    def __init__(self, beta: float | str = 6.0) -> None:
        super().__init__()
        self.beta = _number("TRADESLoss", "beta", beta)

    def forward(self, student_io_dict: IODict, teacher_io_dict: IODict, targets: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return trades_loss(*_both(student_io_dict, "clean"), targets, beta=self.beta)

    def extra_repr(self) -> str:
        """Say in the host's log how it is set."""
        return f"beta={self.beta}"


@register_mid_level_loss
class ARDLoss(nn.Module):
    """``ard_loss`` for a recipe; the student's output is a ``CleanAndAdversarial``.

    Args:
        alpha: see ``ard_loss``.
        temperature: see ``ard_loss``.

    Raises:
        ValueError: on other values; in the first step, if the output is something else.
    """

    def __init__(self, alpha: float | str = 1.0, temperature: float | str = 30.0) -> None:
        super().__init__()
        self.alpha = _number("ARDLoss", "alpha", alpha, most=1)
        self.temperature = _number("ARDLoss", "temperature", temperature)
        if self.temperature == 0:
            raise ValueError("ARDLoss: temperature must be above 0")

    def forward(self, student_io_dict: IODict, teacher_io_dict: IODict, targets: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return ard_loss(
            *_both(student_io_dict, "labels"),
            _teacher(teacher_io_dict),
            targets,
            alpha=self.alpha,
            temperature=self.temperature,
        )

    def extra_repr(self) -> str:
        """Say in the host's log how it is set."""
        return f"alpha={self.alpha}, temperature={self.temperature}"


@register_mid_level_loss
class RSLADLoss(nn.Module):
    """``rslad_loss`` for a recipe; the student's output is a ``CleanAndAdversarial``.

    Args:
        adversarial_weight: see ``rslad_loss``; ``5/6`` may be written as such.

    Raises:
        ValueError: on another value; in the first step, if the output is something else.
    """

    def __init__(self, adversarial_weight: float | str = 5 / 6) -> None:
        super().__init__()
        self.adversarial_weight = _number(
            "RSLADLoss", "adversarial_weight", adversarial_weight, most=1
        )

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, targets: Tensor | None = None
    ) -> Tensor:
        """Return the loss, a scalar."""
        return rslad_loss(
            *_both(student_io_dict, "teacher"),
            _teacher(teacher_io_dict),
            adversarial_weight=self.adversarial_weight,
        )

    def extra_repr(self) -> str:
        """Say in the host's log how it is set."""
        return f"adversarial_weight={self.adversarial_weight}"


@register_mid_level_loss
class IGDMLoss(nn.Module):
    """``igdm_loss`` for a recipe, beside ``ARDLoss`` or ``RSLADLoss``.

    The student's output is a ``BothWays``.

    Raises:
        ValueError: in the first step, if the output is something else.
    """

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, targets: Tensor | None = None
    ) -> Tensor:
        """Return the loss, a scalar."""
        forward = (
            "!import_call {key: mixacm_plugin.clean_and_adversarial_forward, init: {kwargs: "
            "{both_ways: True, ...}}}"
        )
        both = output_of(student_io_dict, BothWays, side="student", forward=forward)
        return igdm_loss(both.student_difference, both.teacher_difference)


def _both(io_dict: IODict, away_from: str) -> CleanAndAdversarial:
    forward = (
        "!import_call {key: mixacm_plugin.clean_and_adversarial_forward, init: {kwargs: "
        f"{{away_from: {away_from}, ...}}}}}}"
    )
    output: Any = output_of(io_dict, CleanAndAdversarial, BothWays, side="student", forward=forward)
    return CleanAndAdversarial(output.clean, output.adversarial)


def _teacher(io_dict: IODict) -> Tensor:
    return output_of(io_dict, Tensor, side="teacher", forward="one that returns logits")


def _number(loss: str, name: str, value: Any, most: float = math.inf) -> float:
    try:
        number = parse_number(value)
    except ValueError as error:
        raise ValueError(f"{loss}: {name}: {error}") from None
    if number > most:
        raise ValueError(f"{loss}: {name} must be at most {most}; found {value!r}")
    return number
