"""Robustness transfer by knowledge distillation: MixACM for torchdistill.

Importing the package registers its parts with torchdistill, so that a recipe can name them.
"""

from importlib.metadata import version

from .adversarial.clean_and_adversarial import (
    CleanAndAdversarial,
    clean_and_adversarial_forward,
    shared_forward,
)
from .adversarial.free_training import free_adversarial_forward
from .adversarial.input_gradients import (
    InputGradientLoss,
    LogitsAndInputGradient,
    input_gradient_forward,
    input_gradient_loss,
)
from .adversarial.losses import ARDLoss, RSLADLoss, TRADESLoss, ard_loss, rslad_loss, trades_loss
from .adversarial.output_parts import OutputPart
from .adversarial.overfitting import watch_overfitting
from .adversarial.pgd import pgd
from .adversarial.training import adversarial_forward
from .attacks import Attack
from .batch_size import accumulation_steps, local_batch_size
from .channel_maps import channel_map, normalize_map
from .data import Digits, hold_out
from .evaluation import Accuracy, evaluate, load_student
from .hook_points import hook_points, hook_snippet
from .library import recipe_file
from .losses import ACMLoss, acm_loss
from .mixup import mixup_collate
from .models import dm_wide_resnet, hendrycks_wide_resnet, normalize_inside, normalized
from .models.published import load_published
from .models.teachers import robust_teacher
from .preflight.random_images import RandomImages
from .processes import forward_bf16, forward_channels_last, keep_teacher_in_eval
from .recipe import Recipe, RecipeError, read_recipe
from .schedulers import warmup_cosine
from .training import Training
from .transforms import affine, resize_channels
from .wrappers import FrozenTeacher

__version__ = version("mixacm-plugin")

__all__ = [
    "ACMLoss",
    "ARDLoss",
    "Accuracy",
    "Attack",
    "CleanAndAdversarial",
    "Digits",
    "FrozenTeacher",
    "InputGradientLoss",
    "LogitsAndInputGradient",
    "OutputPart",
    "RSLADLoss",
    "RandomImages",
    "Recipe",
    "RecipeError",
    "TRADESLoss",
    "Training",
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
    "trades_loss",
    "warmup_cosine",
    "watch_overfitting",
]
