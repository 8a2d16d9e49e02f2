"""Modules of a model by their paths, as the host finds them."""

from torch import nn
from torchdistill.common import module_util


def find_module(model: nn.Module, path: str) -> nn.Module | nn.Parameter | None:
    """Look up a module, or a parameter, as the host does; ``None`` where there is none.

    The host takes attributes, so that a module may have two names, and indices of a row of
    modules, from its end too: ``layer1.-1.relu``.

    Args:
        model: that has it.
        path: of the module; a leading ``+``, which in hooks stands for a model that the host has
            made of another, is passed over.
    """
    module_util.logger.disabled = True  # it would log what is said better where it is needed
    try:
        found = module_util.get_module(model, path.removeprefix("+"))
    except (AttributeError, IndexError, TypeError):
        return None
    finally:
        module_util.logger.disabled = False
    return found if isinstance(found, nn.Module | nn.Parameter) else None
