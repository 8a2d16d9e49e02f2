"""The YAML that makes two models' hook points the pairs of ``ACMLoss``."""

from collections.abc import Iterable, Sequence
from typing import Any

import yaml
from torch import nn

from .hook_points import pair_points
from .hooks.points import HookPoint


def hook_lines(
    teacher: nn.Module,
    student: nn.Module,
    *,
    activated: bool = True,
    weight: float | None = None,
    input_shape: Sequence[int] = (3, 32, 32),
) -> list[tuple[str, bool]]:
    """Return the lines of ``hook_snippet``, each with whether MixACM adds it to a KD recipe."""
    pairs = pair_points(teacher, student, activated=activated, input_shape=input_shape)
    if weight is None:
        weight = usual_weight(pairs)
    lines: list[tuple[str, bool]] = [("pre_epoch_process: keep_teacher_in_eval", True)]
    for side, points in (("teacher", [p[1] for p in pairs]), ("student", [p[2] for p in pairs])):
        lines += [(f"{side}:", False), ("  forward_hook:", True)]
        lines += [(f"    {line}", True) for line in hook_lists(points)]
    where = ("criterion", "kwargs", "sub_terms")
    lines += [(f"{'  ' * depth}{name}:", False) for depth, name in enumerate(where)]
    transform = "      transform: {side: teacher, kind: adaptive_max_pool}  # channel counts differ"
    term = [
        "acm:",
        "  criterion:",
        "    key: ACMLoss",
        "    kwargs:",
        *([transform] if any(t.channels != s.channels for _, t, s in pairs) else []),
        "      pairs:",
        *(f"        {name}: {{teacher: {flow(t)}, student: {flow(s)}}}" for name, t, s in pairs),
        f"  weight: {weight}  # alpha_acm: about 200 for up to 128 channels, 2000 for 160",
    ]
    return lines + [(f"      {line}", True) for line in term]


def hook_snippet(
    teacher: nn.Module,
    student: nn.Module,
    *,
    activated: bool = True,
    weight: float | None = None,
    input_shape: Sequence[int] = (3, 32, 32),
) -> str:
    """Return the YAML of hooks and ``ACMLoss`` for two models, as it is under ``train``.

    Args:
        teacher: see ``hook_points``.
        student: likewise.
        activated: after the activation (default) or as the blocks return them.
        weight: α_acm; by default 200 for a student of at most 128 channels, else 2000.
        input_shape: ``(C, H, W)`` of an image that both take.

    Raises:
        ValueError: as ``hook_points`` does.
    """
    lines = hook_lines(
        teacher, student, activated=activated, weight=weight, input_shape=input_shape
    )
    return "\n".join(line for line, _ in lines) + "\n"


def usual_weight(pairs: Iterable[tuple[str, HookPoint, HookPoint]]) -> float:
    """Return α_acm by rule of thumb: 200 for a student of at most 128 channels, else 2000."""
    return 2000.0 if max(point.channels for _, _, point in pairs) > 128 else 200.0


def hook_lists(points: Iterable[HookPoint]) -> Sequence[str]:
    """Return the lines under ``forward_hook`` that hook these points."""
    by_io: dict[str, list[str]] = {}
    for point in points:
        by_io.setdefault(point.io, []).append(_text(point.path))
    return [f"{io}: [{', '.join(paths)}]" for io, paths in sorted(by_io.items())]


def flow(point: HookPoint) -> str:
    """Return a side of a pair, in a line."""
    return f"{{{', '.join(f'{key}: {_text(value)}' for key, value in point.end().items())}}}"


def _text(value: Any) -> str:
    """Write a value as YAML reads it back: a path may look like a number."""
    return str(value) if yaml.safe_load(str(value)) == value else f"'{value}'"
