"""The student on clean and on adversarial images in one step, as forward processes of the host."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...common.state import eval_mode
from ..processes import forward_key, model_forward
from .arguments import checked_attack, warn_of_short_reach
from .pgd import ascend
from .threat_model import random_perturbation

AWAY_FROM = ("labels", "clean", "teacher")
# name -> perturbation that the attack begins with, of images, eps and norm
STARTS: dict[str, Callable[..., Tensor]] = {
    "uniform": random_perturbation,
    "gaussian": lambda images, **_: 0.001 * torch.randn_like(images),
}
# In the supplementary dict of a batch:
TEACHER_OUTPUT = "mixacm_plugin.teacher_output"
TEACHER = "mixacm_plugin.teacher"  # what returns its output on other images


class CleanAndAdversarial(NamedTuple):
    """A model's output on the images of a batch and on adversarial ones, ``(N, K)`` each."""

    clean: Tensor
    adversarial: Tensor


class BothWays(NamedTuple):
    """The same, and how far the outputs of both models move across the ball, ``(N, K)`` each.

    It is the output on the adversarial images less that on images as far on the other side of the
    clean ones.
    """

    clean: Tensor
    adversarial: Tensor
    student_difference: Tensor
    teacher_difference: Tensor


class SharedForward:
    """Forward process that shares its output; see ``shared_forward``."""

    def __init__(self, forward: Callable[..., Tensor]) -> None:
        self.forward = forward

    def __call__(
        self,
        model: nn.Module,
        sample_batch: Tensor,
        targets: Tensor | None = None,
        supp_dict: dict[str, Any] | None = None,
        **_: Any,
    ) -> Tensor:
        """Return the model's output."""

        def run(images: Tensor) -> Tensor:
            return self.forward(model, images, targets, supp_dict)

        output = run(sample_batch)
        if supp_dict is not None:
            supp_dict[TEACHER_OUTPUT], supp_dict[TEACHER] = output.detach(), run
        return output


def shared_forward(forward: str = "forward_batch_only") -> str:
    """Register a teacher's forward process for ``clean_and_adversarial_forward``; return its key.

    It leaves the teacher and its output in the batch's supplementary dict, which the host gives to
    the student's forward process too: for ``away_from: teacher``, without running the teacher
    again, and for ``both_ways``.

    Args:
        forward: key of the forward process that runs the model, such as ``forward_bf16``.

    Raises:
        ValueError: if none has that key.
    """
    caller = "shared_forward"
    process = SharedForward(model_forward(caller, forward))
    return forward_key(process, caller, forward=forward)


class CleanAndAdversarialForward:
    """Forward process with two passes; see ``clean_and_adversarial_forward``."""

    takes_pixels = True

    def __init__(
        self,
        *,
        away_from: str,
        start: str,
        both_ways: bool,
        forward: Callable[..., Tensor],
        **attack: Any,
    ) -> None:
        self.away_from, self.start, self.both_ways = away_from, start, both_ways
        self.forward = forward
        self.attack = attack

    def __call__(
        self,
        model: nn.Module,
        sample_batch: Tensor,
        targets: Tensor,
        supp_dict: dict[str, Any] | None = None,
        **_: Any,
    ) -> CleanAndAdversarial | BothWays:
        """Return the model's output on clean and on adversarial images."""

        def run(images: Tensor) -> Tensor:
            return self.forward(model, images, targets, supp_dict)

        with eval_mode(model):  # so that BatchNorm's statistics see the final passes only
            reference = targets
            if self.away_from == "teacher":
                shared: Tensor = _of_teacher(TEACHER_OUTPUT, supp_dict, "away_from: teacher")
                reference = shared.softmax(1)
            elif self.away_from == "clean":
                with torch.no_grad():
                    reference = run(sample_batch).softmax(1)
            adversarial = self._attacked(run, sample_batch, reference)
        # Passes of their own rather than one over all batches, since BatchNorm would normalise them
        # together. DistributedDataParallel reduces their gradients in the one backward.
        output = run(adversarial)
        if not self.both_ways:
            return CleanAndAdversarial(clean=run(sample_batch), adversarial=output)
        opposite = 2 * sample_batch - adversarial
        teacher = _of_teacher(TEACHER, supp_dict, "both_ways")
        with torch.no_grad():
            taught = teacher(adversarial) - teacher(opposite)
        difference = output - run(opposite)
        return BothWays(run(sample_batch), output, difference, taught)

    def _attacked(
        self, run: Callable[[Tensor], Tensor], images: Tensor, reference: Tensor
    ) -> Tensor:
        ball = {name: self.attack[name] for name in ("eps", "norm")}
        return ascend(
            # Of fixed probabilities, its gradient is that of the KL divergence from them.
            lambda adversarial: F.cross_entropy(run(adversarial), reference, reduction="sum"),
            images,
            start=STARTS[self.start](images, **ball),
            **self.attack,
        )


