"""Every classification model of torchvision, and one of each of timm's families, as it is tried."""

from typing import Any

import torchvision

SIDE = 64  # of an image, where a model takes any
# Those that need larger images, or have to be told their size.
TORCHVISION: dict[str, tuple[int, dict[str, Any]]] = {
    **{name: (64, {"image_size": 64}) for name in ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32")},
    "vit_h_14": (56, {"image_size": 56}),
    "maxvit_t": (224, {}),
    "inception_v3": (96, {"aux_logits": False, "init_weights": False}),
    "googlenet": (64, {"aux_logits": False, "init_weights": False}),
}


def torchvision_models() -> dict[str, tuple[int, dict[str, Any]]]:
    """Side of an image and arguments by name."""
    names = torchvision.models.list_models(module=torchvision.models)
    return {name: TORCHVISION.get(name, (SIDE, {})) for name in names}


TIMM: dict[str, int] = {}
REFUSED: dict[str, str] = {}
