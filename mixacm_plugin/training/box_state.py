"""The state of a host's box between two epochs, as a checkpoint keeps it."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..common.modules import unwrapped_names
from ..common.state_dicts import weights_of
from ..parts.acm.frozen_teacher import FrozenTeacher
from .boxes import Box, models_of, optimised, terms_of

State = dict[str, dict[str, Tensor]]


def box_state(box: Box, models: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Return the state of all that trains in a box, to go on from.

    Args:
        box: the host's, in some stage.
        models: the plain model of each role.
    """
    scheduler, transforms = box.lr_scheduler, learnable_transforms(box)
    state = {
        "model": models["student"].state_dict(),
        "optimizer": box.optimizer.state_dict(),
        "lr_scheduler": None if scheduler is None else scheduler.state_dict(),
        "stage_grad_count": box.stage_grad_count,
        # None between steps; tensors where the epoch ended while gradients accumulate.
        "gradients": [p.grad for p in optimised(box)],
        "auxiliary": _auxiliary_state(box, models),
    }
    return state if transforms is None else {**state, "transforms": transforms.state_dict()}


def load_box_state(box: Box, models: Mapping[str, nn.Module], state: Mapping[str, Any]) -> None:
    """Put a box, which is in the same stage, into a state from ``box_state``.

    Raises:
        KeyError, ValueError, RuntimeError, TypeError, AttributeError: if it is another box's.
    """
    models["student"].load_state_dict(weights_of(state))
    box.optimizer.load_state_dict(state["optimizer"])
    if box.lr_scheduler is not None:
        box.lr_scheduler.load_state_dict(state["lr_scheduler"])
    box.stage_grad_count = state["stage_grad_count"]
    for parameter, gradient in zip(optimised(box), state["gradients"], strict=True):
        parameter.grad = None if gradient is None else gradient.to(parameter.device)
    transforms = learnable_transforms(box)
    if transforms is not None:
        transforms.load_state_dict(state["transforms"])
    _load_auxiliary_state(box, models, state.get("auxiliary", {}))


def learnable_transforms(box: Box) -> nn.ModuleList | None:
    """Return a box's learnable transforms, where it has some."""
    teacher = getattr(box, "teacher_model", None)
    if not isinstance(teacher, FrozenTeacher) or not len(teacher.learnable_transforms):
        return None
    return teacher.learnable_transforms


def _auxiliary_state(box: Box, models: Mapping[str, nn.Module]) -> State:
    # What the host trains beside the student, which belongs to neither plain model: modules of its
    # wrappers by role, memories of its losses as loss.NAME, of their sum as loss. A FrozenTeacher's
    # are the transforms. Names are without what wraps modules for several processes.
    plain = {id(t) for m in models.values() for t in (*m.parameters(), *m.buffers())}
    state: State = {}
    for name, module in _parts(box).items():
        tensors = module.state_dict(keep_vars=True)
        names = unwrapped_names(module, tensors)
        kept = zip(names, tensors.values(), strict=True)
        state[name] = {key: t.detach() for key, t in kept if id(t) not in plain}
    return {name: tensors for name, tensors in state.items() if tensors}


def _load_auxiliary_state(box: Box, models: Mapping[str, nn.Module], state: State) -> None:
    expected = _auxiliary_state(box, models)
    if _shapes(state) != _shapes(expected):
        raise KeyError(f"auxiliary modules of {', '.join(expected) or 'no part'}")
    for name, tensors in state.items():
        for key, tensor in tensors.items():
            expected[name][key].copy_(tensor)  # they share their memory with the modules'


def _shapes(state: State) -> dict[str, dict[str, tuple[int, ...]]]:
    return {name: {k: tuple(t.shape) for k, t in part.items()} for name, part in state.items()}


def _parts(box: Box) -> dict[str, nn.Module]:
    wrapped = {r: m for r, m in models_of(box).items() if not isinstance(m, FrozenTeacher)}
    terms = {f"loss.{name}": term for name, (term, _) in terms_of(box.criterion).items()}
    return {**wrapped, **terms, "loss": box.criterion}
