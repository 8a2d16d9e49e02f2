"""Models of timm, as keys ``timm:NAME`` of a recipe."""

from functools import partial
from typing import Any

from torch import nn
from torchdistill.models import registry

from ...common.errors import UserError, nearest

PREFIX = "timm:"


def timm_model(name: str, **kwargs: Any) -> nn.Module:
    """Build a model of timm.

    Args:
        name: of the model, without the prefix ``timm:``.
        **kwargs: of ``timm.create_model``, such as ``num_classes`` and ``pretrained``.

    Raises:
        UserError: if timm isn't installed, or has no such model.
    """
    try:
        import timm
    except ModuleNotFoundError:
        raise UserError(
            f"{PREFIX}{name}: timm isn't installed; pip install 'mixacm-plugin[timm]'"
        ) from None
    if not timm.is_model(name.partition(".")[0]):
        raise UserError(f"timm has no model {name!r}.{nearest(name, timm.list_models())}")
    model: nn.Module = timm.create_model(name, **kwargs)
    return model


class Models(dict[str, Any]):
    """The host's registry of models, in which every model of timm has a key.

    None is listed, since timm takes seconds to import. The host looks a model up by ``in`` and
    ``[]``, so that its own script finds them too.
    """

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or str(key).startswith(PREFIX)

    def __missing__(self, key: str) -> Any:
        if not str(key).startswith(PREFIX):
            raise KeyError(key)
        return partial(timm_model, key.removeprefix(PREFIX))


if not isinstance(registry.MODEL_DICT, Models):
    registry.MODEL_DICT = Models(registry.MODEL_DICT)
