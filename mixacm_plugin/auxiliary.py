"""What the host trains beside the student: modules of its wrappers and memories of its losses."""

from collections.abc import Mapping

from torch import Tensor, nn

from .building import Box, models_of
from .wrappers import FrozenTeacher

State = dict[str, dict[str, Tensor]]


def auxiliary_state(box: Box, models: Mapping[str, nn.Module]) -> State:
    """State of a stage that belongs to neither plain model, to resume from.

    Args:
        box: the host's, in some stage.
        models: the plain model of each role, whose tensors are left out.

    Returns:
        State dicts by role and, as ``loss.NAME``, by term of the loss; only those with tensors. The
        transforms of a ``FrozenTeacher`` aren't among them.
    """
    plain = {id(t) for m in models.values() for t in (*m.parameters(), *m.buffers())}
    state: State = {}
    for name, module in _parts(box).items():
        tensors = module.state_dict(keep_vars=True).items()
        state[name] = {key: t.detach() for key, t in tensors if id(t) not in plain}
    return {name: tensors for name, tensors in state.items() if tensors}


def load_auxiliary_state(box: Box, models: Mapping[str, nn.Module], state: State) -> None:
    """Put a stage's auxiliary modules back into a state from ``auxiliary_state``.

    Raises:
        KeyError: if the state is of other modules.
    """
    parts = _parts(box)
    expected = auxiliary_state(box, models)
    if {n: set(t) for n, t in state.items()} != {n: set(t) for n, t in expected.items()}:
        raise KeyError(f"auxiliary modules of {', '.join(expected) or 'no part'}")
    for name, tensors in state.items():
        parts[name].load_state_dict(tensors, strict=False)


def _parts(box: Box) -> dict[str, nn.Module]:
    wrapped = {r: m for r, m in models_of(box).items() if not isinstance(m, FrozenTeacher)}
    terms = getattr(box.criterion, "term_dict", {})
    return {**wrapped, **{f"loss.{name}": term for name, (term, _) in terms.items()}}
