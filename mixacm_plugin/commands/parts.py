"""``mixacm parts``."""

import argparse
import inspect
from collections.abc import Callable
from typing import Any

from torchdistill.models import registry

import mixacm_plugin

from ..common.errors import UserError, nearest
from ..reading.keys import registries
from ..reading.schema import recipe_keys

ONE_STAGE = ()
OURS = "mixacm_plugin"
CALLED = "called by !import_call, or in Python"
NOT_PARTS = ("typing", "collections")  # the host registers what a module of torch imports, too


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name."""
    parser.description = (
        "List the parts that a recipe can name, torchdistill's and this package's, by what they "
        "are; or show one: its arguments and its docstring."
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a part")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the list, or one part."""
    kinds = registered_parts()
    if args.name is None:
        for kind, parts in kinds.items():
            print(f"{kind}\n  {', '.join(sorted(parts))}\n")
        return
    # One of ours may be registered and called as well.
    either = (args.name, f"{OURS}.{args.name}")
    found = [(kind, parts[n]) for kind, parts in kinds.items() for n in either if n in parts]
    found = list({id(part): (kind, part) for kind, part in reversed(found)}.values())
    if not found:
        names = {name for parts in kinds.values() for name in parts}
        raise UserError(f"no part {args.name!r} is registered.{nearest(args.name, names)}")
    print("\n\n".join(_described(args.name, kind, part) for kind, part in found))


def registered_parts() -> dict[str, dict[str, Callable[..., Any]]]:
    """Return what a recipe can name, by what it is and by name."""
    found = {"model": dict(registry.MODEL_DICT)}
    for _, registered in registries(recipe_keys(ONE_STAGE)):
        found.setdefault(registered.what, {}).update(registered.parts())
    found[CALLED] = {
        f"{OURS}.{name}": getattr(mixacm_plugin, name) for name in mixacm_plugin.__all__
    }
    return {
        kind: {n: p for n, p in parts.items() if not str(p.__module__).startswith(NOT_PARTS)}
        for kind, parts in found.items()
        if parts
    }


def _described(name: str, kind: str, part: Callable[..., Any]) -> str:
    parameters = inspect.signature(part).parameters.values()
    arguments = ", ".join(str(p.replace(annotation=p.empty)) for p in parameters)
    doc = inspect.getdoc(part) or "It has no docstring."
    return f"{name}: {kind}, of {part.__module__}\n{name}({arguments})\n\n{doc}"
