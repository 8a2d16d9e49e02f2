"""Modules of the user's own that register models: imported, and taken along into the project."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from tempfile import TemporaryDirectory

from ..common.errors import UserError
from ..loading.own_models import import_own
from ..reading.read import make_importable

FIND = """\
import importlib.util, sys
print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))
"""
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


def files_to_copy(folder: Path) -> dict[str, Path]:
    """Return files of loaded modules that only the working folder has, by their path in a project.

    Args:
        folder: of the project; what it has already is left alone.
    """
    here = Path.cwd()
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    files = {}
    for spec in specs:
        if isinstance(spec, ModuleSpec) and str(spec.origin).endswith(".py"):
            file = Path(str(spec.origin))
            if file.is_relative_to(here):
                files[spec.name] = file
    alone = _missing_elsewhere({name.partition(".")[0] for name in files})
    copies = {}
    for name, file in sorted(files.items()):
        inside = name.replace(".", "/") + ("/__init__.py" if file.stem == "__init__" else ".py")
        if name.partition(".")[0] in alone and not (folder / inside).exists():
            copies[inside] = file.relative_to(here)
    return copies


def _missing_elsewhere(names: Iterable[str]) -> set[str]:
    """Return the modules that a process in another folder doesn't find: they aren't installed."""
    with TemporaryDirectory() as empty:
        command = [sys.executable, "-c", FIND, *names]
        said = subprocess.run(command, cwd=empty, stdout=subprocess.PIPE, text=True, check=True)
    return set(said.stdout.split())
