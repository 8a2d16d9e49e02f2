"""Losses that compare the teacher's answers with the student's, class by class."""

from typing import Any

from torch import Tensor
from torchdistill.losses.mid_level import DISTLoss, KDLoss, LogitStdKDLoss

from ..common.outputs import are_probabilities
from ..reading.recipe import Recipe
from ..reading.sections import term_path

BY_CLASS = (KDLoss, LogitStdKDLoss, DISTLoss)


def check_answers(recipe: Recipe, path: str, name: str, term: Any, io_dicts: Any) -> None:
    """Refuse answers about other classes, of which one would be broadcast, and probabilities.

    Args:
        recipe: names the file in errors.
        path: of the stage.
        name: of the term.
        term: one of ``BY_CLASS``.
        io_dicts: what the term is given.

    Raises:
        RecipeError: on such answers.
    """
    where = term_path(path, name)
    answers = {}
    for side, io_dict in zip(("student", "teacher"), io_dicts, strict=False):
        module, io = (getattr(term, f"{side}_module_{part}") for part in ("path", "io"))
        end = io_dict.get(module, {}).get(io)
        if isinstance(end, Tensor) and end.ndim:
            answers[side] = end
    classes = {side: end.shape[-1] for side, end in answers.items()}
    if len(set(classes.values())) > 1:
        raise recipe.error(
            where,
            f"the teacher has {classes['teacher']} classes, the student {classes['student']}, so "
            "that it can't learn by soft labels; take cross-entropy in place of this term, as "
            "cifar100/mixacm does",
        )
    for side, end in answers.items():
        if end.ndim == 2 and are_probabilities(end):
            raise recipe.error(
                where,
                f"the {side}'s answers are probabilities, and {type(term).__name__} takes logits; "
                "leave the softmax out, or hook the layer before it and name that in place of '.'",
            )