def _of_teacher(key: str, supp_dict: dict[str, Any] | None, setting: str) -> Any:
    if supp_dict is None:
        raise ValueError(
            f"clean_and_adversarial_forward: {setting} needs the supplementary dict of a "
            "batch; remove 'requires_supp: False' from the train_data_loader, and use a "
            "collate_fn that keeps the third element of a sample"
        )
    if key not in supp_dict:
        raise ValueError(
            f"clean_and_adversarial_forward: {setting} finds no output of the teacher; "
            "set the teacher's forward_proc to !import_call {key: mixacm_plugin.shared_forward}"
        )
    return supp_dict[key]


def clean_and_adversarial_forward(
    away_from: str,
    eps: str | float,
    step_size: str | float,
    steps: int,
    start: str = "uniform",
    norm: str = "Linf",
    both_ways: bool = False,
    forward: str = "forward_batch_only",
) -> str:
    """Register a forward process for clean and adversarial images and return its key.

    Its output is a ``CleanAndAdversarial``, which ``TRADESLoss``, ``ARDLoss`` and ``RSLADLoss``
    read; ``OutputPart`` gives one part of it to another loss. PGD sees the model in eval mode and
    leaves no gradient in its parameters. Then there are two passes in the model's own mode, the
    adversarial one first: hooks see the clean one. With ``both_ways`` there are three, and two more
    of the teacher, for ``IGDMLoss``.

    Args:
        away_from: what PGD drives the output away from: the ``labels`` (it raises the
            cross-entropy), the model's own output on ``clean`` images or that of the ``teacher``,
            who needs ``shared_forward`` (it raises the KL divergence from them).
        eps: radius of the ball, in pixels of range [0, 1]; ``8/255`` may be written as such.
        step_size: length of a step, in the same unit.
        steps: number of steps, at least 1.
        start: begin at a random point of the ball (``uniform``), or at noise of standard deviation
            0.001 (``gaussian``).
        norm: ``Linf`` or ``L2``.
        both_ways: return ``BothWays``; the teacher needs ``shared_forward``. Pixels opposite of an
            adversarial image's may lie outside of [0, 1], by up to ``eps``.
        forward: key of the forward process that runs the model, such as ``forward_bf16``.

    Raises:
        ValueError: on other values; in the first step, if the teacher's output isn't there.

    Source: Goldblum et al. 2020 (ARD: ``labels``, ``uniform``), Zhang et al. 2019 (TRADES:
    ``clean``, ``gaussian``), Zi et al. 2021 (RSLAD: ``teacher``, ``gaussian``), Lee et al. 2024
    (IGDM: ``both_ways``) and their code, which all takes 10 steps. ARD's attacks the model in
    train mode. TRADES's passes the clean images through the model in train mode once for each term
    of its loss, three passes in all, so that BatchNorm's statistics move once more; here one pass
    serves both terms.
    """
    caller = "clean_and_adversarial_forward"
    for name, value, known in (("away_from", away_from, AWAY_FROM), ("start", start, STARTS)):
        if value not in list(known):
            raise ValueError(f"{caller}: {name} must be one of {', '.join(known)}; found {value!r}")
    if not isinstance(both_ways, bool):
        raise ValueError(f"{caller}: both_ways must be True or False; found {both_ways!r}")
    attack = checked_attack(caller, eps=eps, step_size=step_size, steps=steps, norm=norm)
    if start == "gaussian":
        warn_of_short_reach(caller, **attack)
    arguments = {"away_from": away_from, "start": start, "both_ways": both_ways, **attack}
    process = CleanAndAdversarialForward(forward=model_forward(caller, forward), **arguments)
    return forward_key(process, caller, **arguments, forward=forward)
