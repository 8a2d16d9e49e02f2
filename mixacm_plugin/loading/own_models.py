"""Models of the user's own, which a flag names as ``MODULE.NAME``."""

import importlib
import sys
from pathlib import Path

from ..common.errors import UserError, nearest
from ..parts.models.timm_models import PREFIX
from ..reading.read import make_importable
from ..reading.schema import model_names


def module_and_key(flag: str, text: str) -> tuple[str, str]:
    """Split what names a model into the user's module, which may be empty, and the model's key.

    Args:
        flag: for messages.
        text: ``KEY``, ``timm:NAME`` or ``MODULE.KEY``.

    Raises:
        UserError: if it is a path.

    Example:
        >>> module_and_key("--student", "my_models.Net"), module_and_key("--student", "resnet18")
        (('my_models', 'Net'), ('', 'resnet18'))
    """
    if text.startswith(PREFIX) or "." not in text:
        return "", text
    module, _, key = text.rpartition(".")
    if key == "py" or not all(name.isidentifier() for name in text.split(".")):
        raise UserError(
            f"{flag}: expected a model's key, or MODULE.NAME for one of your own, where MODULE.py "
            f"lies in the working folder; found {text!r}"
        )
    return module, key


def import_own(flag: str, module: str, *folders: Path) -> None:
    """Import a module that registers models.

    Args:
        flag: that names it, for messages.
        module: its name, with dots where it is in a package.
        folders: where it may lie, behind everything that is installed.

    Raises:
        UserError: if it can't be imported.
    """
    make_importable(*folders)
    importlib.invalidate_caches()
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a script may end the process
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{flag}: can't import {module}: {reason}") from error


def check_registered(flag: str, key: str, module: str) -> None:
    """Raise ``UserError`` unless a key is a registered model's, or one of torchvision's.

    Args:
        flag: that names it, for messages.
        key: of the model.
        module: of the user's own, imported, that was to register it; empty where there is none.
    """
    names = model_names()
    if key in names:
        return
    hint = nearest(key, names)
    if module:
        file = getattr(sys.modules[module], "__file__", None) or f"{module}.py"
        hint += f" Put @register_model above it in {file}"
    elif not hint:
        hint = " One of your own is MODULE.NAME"
    raise UserError(f"{flag}: no model {key!r} is registered.{hint}")
