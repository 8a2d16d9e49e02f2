"""Modules of the user's own that register models: imported, and taken along into the project."""

import importlib.util
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path

from ..common.errors import UserError
from ..loading.own_models import import_own
from ..reading.read import make_importable

STUB = Path(__file__).parent / "templates" / "my_models.py.txt"


def import_or_stub(flag: str, module: str, name: str, folder: Path) -> str:
    """Import the user's module from the project or the working folder; write nothing.

    Args:
        flag: that names it, for messages.
        module: its name.
        name: of the model in it.
        folder: of the project.

    Returns:
        The text of a stub, which is run in its place, where there is no such module; else nothing.

    Raises:
        UserError: if it can't be imported, or is missing in a package.
    """
    folders = folder.resolve(), Path.cwd()
    make_importable(*folders)
    if importlib.util.find_spec(module.partition(".")[0]) is not None:
        import_own(flag, module, *folders)
        return ""
    if "." in module:
        raise UserError(f"{flag}: no module {module}")
    stub = STUB.read_text(encoding="utf-8").replace("class Net", f"class {name}")
    made = importlib.util.module_from_spec(ModuleSpec(module, None))
    exec(stub, vars(made))
    sys.modules[module] = made
    return stub


def files_to_copy(modules: Iterable[str], folder: Path) -> dict[str, Path]:
    """Return files of modules in the working folder, by their path in the project.

    Args:
        modules: of the user's own.
        folder: of the project; what it has already is left alone.
    """
    files = {f"{module}.py": Path(f"{module}.py") for module in modules}
    return {
        name: file for name, file in files.items() if file.exists() and not (folder / name).exists()
    }
