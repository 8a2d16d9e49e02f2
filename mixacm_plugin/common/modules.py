"""Modules of a model by their paths, as the host finds them."""

from collections.abc import Iterable, Set
from typing import Any

from torch import nn
from torchdistill.common import module_util
from torchdistill.common.module_util import check_if_wrapped


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


def covering(model: nn.Module, parameters: Set[str]) -> list[str]:
    """Return paths of modules that hold these parameters and no others, as few as there can be.

    Args:
        model: whose ``named_parameters`` they are. What is wrapped for several processes is passed
            over in paths, as the host does.
        parameters: names; of those that have no module to themselves the name is returned.
    """
    found: list[str] = []
    rest = set(parameters)
    for path, module in model.named_modules():
        own = {f"{path}.{name}".lstrip(".") for name, _ in module.named_parameters()}
        if own and own <= rest:
            rest -= own
            found.append(path)
    return unwrapped_names(model, [*found, *sorted(rest)])


def unwrapped_names(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Return names of a model's modules or tensors without those of what wraps its modules.

    Args:
        model: modules of which may be wrapped for several processes or devices.
        names: with the wrappers' ``module.``, as torch has them.
    """
    wrapped = [path for path, module in model.named_modules() if check_if_wrapped(module)]
    names = list(names)
    for path in reversed(wrapped):  # inner ones first, whose paths hold the outer ones'
        start = f"{path}." if path else ""
        inner = f"{start}module."
        names = [start + n[len(inner) :] if n.startswith(inner) else n for n in names]
    return names


def alone(value: Any) -> Any:
    """Return what a module takes or returns, of a tuple of one what is in it."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value
