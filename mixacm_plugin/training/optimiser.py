"""What the host's optimiser trains."""

from collections.abc import Mapping

from torch import nn

from ..parts.acm.loss import ACMLoss
from ..reading.recipe import Recipe
from ..reading.sections import term_path
from .boxes import Box, models_of, optimised, terms_of
from .own_losses import untrained_parts


def check_optimiser(
    recipe: Recipe, path: str, box: Box, models: Mapping[str, nn.Module]
) -> list[str]:
    """Check who is trained in a stage.

    Args:
        recipe: names the file in errors.
        path: of the stage.
        box: at the beginning of the stage.
        models: the plain model of each role.

    Returns:
        A warning where a part of the student alone is trained, though none of it is frozen, and for
        each loss whose own tensors aren't.

    Raises:
        RecipeError: if the teacher would be trained, a learnable transform or what a wrapper has
            beside the models wouldn't, or the loss would be raised.
    """
    trained = {id(p) for p in optimised(box)}
    if "teacher" in models:
        _check_teacher(recipe, path, models["teacher"], trained)
    if any(group.get("maximize") for group in box.optimizer.param_groups):
        message = "the loss would be raised, not lowered; leave maximize out"
        raise recipe.error(f"{path}.optimizer.kwargs.maximize", message)
    _check_transforms(recipe, path, box, trained)
    plain = {id(p) for model in models.values() for p in model.parameters()}
    _check_beside_models(recipe, path, box, plain | trained)
    warnings = list(untrained_parts(path, box, trained))
    trainable = [(n, p) for n, p in models["student"].named_parameters() if p.requires_grad]
    left_out = [name for name, p in trainable if id(p) not in trained]
    if not left_out or len(left_out) == len(trainable):  # a wrapper may train something else
        return warnings
    return [
        *warnings,
        f"{path}.optimizer: {len(left_out)} of the student's {len(trainable)} tensors aren't in it "
        f"and stay as they are, e.g. {left_out[0]!r}",
    ]


def freed(where: str, box: Box, frozen: Mapping[str, nn.Parameter]) -> list[str]:
    """Warn of a later stage that trains what the student froze when it was made.

    Args:
        where: path of the student in the stage.
        box: at the beginning of the stage.
        frozen: by name, as the model was built.
    """
    trained = {id(p) for p in optimised(box)}
    found = [name for name, p in frozen.items() if p.requires_grad and id(p) in trained]
    if not found:
        return []
    return [
        f"{where}: {len(found)} of the tensors that it had frozen itself would be trained, e.g. "
        f"{found[0]!r}: at the end of a stage torchdistill frees them all; name their modules in "
        "frozen_modules"
    ]


def _check_teacher(recipe: Recipe, path: str, teacher: nn.Module, trained: set[int]) -> None:
    named = teacher.named_parameters()
    found = [name for name, p in named if p.requires_grad and id(p) in trained]
    if found:
        raise recipe.error(
            f"{path}.teacher.requires_grad",
            f"the teacher would be trained ({len(found)} tensors, e.g. {found[0]!r}); "
            "set requires_grad: False, in every stage",
        )


def _check_transforms(recipe: Recipe, path: str, box: Box, trained: set[int]) -> None:
    for name, (term, _) in terms_of(box.criterion).items():
        for pair, module in term.learnable_transforms() if isinstance(term, ACMLoss) else ():
            if any(id(p) not in trained for p in module.parameters()):
                where = f"{term_path(path, name)}.criterion.kwargs.pairs.{pair}"
                raise recipe.error(
                    f"{where}.transform.module",
                    f"the learnable transform of term {name!r} isn't in the optimiser; list it "
                    f"under {path}.teacher.auxiliary_model_wrapper.kwargs.modules of a "
                    "FrozenTeacher, without requires_grad: False",
                )


def _check_beside_models(recipe: Recipe, path: str, box: Box, known: set[int]) -> None:
    """Check that what is trained is known: of a plain model, or in the optimiser."""
    for role, model in models_of(box).items():
        for name, p in model.named_parameters():
            if p.requires_grad and id(p) not in known:
                raise recipe.error(
                    f"{path}.optimizer",
                    f"{name!r}, which stands beside the {role}, isn't in it and would stay random; "
                    "write an optimizer for this stage, or the module into module_wise_configs",
                )
