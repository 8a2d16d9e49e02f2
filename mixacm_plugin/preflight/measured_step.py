"""A training step under observation: its pairs, its loss terms, its hooked tensors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..common.modules import find_module
from ..parts.acm.loss import ACMLoss
from ..parts.acm.pairs import IO
from ..reading import sections
from ..training.boxes import Box, models_of, optimised, student_of, terms_of
from ..training.own_losses import untrained

LOWEST = -0.4  # usual activation functions give nothing lower: hardswish gives -0.375
DROWNS = 10_000.0  # the paper's own α_acm gives up to thousands at the start


@dataclass(frozen=True)
class MeasuredEnd:
    """One side of a pair: what is hooked, and what becomes of it.

    Args:
        term: of the loss.
        pair: its name.
        side: ``teacher`` or ``student``.
        path: of the hooked module.
        io: its ``input`` or ``output``.
        layout: where its channels are.
        shape: of an image's activation.
        channels: of its channel map, before any transform.
        transform: what changes this side's channel count; empty where nothing does.
        lowest: value of the activation.
    """

    term: str
    pair: str
    side: str
    path: str
    io: str
    layout: str
    shape: tuple[int, ...]
    channels: int
    transform: str
    lowest: float


@dataclass(frozen=True)
class Term:
    """A weighted term of the loss in the first step.

    Args:
        name: in the recipe.
        value: weighted.
        gradient_norm: norm of its gradient in the student's trained parameters.
        whole_norm: likewise in all that the optimiser trains.
    """

    name: str
    value: float
    gradient_norm: float
    whole_norm: float


@contextmanager
def watched_hooks(config: Mapping[str, Any], box: Box, warnings: list[str]) -> Iterator[None]:
    """Warn of hooked tensors that are changed in place while the block runs.

    Args:
        config: the built recipe.
        box: in some stage.
        warnings: gets a line for each such tensor.
    """
    path, stage = sections.current_stage(config, box)
    seen: dict[str, tuple[Tensor, int]] = {}

    def note(where: str, value: Any) -> None:
        value = value[0] if isinstance(value, tuple) and value else value
        if isinstance(value, Tensor):
            seen[where] = (value, value._version)

    with ExitStack() as stack:
        for role, section in sections.stage_sections(config).items():
            hooks = sections.get(stage, f"{section}.forward_hook") or {}
            for io, module_path in [(end, name) for end in IO for name in hooks.get(end) or []]:
                module = find_module(models_of(box)[role], module_path)
                if not isinstance(module, nn.Module):  # of a model that the host has redesigned
                    continue
                where = f"{path}.{section}.forward_hook.{io}: {module_path}"
                # An input is noted before the module runs, which may itself change it.
                register: Callable[..., RemovableHandle] = (
                    module.register_forward_pre_hook
                    if io == "input"
                    else module.register_forward_hook
                )
                stack.callback(register(lambda *a, w=where: note(w, a[-1])).remove)
        yield
    for where, (value, version) in seen.items():
        if value._version != version:
            warnings.append(
                f"{where} is changed in place after it is hooked (by an in-place activation, most "
                "likely), so the loss sees something else; hook the input of the module after it"
            )


@contextmanager
def recorded_pairs(criterion: nn.Module, pairs: list[MeasuredEnd]) -> Iterator[None]:
    """Append both sides of each pair of an ``ACMLoss``, while the block runs."""
    with ExitStack() as stack:
        for name, (term, _) in terms_of(criterion).items():
            if isinstance(term, ACMLoss):

                def hook(module: ACMLoss, args: Any, output: Tensor, name: str = name) -> None:
                    pairs.extend(_pairs(name, module, args))

                stack.callback(term.register_forward_hook(hook).remove)
        yield


def _pairs(term: str, loss: ACMLoss, args: Sequence[Any]) -> Iterator[MeasuredEnd]:
    hooked = {"student": args[0], "teacher": args[1]}
    for name, pair in loss.pairs.items():
        ends = loss.ends[name]
        activations = {side: hooked[side][end.path][end.io] for side, end in ends.items()}
        with torch.no_grad():
            maps = {side: loss.map_of(ends[side], a) for side, a in activations.items()}
        counts = {side: values.shape[1] for side, values in maps.items()}
        transform, kind = pair["transform"], ""
        if transform is not None and "module" in transform:
            kind = f"learnable {type(transform['module']).__name__}"
        elif transform is not None and counts["teacher"] != counts["student"]:
            kind = transform["kind"]
        for side, end in ends.items():
            shape = tuple(activations[side].shape[1:])
            own = kind if transform is not None and transform["side"] == side else ""
            lowest = float(activations[side].detach().min())
            yield MeasuredEnd(
                term, name, side, end.path, end.io, end.layout, shape, counts[side], own, lowest
            )


def measured_terms(box: Box, terms: Mapping[str, Tensor]) -> list[Term]:
    """Return value and gradient norms of each term; no gradient is left behind."""
    own = {id(p) for p in student_of(box).parameters()}
    parameters = [p for p in optimised(box) if p.requires_grad]
    measured = []
    for name, value in terms.items():
        squares = {True: 0.0, False: 0.0}
        if value.requires_grad and parameters:
            gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    squares[id(parameter) in own] += float(gradient.double().square().sum())
        norm, whole = squares[True] ** 0.5, sum(squares.values()) ** 0.5
        measured.append(Term(name, float(value.detach()), norm, whole))
    return measured


def activation_warnings(path: str, pairs: Sequence[MeasuredEnd]) -> Iterator[str]:
    """Yield a warning for each pair whose activations are taken before an activation function."""
    for end in pairs:
        if end.lowest < LOWEST:
            yield (
                f"{sections.term_path(path, end.term)}.criterion.kwargs.pairs.{end.pair}."
                f"{end.side}: the {end.io} of {end.path} falls to {end.lowest:.3g}, so it isn't "
                "activated; the paper's channel maps are taken after the activation"
            )


def gradient_warnings(
    path: str, terms: Sequence[Term], weights: Mapping[str, float], *, real: bool
) -> Iterator[str]:
    """Yield a warning for each weighted term that trains nothing, or beside which others don't.

    Args:
        path: of the stage.
        terms: measured.
        weights: of the terms by name; one of 0 is meant to train nothing.
        real: whether images and weights are the recipe's; of random ones magnitudes say nothing.
    """
    own = [term for term in terms if weights.get(term.name)]
    for term in own:
        where = sections.term_path(path, term.name)
        rest = sum(other.whole_norm for other in own if other is not term)
        if term.whole_norm == 0:
            yield untrained(path, term.name)
        elif real and rest and term.whole_norm > DROWNS * rest:
            yield (
                f"{where}: its gradient is {term.whole_norm / rest:,.0f} times as large as that of "
                "all others together; a lower weight may be meant"
            )
