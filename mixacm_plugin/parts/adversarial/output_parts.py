"""Outputs of a model in named parts: how a loss reads them, and any other loss on one of them."""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torchdistill.common.constant import SELF_MODULE_PATH
from torchdistill.losses.registry import register_loss_wrapper

IODict = Mapping[str, Mapping[str, Any]]
Kind = TypeVar("Kind")


def output_of(io_dict: IODict, *kinds: type[Kind], side: str, forward: str) -> Kind:
    """Return a model's output from the host's dictionary.

    Args:
        io_dict: of the student or the teacher.
        kinds: of which the output must be one.
        side: ``student`` or ``teacher``, for the error.
        forward: what a recipe calls to have such an output, for the error.

    Raises:
        ValueError: if it is something else, or there is no such model.
    """
    if SELF_MODULE_PATH not in io_dict:
        raise ValueError(f"there is no {side}; the recipe has no models.{side}_model")
    output = io_dict[SELF_MODULE_PATH]["output"]
    if not isinstance(output, kinds):
        raise ValueError(
            f"the {side}'s output is a {type(output).__name__}, not {kinds[0].__name__}; set the "
            f"{side}'s forward_proc to {forward}"
        )
    return output


@register_loss_wrapper
class OutputPart(nn.Module):
    """Another loss on one part of an output that has several, for ``criterion_wrapper``.

    With it the host's losses work where a forward process returns more than logits, such as
    ``KDLoss`` on the student's ``adversarial`` part. The wrapped loss finds the part where it
    would find the output: at the path '.', io ``output``.

    Args:
        loss: given by the host.
        student: name of the part of the student's output; by default the output as it is.
        teacher: the same of the teacher.
        uses_label: call the loss as torch's losses are called, with the student's part and the
            labels, rather than as the host's mid-level losses.

    Raises:
        ValueError: in the first step, if the output has no such part.
    """

    def __init__(
        self,
        loss: nn.Module,
        student: str | None = None,
        teacher: str | None = None,
        uses_label: bool = False,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.student, self.teacher = student, teacher
        self.uses_label = uses_label

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, targets: Tensor | None = None
    ) -> Tensor:
        """Return the wrapped loss."""
        student = _with_part(student_io_dict, self.student, "student")
        teacher = _with_part(teacher_io_dict, self.teacher, "teacher")
        arguments: tuple[Any, ...] = (student, teacher, targets)
        if self.uses_label:
            arguments = (student[SELF_MODULE_PATH]["output"], targets)
        loss: Tensor = self.loss(*arguments)
        return loss

    def extra_repr(self) -> str:
        """Say in the host's log what the loss sees."""
        return f"student={self.student}, teacher={self.teacher}"


def _with_part(io_dict: IODict, name: str | None, side: str) -> IODict:
    if name is None:
        return io_dict
    output = io_dict[SELF_MODULE_PATH]["output"]
    parts = getattr(output, "_fields", ())
    if name not in parts:
        has = f"has the parts {', '.join(parts)}" if parts else f"is a {type(output).__name__}"
        raise ValueError(
            f"OutputPart: no part {name!r}; the {side}'s output {has}. Forward processes with "
            "parts are clean_and_adversarial_forward and input_gradient_forward"
        )
    return {
        **io_dict,
        SELF_MODULE_PATH: {**io_dict[SELF_MODULE_PATH], "output": getattr(output, name)},
    }
