"""``mixacm hooks``."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from ..common.errors import UserError
from ..loading.models import model_of_flag
from ..loading.own_models import check_registered, import_own, module_and_key
from ..parts.models.hook_points import hook_points
from ..parts.models.hook_snippet import hook_snippet
from ..parts.models.hooks.finder import PER, STAGE
from ..parts.models.hooks.points import HookPoint, HookPoints
from .common import argument_type, shape, table

EPILOG = """\
MODEL is the key of a registered model or of torchvision's, timm:NAME, or MODULE.NAME of a module of
your own in the working folder.

examples:
  mixacm hooks mobilenet_v3_small
  mixacm hooks timm:resnet10t --kwargs '{num_classes: 20}' --teacher resnet50
  mixacm hooks my_models.Net --kwargs '{num_classes: 20}'
  mixacm hooks vit_b_16 --input-shape 3,224,224
  mixacm hooks resnet18 --per block
"""
HEADS = ("block", "", "module", "layout", "shape", "channels")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the models and the images."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Run an image classifier once on a random image, say where its blocks can be hooked, and\n"
        "write the YAML that makes them the pairs of ACMLoss."
    )
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="the student")
    parser.add_argument("--teacher", metavar="MODEL", help="the teacher's key (default: MODEL)")
    for name, whose in (("--kwargs", "MODEL's"), ("--teacher-kwargs", "the teacher's")):
        parser.add_argument(
            name,
            type=argument_type(mapping),
            metavar="YAML",
            help=f"{whose} arguments, as in a recipe: '{{num_classes: 10}}'",
        )
    parser.add_argument(
        "--input-shape",
        type=shape,
        default=(3, 32, 32),
        metavar="C,H,W",
        help="of an image that the models take (default: 3,32,32)",
    )
    parser.add_argument(
        "--per",
        choices=PER,
        default=STAGE,
        help="hook every stage, as the paper does, or every residual block (default: stage)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the tables and the YAML."""
    if args.teacher_kwargs is not None and args.teacher is None:
        raise UserError("--teacher-kwargs: needs --teacher MODEL")
    student = _built("MODEL", args.model, args.kwargs)
    teacher = student
    if args.teacher is not None:
        teacher = _built("--teacher", args.teacher, args.teacher_kwargs)
    how: dict[str, Any] = {"input_shape": args.input_shape, "per": args.per}
    try:
        lines = _lines("student", args.model, hook_points(student, **how))
        if args.teacher is not None:
            points = hook_points(teacher, **how)
            lines = [*_lines("teacher", args.teacher, points), *lines]
        snippet = hook_snippet(teacher, student, **how)
    except (ValueError, RuntimeError) as error:  # images that are too large for the memory, too
        raise UserError(str(error).splitlines()[0]) from error
    auxiliary = [one for one in (student, teacher) if getattr(one, "aux_logits", False)]
    if auxiliary:
        lines += [
            f"{type(auxiliary[0]).__name__}: KDLoss needs its kwargs {{aux_logits: False}}",
            "",
        ]
    print(*lines, "under train:\n", snippet.rstrip(), sep="\n")


def mapping(text: str) -> Mapping[str, Any]:
    """Argument type of a model's arguments."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping such as {{num_classes: 10}}; found {text!r}")
    return value


def _built(flag: str, text: str, kwargs: Mapping[str, Any] | None) -> nn.Module:
    module, key = module_and_key(flag, text)
    if module:
        import_own(flag, module, Path.cwd())
    check_registered(flag, key, module)
    return model_of_flag(flag, key, kwargs)


def _lines(role: str, key: str, points: HookPoints) -> list[str]:
    rows: list[tuple[str, ...]] = []
    for number, (raw, active) in enumerate(zip(points.raw, points.activated, strict=True), 1):
        rows.append((f"{number}", "activated", *_cells(active)))
        rows.append(("", "raw", *(_cells(raw) if raw != active else ("the same",))))
    return [f"{role}: {key} ({points.family})", "", *table(HEADS, _filled(rows)), ""]


def _filled(rows: Iterable[Sequence[str]]) -> list[Sequence[str]]:
    return [(*row, *("",) * (len(HEADS) - len(row))) for row in rows]


def _cells(point: HookPoint) -> tuple[str, ...]:
    prefix = f", {point.prefix_tokens} before" if point.prefix_tokens else ""
    layout = "channel map" if len(point.shape) == 1 else f"{point.layout}{prefix}"
    shape = "×".join(map(str, point.shape))
    return f"{point.path} ({point.io})", layout, shape, str(point.channels)
