"""Everything that is checked before a recipe is trained, in one list and in this order."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torchdistill.common import main_util

from ..common.distributed import seed_of_process
from ..common.state import preserved_rng
from ..loading.datasets import check_classes, test_loader
from ..loading.image_files import name_files
from ..loading.models import build_models
from ..loading.module_paths import check_module_paths
from ..reading import sections
from ..reading.checks import check_built, check_yaml
from ..reading.recipe import Recipe
from .boxes import Box
from .building import build_box, check_later_stages, check_stage, check_stage_checkpoints
from .compute import check_compiler
from .moving_average import MovingAverage, moving_average
from .robust_validation import (
    RobustValidation,
    check_attack_fits,
    check_validation_images,
    robust_validation,
)
from .run_files import check_files
from .teacher import measure_teacher
from .trial_step import try_test


class Prepared(NamedTuple):
    """A recipe that can be trained: built, its plain models by role, and the host's box.

    Besides: what the teacher is like, in a line; what may be wrong; whether images and weights are
    the recipe's; how robustness is validated; the student's moving average.
    """

    config: Mapping[str, Any]
    models: Mapping[str, nn.Module]
    box: Box
    teacher: str | None
    warnings: Sequence[str]
    real: bool
    validation: RobustValidation | None
    average: MovingAverage | None


def prepare(
    recipe: Recipe,
    device: torch.device,
    *,
    seed: int | None = None,
    start_epoch: int = 0,
    lr_factor: int = 1,
    real: bool = True,
) -> Prepared:
    """Check a recipe and build what trains it.

    What comes later relies on what was checked before it, so a list of mistakes is of one step:

    1. the YAML: keys, kinds, registered names, rules across keys; nothing is constructed;
    2. what its tags build, datasets among it;
    3. the same again with what they have built, then losses and robust validation;
    4. the files: none is written that is read; and that ``start_epoch`` is of the only stage;
    5. the compiler, where one is asked for; the datasets, against each other and what robust
       validation asks for;
    6. the models, and their checkpoints; the moving average: that it will begin, and that the
       student can be copied;
    7. the test images, which are used after the last epoch;
    8. module paths, against the models;
    9. later stages, on copies, with a trial step each;
    10. the host's box: who is trained, by which schedule, what is hooked, and a trial step of the
        first stage; the student on a few test images;
    11. the student, as one that robust validation can attack;
    12. the teacher, on some validation images, also under the attack of robust validation.

    Args:
        recipe: as read.
        device: where to train.
        seed: of all generators.
        start_epoch: number of the first epoch.
        lr_factor: of the learning rate.
        real: whether images and weights are the recipe's, so that the teacher can be measured.

    Raises:
        RecipeError: on anything wrong with the recipe.
    """
    main_util.set_seed(seed)
    warnings = check_yaml(recipe)
    config = recipe.build()
    check_built(recipe, config)
    for dataset in config["datasets"].values():
        name_files(dataset)
    validation = robust_validation(recipe, config)
    check_files(recipe, config)
    if start_epoch:
        warnings.append(_started_late(recipe, config, start_epoch))
    check_compiler(recipe, config, device)
    check_classes(recipe, config)
    if validation is not None:
        warnings += [f"validate: {line}" for line in validation.attack.warnings()]
        if real:
            warnings += check_validation_images(recipe, config, validation)
    models = build_models(recipe, config)
    average = moving_average(recipe, config, models["student"], device)
    check_stage_checkpoints(recipe, config, models)
    with preserved_rng():
        tested = test_loader(recipe, config, *models.values())
    check_module_paths(recipe, config, models)
    warnings += check_later_stages(recipe, config, models, device)
    distributed = main_util.is_dist_avail_and_initialized()
    box = build_box(
        recipe,
        config,
        models,
        device,
        distributed=distributed,
        lr_factor=lr_factor,
        seed=seed,
    )
    warnings += check_stage(recipe, config, box, models)
    warnings += try_test(recipe, tested, models["student"], device)
    if validation is not None:
        check_attack_fits(recipe, validation, models["student"], box)
    teacher = None
    if real:
        teacher, doubts = measure_teacher(recipe, config, box, models, validation)
        warnings += doubts
    if distributed:  # the same weights everywhere, but not the same mixup and crops
        main_util.set_seed(seed_of_process(torch.initial_seed() if seed is None else seed))
    return Prepared(config, models, box, teacher, warnings, real, validation, average)


def _started_late(recipe: Recipe, config: Mapping[str, Any], start_epoch: int) -> str:
    """Check the number of a first epoch that isn't the first, and return a warning of it."""
    if "stage1" in config["train"]:
        message = "--start_epoch can't enter a later stage; use --resume with a checkpoint"
        raise recipe.error("train", message)
    epochs = sections.num_epochs(config)
    if start_epoch >= epochs:
        message = f"{start_epoch}, counted from 0, of {epochs} epochs: nothing would be trained"
        raise recipe.error("--start_epoch", message)
    return (
        "--start_epoch only sets the first epoch's number; the optimiser and its schedule start "
        "anew (to go on from a checkpoint: --resume)"
    )
