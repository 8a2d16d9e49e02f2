"""L_acm of two models in a training loop of one's own: hooks and loss in one object."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ...common.modules import alone, find_module
from ..acm.loss import ACMLoss
from ..acm.pairs import LAST, SIDES, PairError
from .hook_points import pair_points


class ACM(nn.Module):
    """The channel map loss of a student and its teacher, which hooks both by itself.

    Call it after a pass of each on the same images. It keeps the last pass of each model until
    then. Give it the models themselves, before ``torch.compile`` and ``DistributedDataParallel``
    wrap them; they are no submodules of it. Copies of them, as of a moving average, don't count.

    Args:
        student: is trained.
        teacher: runs in eval mode under ``torch.no_grad``, and gets no gradient without.
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
        self._running = dict.fromkeys(SIDES, False)
        self._training = dict.fromkeys(SIDES, False)
        self._calls: dict[str, dict[tuple[str, str], int]] = {side: {} for side in SIDES}
        for side, model in (("student", student), ("teacher", teacher)):
            self._count(side, model)
            for path, io in {(ends[side].path, ends[side].io) for ends in self.loss.ends.values()}:
                self._hook(side, model, path, io)

    def forward(self) -> Tensor:
        """Return the loss of the last pass of each model, a scalar, and let go of both passes.

        Raises:
            ValueError: if one of them has made none since the last call, or the teacher in train
                mode.
            PairError: if a module was called several times in a pass and its pair doesn't say
                ``call: last``, or as ``ACMLoss`` does.
        """
        for side, hooked in self.hooked.items():
            if not hooked:
                raise ValueError(
                    f"ACM: the {side} hasn't seen images since the last call; passes of a copy of "
                    "it don't count"
                )
        try:
            self._check_passes()
            loss: Tensor = self.loss(self.hooked["student"], self.hooked["teacher"])
        finally:
            for hooked in self.hooked.values():
                hooked.clear()
        return loss

    def _check_passes(self) -> None:
        if self._training["teacher"]:
            raise ValueError("ACM: the teacher ran in train mode; call teacher.eval() before")
        for name, ends in self.loss.ends.items():
            for side, end in ends.items():
                calls = self._calls[side].get((end.path, end.io), 0)
                if calls > 1 and self.loss.pairs[name].get("call") != LAST:
                    raise PairError(
                        f"pairs.{name}.{side}",
                        f"'{end.path}' was called {calls} times in a pass, and its last call "
                        "counts; if that is meant, write call: last in the pair",
                    )

    def _count(self, side: str, model: nn.Module) -> None:
        """Count the calls of each pass; those outside of one can't be told from another pass."""

        def begin(called: nn.Module, _: Any) -> None:
            if called is model:
                self._calls[side], self._running[side] = {}, True

        def end(called: nn.Module, *_: Any) -> None:
            if called is model:
                self._running[side] = False

        model.register_forward_pre_hook(begin)
        model.register_forward_hook(end)

    def _hook(self, side: str, model: nn.Module, path: str, io: str) -> None:
        module = find_module(model, path)
        if not isinstance(module, nn.Module):
            raise ValueError(f"ACM: the {side}, {type(model).__name__}, has no module {path!r}")

        def keep(called: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if called is not module:  # a copy's, which took the hook along
                return
            value = output if io == "output" else args and args[0]
            value = alone(value)
            if side == "teacher" and isinstance(value, Tensor):
                value = value.detach()
            self.hooked[side].setdefault(path, {})[io] = value
            self._training[side] = model.training
            if self._running[side]:
                calls = self._calls[side]
                calls[path, io] = calls.get((path, io), 0) + 1

        module.register_forward_hook(keep)
