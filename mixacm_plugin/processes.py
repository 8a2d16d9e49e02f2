"""Pre-epoch and forward processes for the host's boxes."""

from typing import Any

from torchdistill.core.distillation import DistillationBox
from torchdistill.core.interfaces.pre_epoch_proc import default_pre_epoch_process_with_teacher
from torchdistill.core.interfaces.registry import register_pre_epoch_proc_func


@register_pre_epoch_proc_func
def keep_teacher_in_eval(self: DistillationBox, epoch: int | None = None, **kwargs: Any) -> None:
    """Put the teacher into eval mode, then do what the host's default does.

    The host leaves the teacher in train mode, where mixed images move its running statistics.
    """
    self.teacher_model.eval()
    default_pre_epoch_process_with_teacher(self, epoch=epoch, **kwargs)
