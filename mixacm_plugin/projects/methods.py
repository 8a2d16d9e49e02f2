"""Methods of ``--compare``: what each changes of the project's recipes, for its pair of models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..common.errors import UserError, nearest
from ..parts.models.hooks.points import HookPoint
from ..reading.library import override_names

SCRATCH = "scratch.yaml"

Pair = tuple[str, HookPoint, HookPoint]  # name, teacher's and student's


@dataclass(frozen=True)
class Method:
    """A row of the project's study.

    Args:
        title: of the row.
        file: override file, shipped or of the project.
        base: the row's own recipe; empty for the study's.
        changes: key paths and values besides, as YAML reads them.
        pairs: whose modules the override file names; empty for a shipped one.
    """

    title: str
    file: str
    base: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    pairs: Sequence[Pair] = ()


class _Attacking(NamedTuple):
    """A shipped method with a threat model: by key path, how many ε a step is."""

    title: str
    base: str
    at: str  # key path of the attack
    step: float
    more: Mapping[str, float] = {}


class _Fitted(NamedTuple):
    """A method that names modules: those pairs it wants, and which it can take."""

    title: str
    fits: Callable[[HookPoint, HookPoint], bool]
    words: str
    wanted: Callable[[list[Pair]], list[Pair]] = list
    one: bool = False  # it takes the middle one alone
    activated: bool = True


def _maps(teacher: HookPoint, student: HookPoint) -> bool:
    return all(p.layout == "nchw" and len(p.shape) == 3 for p in (teacher, student))


def _of_one_size(teacher: HookPoint, student: HookPoint) -> bool:
    return _maps(teacher, student) and teacher.shape[1:] == student.shape[1:]


def _of_one_shape(teacher: HookPoint, student: HookPoint) -> bool:
    return (teacher.layout, teacher.shape) == (student.layout, student.shape)


def _outputs(teacher: HookPoint, student: HookPoint) -> bool:
    return teacher.io == student.io == "output"


def _last(pairs: list[Pair]) -> list[Pair]:
    return pairs[-1:]


def _stages(pairs: list[Pair]) -> list[Pair]:
    """Leave the stem out, where there is more."""
    return [pair for pair in pairs if pair[0] != "block1"] or pairs


MAPS, SIZE, SHAPE = "feature maps (C, H, W)", "feature maps of one size", "activations of one shape"
SHIPPED = {
    "kd": "KD + mixup",
    "logit_std": "logit standardization + mixup",
    "dist": "DIST + mixup",
    "skd": "SKD + mixup",
    "input_gradients": "input gradients",
    "kdiga": "KDIGA",
}
FORWARD, WATCH = "forward_proc", "train.post_epoch_process"
ATTACKING = {
    "ard": _Attacking("ARD", "", f"train.student.{FORWARD}", 0.25),
    "rslad": _Attacking("RSLAD", "", f"train.student.{FORWARD}", 0.25),
    "igdm": _Attacking("IGDM", "", f"train.student.{FORWARD}", 0.25),
    "pgd7_at": _Attacking("PGD7-AT", SCRATCH, f"train.model.{FORWARD}", 0.25),
    "trades": _Attacking("TRADES", SCRATCH, f"train.model.{FORWARD}", 0.25),
    "fast_at": _Attacking("Fast-AT", SCRATCH, f"train.model.{FORWARD}", 1.25, {WATCH: 0.25}),
    "free_at": _Attacking("Free-AT", SCRATCH, f"train.model.{FORWARD}", 1.0),
}
FITTED = {
    "at": _Fitted("AT + mixup", _of_one_size, SIZE, _stages),
    "direct_l2": _Fitted("direct ℓ2 + mixup", _of_one_shape, SHAPE),
    "fitnet": _Fitted("FitNets + mixup", _of_one_size, SIZE, one=True),
    "kr": _Fitted("KR + mixup", _of_one_size, SIZE, _stages, activated=False),
    "ickd": _Fitted("ICKD + mixup", _maps, MAPS, _last),
    "srd": _Fitted("SRD + mixup", _maps, MAPS, _last),
    "rkd": _Fitted("RKD + mixup", _outputs, "modules' outputs", _last),
    "spkd": _Fitted("SPKD + mixup", _outputs, "modules' outputs", _last),
}
METHODS = (*SHIPPED, *ATTACKING, *FITTED)


def check_methods(names: Sequence[str]) -> None:
    """Raise ``UserError`` for a method that isn't there, or is given twice."""
    for name in names:
        if name not in METHODS:
            only = f"; compare/{name} is for the models of the digits"
            why = only if f"compare/{name}" in override_names() and name != "mixacm" else ""
            raise UserError(
                f"--compare: no method {name!r}{why}; there are {', '.join(METHODS)}."
                f"{nearest(name, METHODS)}"
            )
        if list(names).count(name) > 1:
            raise UserError(f"--compare: {name} is given twice")


def method_of(
    name: str,
    pairs: Mapping[bool, Sequence[Pair]],
    ball: Callable[[float], str],
    norm: str,
    epochs: int,
) -> tuple[Method, list[str]]:
    """Fit a method to a pair of models.

    Args:
        name: one of ``METHODS``.
        pairs: of blocks, activated and not.
        ball: a multiple of ε, as a recipe writes it.
        norm: ``Linf`` or ``L2``.
        epochs: of the other methods.

    Returns:
        The method, and a line for each pair that it can't take.

    Raises:
        UserError: if it can take none.
    """
    if name in SHIPPED:
        return Method(SHIPPED[name], f"compare/{name}"), []
    if name in ATTACKING:
        attack = ATTACKING[name]
        changes: dict[str, Any] = {}
        for path, step in {attack.at: attack.step, **attack.more}.items():
            kwargs = f"{path}.init.kwargs"
            changes |= {f"{kwargs}.eps": ball(1), f"{kwargs}.step_size": ball(step)}
            changes[f"{kwargs}.norm"] = norm
        if name == "free_at":  # each batch four times
            changes["train.num_epochs"] = max(1, epochs // 4)
        return Method(attack.title, f"compare/{name}", attack.base, changes), []
    method = FITTED[name]
    wanted = method.wanted(list(pairs[method.activated]))
    fitting = [pair for pair in wanted if method.fits(*pair[1:])]
    differ = [
        f"{pair[0]}: teacher {_text(pair[1])}, student {_text(pair[2])}"
        for pair in wanted
        if pair not in fitting
    ]
    if not fitting:
        raise UserError(
            f"--compare {name}: it matches {method.words}, which the pairs of these models aren't "
            f"({'; '.join(differ)}); leave {name} out"
        )
    said = [f"{name}: without {line}, which aren't {method.words}" for line in differ]
    if method.one:
        fitting, said = fitting[len(fitting) // 2 :][:1], []
    return Method(method.title, f"methods/{name}.yaml", pairs=fitting), said


def _text(point: HookPoint) -> str:
    return f"{point.path} ({point.io}) {'×'.join(map(str, point.shape))}"
