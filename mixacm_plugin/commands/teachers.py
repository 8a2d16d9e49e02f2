"""``mixacm teachers``."""

import argparse

from ..parts.models.teachers import TEACHERS, Teacher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: there is one list."""
    parser.description = (
        "List the published robust models that the registered model robust_teacher builds. "
        "Accuracies are the published ones, in %."
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the list."""
    for name, teacher in TEACHERS.items():
        print(_entry(name, teacher))


def _entry(name: str, teacher: Teacher) -> str:
    points, parameters = teacher.outline()
    blocks = ", ".join(f"{path} ({io})" for path, io, *_ in points.activated)
    published = f"  ({teacher.published_as})" if teacher.published_as else ""
    rows = {
        "architecture": f"{teacher.architecture}, built by {teacher.key}",
        "size": f"{parameters:,} parameters, {4 * parameters / 1e6:.0f} MB of weights",
        "data": f"{teacher.dataset}, {teacher.num_classes} classes, images in [0, 1]",
        "threat model": f"{teacher.norm}, ε {teacher.eps}",
        "accuracy": _accuracy(teacher),
        "source": teacher.source,
        "file": f"{teacher.url or teacher.page}{published}",
        "hook points": blocks,
    }
    lines = [name, *(f"  {title:12}  {text}" for title, text in rows.items())]
    return "\n".join(lines) + "\n"


def _accuracy(teacher: Teacher) -> str:
    clean = f"clean {teacher.clean:.2f}"
    if teacher.robust is None:
        return f"{clean}, no published robust accuracy found"
    return f"{clean}, robust {teacher.robust:.2f} ({teacher.attack})"
