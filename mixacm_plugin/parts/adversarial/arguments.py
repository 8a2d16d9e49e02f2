"""Arguments of attacks as a recipe gives them: checked and parsed."""

import logging
from typing import Any

from ...common.values import COUNT, POSITIVE, check_kind, parse_number
from .threat_model import parse_eps, reaches_edge

logger = logging.getLogger("mixacm")


def checked_ball(
    caller: str, *, eps: str | float, step_size: str | float, norm: str
) -> dict[str, Any]:
    """Return a ball and the length of a step in it, parsed.

    Raises:
        ValueError: on a wrong one; the message begins with ``caller``.
    """
    try:
        radius = parse_eps(eps, norm)
    except ValueError as error:
        raise ValueError(f"{caller}: {error}") from None
    try:
        step = parse_number(step_size)
    except ValueError as error:
        raise ValueError(f"{caller}: step_size: {error}") from None
    if step == 0 < radius:
        raise ValueError(f"{caller}: step_size must be {POSITIVE.words}; found {step_size!r}")
    return {"eps": radius, "step_size": step, "norm": norm}


def checked_attack(
    caller: str, *, eps: str | float, step_size: str | float, steps: int, norm: str
) -> dict[str, Any]:
    """Return the arguments of an attack, parsed, for ``ascend`` and ``pgd``.

    Raises:
        ValueError: on a wrong one; the message begins with ``caller``.
    """
    check_kind(f"{caller}: steps", steps, COUNT)
    return {"steps": steps, **checked_ball(caller, eps=eps, step_size=step_size, norm=norm)}


def warn_of_short_reach(caller: str, *, eps: float, step_size: float, steps: int, **_: Any) -> None:
    """Warn of an attack from near the image whose steps can't lead to the edge of the ball."""
    if not reaches_edge(eps=eps, step_size=step_size, steps=steps):
        logger.warning(
            f"{caller}: {steps} steps of {step_size:.3g} from near the image can't reach the edge "
            f"of the ball, ε = {eps:.3g}"
        )
