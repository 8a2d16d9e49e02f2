"""Models of people's own: what they leave of the images that they share."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from ..common.state import eval_mode, preserved_rng
from ..reading import sections
from ..reading.recipe import Recipe


@torch.no_grad()
def check_images_kept(
    recipe: Recipe, config: Mapping[str, Any], models: Mapping[str, nn.Module], images: Tensor
) -> None:
    """Refuse a teacher that changes the images which the student gets after it.

    Args:
        recipe: names the file in errors.
        config: the built recipe.
        models: the plain model of each role.
        images: of the training data, left as they are.
    """
    if "teacher" not in models:
        return
    given = images[:1].clone()
    with preserved_rng(), eval_mode(models["teacher"]), suppress(Exception):
        models["teacher"](given)  # what it refuses, the trial step tells
    if not torch.equal(given.nan_to_num(), images[:1].nan_to_num()):
        raise recipe.error(
            sections.model_sections(config)["teacher"],
            "it changes its images in place, and the student gets the same ones after it; let it "
            "work on a copy, such as x - mean in place of x.sub_(mean)",
        )
