"""Robustness transfer by knowledge distillation: MixACM for torchdistill.

Importing the package registers its parts with torchdistill, so that a recipe can name them. What
reads, trains and measures recipes is imported when it is first used.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from .common import signals as _signals  # noqa: F401  first: Ctrl-C while the rest is imported
from .common.errors import RecipeError, UserError
from .common.files import recipe_file
from .parts.acm.channel_maps import channel_map, normalize_map
from .parts.acm.frozen_teacher import FrozenTeacher
from .parts.acm.loss import ACMLoss, acm_loss
from .parts.acm.transforms import affine, resize_channels
from .parts.adversarial.clean_and_adversarial import (
    CleanAndAdversarial,
    clean_and_adversarial_forward,
    shared_forward,
)
from .parts.adversarial.free_training import free_adversarial_forward
from .parts.adversarial.input_gradients import (
    InputGradientLoss,
    LogitsAndInputGradient,
    input_gradient_forward,
    input_gradient_loss,
)
from .parts.adversarial.losses import (
    ARDLoss,
    IGDMLoss,
    RSLADLoss,
    TRADESLoss,
    ard_loss,
    igdm_loss,
    rslad_loss,
    trades_loss,
)
from .parts.adversarial.output_parts import OutputPart
from .parts.adversarial.overfitting import watch_overfitting
from .parts.adversarial.pgd import pgd
from .parts.adversarial.pgd_training import adversarial_forward
from .parts.batch_size import accumulation_steps, local_batch_size
from .parts.data import Digits, RandomImages, hold_out
from .parts.images_in_memory import ImagesInMemory
from .parts.mixup import MixupCollate, mixup_collate
from .parts.models import dm_wide_resnet, hendrycks_wide_resnet, normalize_inside, normalized
from .parts.models.acm import ACM
from .parts.models.hook_points import hook_points
from .parts.models.hook_snippet import hook_snippet
from .parts.models.published import load_published
from .parts.models.teachers import robust_teacher
from .parts.models.timm_models import timm_model
from .parts.processes import forward_bf16, forward_channels_last, keep_teacher_in_eval
from .parts.schedulers import warmup_cosine

if TYPE_CHECKING:
    from .evaluation.accuracy import Accuracy, evaluate
    from .evaluation.attacks import PGD, Attack, AutoAttack, Clean, Square
    from .loading.models import load_student
    from .reading.read import read_recipe
    from .reading.recipe import Recipe
    from .training.loop import Training

__version__ = version("mixacm-plugin")

_USED_LATER = {
    "PGD": "evaluation.attacks",
    "Accuracy": "evaluation.accuracy",
    "Attack": "evaluation.attacks",
    "AutoAttack": "evaluation.attacks",
    "Clean": "evaluation.attacks",
    "Square": "evaluation.attacks",
    "Recipe": "reading.recipe",
    "Training": "training.loop",
    "evaluate": "evaluation.accuracy",
    "load_student": "loading.models",
    "read_recipe": "reading.read",
}

__all__ = [
    "ACM",
    "PGD",
    "ACMLoss",
    "ARDLoss",
    "Accuracy",
    "Attack",
    "AutoAttack",
    "Clean",
    "CleanAndAdversarial",
    "Digits",
    "FrozenTeacher",
    "IGDMLoss",
    "ImagesInMemory",
    "InputGradientLoss",
    "LogitsAndInputGradient",
    "MixupCollate",
    "OutputPart",
    "RSLADLoss",
    "RandomImages",
    "Recipe",
    "RecipeError",
    "Square",
    "TRADESLoss",
    "Training",
    "UserError",
    "accumulation_steps",
    "acm_loss",
    "adversarial_forward",
    "affine",
    "ard_loss",
    "channel_map",
    "clean_and_adversarial_forward",
    "dm_wide_resnet",
    "evaluate",
    "forward_bf16",
    "forward_channels_last",
    "free_adversarial_forward",
    "hendrycks_wide_resnet",
    "hold_out",
    "hook_points",
    "hook_snippet",
    "igdm_loss",
    "input_gradient_forward",
    "input_gradient_loss",
    "keep_teacher_in_eval",
    "load_published",
    "load_student",
    "local_batch_size",
    "mixup_collate",
    "normalize_inside",
    "normalize_map",
    "normalized",
    "pgd",
    "read_recipe",
    "recipe_file",
    "resize_channels",
    "robust_teacher",
    "rslad_loss",
    "shared_forward",
    "timm_model",
    "trades_loss",
    "warmup_cosine",
    "watch_overfitting",
]


def __getattr__(name: str) -> Any:
    if name not in _USED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_USED_LATER[name]}", __name__), name)
