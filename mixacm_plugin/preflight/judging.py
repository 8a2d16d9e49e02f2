"""What a name in a recipe resolves to, and whether that is known to be harmless.

Only modules whose import is known to do nothing are imported for that. All others are judged by
what they are called, or count as unknown.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

RUNS = "can run programs or code"
UNPICKLES = "reads pickles, which can run code"
WRITES = "can write or delete files"
CONNECTS = "can open connections"
_BY_WHAT_THEY_DO = {
    RUNS: """
        os posix nt subprocess _posixsubprocess pty runpy importlib imp code codeop ctypes _ctypes
        multiprocessing _thread threading concurrent asyncio sched signal timeit pdb bdb trace
        profile cProfile doctest unittest site sys gc inspect types operator _operator builtins.eval
        builtins.exec builtins.compile builtins.__import__ builtins.breakpoint builtins.getattr
        builtins.setattr builtins.delattr builtins.globals builtins.locals builtins.vars
        pip setuptools ensurepip venv torch.hub torch.jit torch.ops torch._ops torch.classes
        torch._classes torch.package torch.distributed torch.multiprocessing
        torch.utils.cpp_extension torch.utils.benchmark torch.utils.data.datapipes
        torchdistill.common torchdistill.models.registry mixacm_plugin.cli mixacm_plugin.commands
        mixacm_plugin.reading mixacm_plugin.training mixacm_plugin.loading mixacm_plugin.studies
        mixacm_plugin.preflight""",
    UNPICKLES: """
        pickle _pickle marshal shelve dbm joblib dill cloudpickle pandas numpy.load
        torch.serialization torch.storage torch.export torch.utils.model_zoo""",
    WRITES: """
        shutil tempfile zipfile tarfile gzip bz2 lzma io _io pathlib.Path fileinput sqlite3 _sqlite3
        logging mmap csv torch.from_file torch.onnx torch.profiler torch.utils.tensorboard
        torchvision.io torchvision.utils numpy.save numpy.savez numpy.savez_compressed numpy.savetxt
        numpy.ndarray.tofile numpy.ndarray.dump numpy.memmap""",
    CONNECTS: """
        socket _socket socketserver ssl select urllib http ftplib imaplib poplib smtplib telnetlib
        nntplib xmlrpc webbrowser antigravity requests httpx aiohttp wget gdown huggingface_hub
        torchvision.datasets.utils""",
}
# By the name of what defines them; the longest that fits counts.
DANGERS = {name: does for does, names in _BY_WHAT_THEY_DO.items() for name in names.split()}
PACKAGES = {"torch", "torchvision", "torchdistill", "mixacm_plugin", "numpy", "timm"}
READS = ("torchvision.io.decode_image", "torchvision.io.image.decode_image")  # beside writers
EXACT = {*PACKAGES, "uuid", "math", "cmath", "itertools"}  # not what lies below them
HARMLESS = (  # with all below them that isn't among the dangers
    *("torch.nn", "torch.optim", "torch.utils.data", "torch.distributions", "torch.functional"),
    *("torch.random", "torch._tensor", "torch._C.Generator", "torch._C._nn"),
    *("torchvision.transforms", "torchvision.models", "torchvision.datasets", "torchvision.ops"),
    *(*READS, "torchvision.tv_tensors", "torchdistill.core", "torchdistill.datasets"),
    *("torchdistill.losses", "torchdistill.models", "torchdistill.optim", "mixacm_plugin.parts"),
    *("mixacm_plugin.common.files.recipe_file", "numpy.random", "timm.layers", "timm.loss"),
    *("timm.models", "timm.optim", "timm.scheduler", "collections", "datetime", "decimal", "enum"),
    *("fractions", "functools", "_functools", "posixpath", "ntpath", "genericpath"),
    *("random", "_random", "statistics", "string", "typing", "pathlib.PurePath"),
)
BUILTINS = (
    *(abs, bool, bytes, complex, dict, divmod, enumerate, float, frozenset, int, len, list, max),
    *(min, pow, range, reversed, round, set, slice, sorted, str, sum, tuple, type(None), zip),
)
_HARMLESS_BUILTINS = {builtin.__name__ for builtin in BUILTINS}


class Judged(NamedTuple):
    """A name of a recipe.

    Args:
        name: as it is written, in full.
        warning: what can be said against it; ``None`` where it is known to be harmless.
        found: the object itself, where it is known to be harmless.
    """

    name: str
    warning: str | None
    found: Any = None


def judge(module: str, *names: str, folders: Collection[Path]) -> Judged:
    """Say what a name resolves to, without importing what isn't known to be harmless.

    Args:
        module: as it would be imported; an empty one can't be.
        names: of the attribute in it, and of the attribute of that, ...
        folders: whose modules a recipe can name besides those that are installed.

    Example:
        >>> judge("posixpath", "os", "system", folders=()).warning
        'posix.system can run programs or code'
        >>> judge("torch.nn", "Linear", folders=()).warning is None
        True
    """
    module = os.path.__name__ if module == "os.path" else module
    written = ".".join((module, *names))
    if any(name.startswith("__") for name in names):
        return Judged(written, f"{written} reaches into Python itself, and {RUNS}")
    own = own_file(module, folders)
    if own is not None:
        return Judged(written, f"runs {own}, which isn't looked into")
    by_name = Judged(written, _against(module, ".".join(names)))
    if not _may_be_imported(module):
        return by_name
    try:
        found = importlib.import_module(module)
        for name in names:
            found = getattr(found, name)
    except (ImportError, AttributeError):  # said when it is built
        return by_name
    where, name = _origin(found)
    warning = _against(where, name)
    return Judged(written, warning, None if warning else found)


def own_file(module: str, folders: Iterable[Path]) -> Path | None:
    """Return the file in one of the folders that a module would be run from, if there is one."""
    root = module.partition(".")[0]
    if root in sys.modules or not root:
        return None
    for folder in folders:
        for name in (f"{module.replace('.', os.sep)}.py", f"{root}.py", root):
            if (folder / name).exists():
                return folder / name
    return None


def _may_be_imported(module: str) -> bool:
    root = module.partition(".")[0]
    known = module in {*EXACT, "builtins"} or _is_below(module, HARMLESS)
    if not known or "__main__" in module or _danger(module):
        return False
    return root in sys.modules or importlib.util.find_spec(root) is not None


def _against(module: str, name: str) -> str | None:
    """Return what speaks against something by the module that defines it, if anything."""
    name = name.removeprefix("_VariableFunctionsClass.")  # which hides torch's own functions
    full = f"{module}.{name}" if name else module
    danger = _danger(full)
    if danger is not None:
        return f"{full} {danger}"
    if module == "builtins" and name.partition(".")[0] in _HARMLESS_BUILTINS:
        return None
    if module in EXACT or _is_below(full, HARMLESS):
        return None
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names or root in PACKAGES:
        return f"{full} isn't known here to be harmless"
    return f"runs code of {root or full}, which isn't looked into"


def _danger(full: str) -> str | None:
    if full in READS:
        return None
    parts = full.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((DANGERS[name] for name in names if name in DANGERS), None)


def _is_below(full: str, areas: Iterable[str]) -> bool:
    return any(full == area or full.startswith(f"{area}.") for area in areas)


def _origin(found: Any) -> tuple[str, str]:
    """Return the module that defines something, or the kind of what it is, and its name there."""
    if isinstance(found, ModuleType):
        return found.__name__, ""
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if isinstance(name, str) and not isinstance(module, str):  # a method of a built-in kind
        owner = getattr(found, "__objclass__", None) or getattr(found, "__self__", None)
        owner = owner if isinstance(owner, type) else type(owner)
        return owner.__module__, name
    if isinstance(name, str) and isinstance(module, str):
        return module, name
    return type(found).__module__, type(found).__qualname__
