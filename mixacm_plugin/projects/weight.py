"""α_acm, from the gradients at the start of training."""

import math

from ..preflight.inspection import Inspection
from .project import Project

TIMES_KD = 10.0  # on digits, with the weight tuned there, 9.5


def measured_weight(found: Inspection, project: Project) -> float | None:
    """Return the α_acm whose gradient is ten times that of the soft labels at the start.

    Args:
        found: of the project's recipe.
        project: with the weight that was measured.

    Returns:
        1, 2 or 5 times a power of ten; ``None`` where the teacher isn't trained yet, or a gradient
        is zero.
    """
    norms = {term.name: term.gradient_norm for stage in found.stages for term in stage.terms}
    if not project.teacher.checkpoint or not norms.get("kd") or not norms.get("acm"):
        return None
    return rounded(project.weight * TIMES_KD * norms["kd"] / norms["acm"])


def rounded(value: float) -> float:
    """Return the nearest of 1, 2 and 5 times a power of ten, in proportion.

    Example:
        >>> rounded(170), rounded(0.031), rounded(800)
        (200.0, 0.02, 1000.0)
    """
    power = 10.0 ** math.floor(math.log10(value))
    factor = min((1, 2, 5, 10), key=lambda factor: abs(math.log(value / (factor * power))))
    return float(f"{factor * power:.3g}")
