"""α_acm, from the gradients at the start of training."""

from ..preflight.inspection import Inspection
from .project import Project, rounded

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
