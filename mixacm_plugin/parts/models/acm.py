"""L_acm of two models in a training loop of one's own: hooks and loss in one object."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ...common.modules import find_module
from ..acm.loss import ACMLoss
from ..acm.pairs import SIDES
from .hook_points import pair_points


class ACM(nn.Module):
    """The channel map loss of a student and its teacher, which hooks both by itself.

    Call it after a pass of each on the same images. It keeps the last pass of each model until
    then. Give it the models themselves, before ``torch.compile`` and ``DistributedDataParallel``
    wrap them; they are no submodules of it.

    Args:
        student: is trained.
        teacher: runs in eval mode under ``torch.no_grad``.
        pairs: as of ``ACMLoss``; by default the activated hook points of both.
        input_shape: ``(C, H, W)`` of an image, to find those.
        per: ``stage`` or every residual ``block``; see ``hook_points``.
        **settings: ``mapping``, ``transform`` and ``grid`` of ``ACMLoss``. By default larger
            channel maps are pooled, and student and teacher may differ in width.

    Raises:
        PairError: as ``ACMLoss`` does.
        ValueError: if a model has no such module, or as ``hook_points`` does.

    Example:
        >>> import torch
        >>> from mixacm_plugin import dm_wide_resnet
        >>> student, teacher = dm_wide_resnet(10, 1), dm_wide_resnet(10, 2).eval()
        >>> acm, images = ACM(student, teacher), torch.rand(4, 3, 32, 32)
        >>> with torch.no_grad():
        ...     _ = teacher(images)
        >>> loss = student(images).sum() + 200 * acm()
        >>> loss.backward()
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        pairs: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        input_shape: Sequence[int] = (3, 32, 32),
        per: str = "stage",
        **settings: Any,
    ) -> None:
        super().__init__()
        if pairs is None:
            found = pair_points(teacher, student, input_shape=input_shape, per=per)
            pairs = {name: {"teacher": t.end(), "student": s.end()} for name, t, s in found}
        pooled = {"side": "teacher", "kind": "adaptive_max_pool"}
        self.loss = ACMLoss(pairs, **{"transform": pooled, **settings})
        self.hooked: dict[str, dict[str, dict[str, Any]]] = {side: {} for side in SIDES}
        for side, model in (("student", student), ("teacher", teacher)):
            for path, io in {(ends[side].path, ends[side].io) for ends in self.loss.ends.values()}:
                self._hook(side, model, path, io)

    def forward(self) -> Tensor:
        """Return the loss of the last pass of each model, a scalar, and let go of both passes.

        Raises:
            ValueError: if one of them has made none since the last call.
        """
        for side, hooked in self.hooked.items():
            if not hooked:
                raise ValueError(f"ACM: the {side} hasn't seen images since the last call")
        try:
            loss: Tensor = self.loss(self.hooked["student"], self.hooked["teacher"])
        finally:
            for hooked in self.hooked.values():
                hooked.clear()
        return loss

    def _hook(self, side: str, model: nn.Module, path: str, io: str) -> None:
        module = find_module(model, path)
        if not isinstance(module, nn.Module):
            raise ValueError(f"ACM: the {side}, {type(model).__name__}, has no module {path!r}")

        def keep(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            value = output if io == "output" else args and args[0]
            value = value[0] if isinstance(value, tuple) and len(value) == 1 else value
            self.hooked[side].setdefault(path, {})[io] = value

        module.register_forward_hook(keep)
