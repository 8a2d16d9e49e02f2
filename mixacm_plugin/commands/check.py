"""``mixacm check``."""

import argparse
from collections.abc import Iterable, Sequence

from torch.backends import cudnn

from ..common.distributed import choose_device
from ..common.errors import UserError
from ..preflight.inspection import Inspection, inspect_recipe
from ..preflight.stage import Stage
from ..preflight.static import Listing, list_recipe
from ..reading.read import parse_recipe, read_recipe
from .common import add_device, add_recipe, positive, set_up_log, shape, table

EPILOG = """\
Exit code 0 if the recipe can be trained, warnings or not; 2 if it can't. With --static 0 without
warnings, 3 with some, 2 if the recipe can't be read.

examples:
  mixacm check recipe.yaml
  mixacm check recipe.yaml --input-shape 3,32,32 --batch-size 2 --random-weights
  mixacm check --static recipe.yaml     # before you run a recipe that somebody else wrote
"""

STATIC_NOTE = """\
A recipe is code. This is a guard against careless sharing, not a sandbox: it goes by names."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the recipe, and what to put in place of its data and weights."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Run one training step of each stage of a recipe, write nothing, and say what it does,\n"
        "how long it will take and what looks wrong."
    )
    parser.epilog = EPILOG
    add_recipe(parser, positional=True)
    add_device(parser)
    parser.add_argument(
        "--input-shape",
        type=shape,
        metavar="C,H,W",
        help="put random images of this shape, through its own transform, in "
        "place of every dataset; none is built or downloaded",
    )
    parser.add_argument("--batch-size", type=positive, metavar="N", help="in place of the recipe's")
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="don't load checkpoints, such as the teacher's",
    )
    parser.add_argument(
        "--static",
        action="store_true",
        help="run nothing: list what the recipe would import, call, read, write and download, and "
        "warn of what can run programs, write or delete files",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check and print."""
    set_up_log(None)
    cudnn.benchmark = True  # as in the command that trains
    path = args.recipe or args.config
    if path is None or (args.recipe and args.config):
        raise UserError("mixacm check: expected one recipe, as RECIPE or --config RECIPE")
    if args.static:
        listing = list_recipe(parse_recipe(path, args.overrides))
        print("\n".join(static_report(listing)))
        return 3 if listing.warnings else 0
    found = inspect_recipe(
        read_recipe(path, args.overrides),
        choose_device(args.device),
        input_shape=args.input_shape,
        batch_size=args.batch_size,
        random_weights=args.random_weights,
    )
    print("\n".join(report(found)))
    return 0


def static_report(listing: Listing) -> list[str]:
    """Lay out what a recipe would do, in lines."""
    lines = []
    for what in ("imports", "calls", "parts", "reads", "writes", "downloads"):
        rows = [(f"  {name}", where) for name, where in getattr(listing, what).items()]
        lines += [f"{what}:" if rows else f"{what}: nothing", *table(("", ""), rows)[1:], ""]
    return [*lines, STATIC_NOTE, "", *_warnings(listing.warnings)]


def report(found: Inspection) -> list[str]:
    """Lay an inspection out in lines."""
    lines = []
    for role, (name, parameters) in found.models.items():
        trained = " trained" if role == "student" else ""
        if trained and found.size_ratio is not None:
            trained += f" ({found.size_ratio:.4g} %)"
        lines.append(f"{role}: {name}, {parameters:,} parameters{trained}")
    if found.teacher:
        lines.append(found.teacher)
    for stage in found.stages:
        epochs = f"{stage.epochs} epoch{'s'[: stage.epochs != 1]}"
        lines += ["", f"{stage.path}: {epochs}", *_stage(stage)]
    if found.peak_memory is not None:
        lines += ["", f"peak memory: {found.peak_memory / 2**20:,.0f} MiB"]
    lines += found.faster
    if found.suggestion:
        lines += ["", "no ACMLoss here; lines that would make it MixACM, under train:", ""]
        lines += [f"{'+' if new else ' '} {line}" for line, new in found.suggestion]
    return [*lines, "", *_warnings(found.warnings)]


def _warnings(warnings: Sequence[str]) -> list[str]:
    count = f"{len(warnings) or 'no'} warning{'s'[: len(warnings) != 1]}"
    return [count, *(f"- {warning}" for warning in warnings)]


def _stage(stage: Stage) -> Iterable[str]:
    if stage.pairs:
        heads = ("pair", "side", "module", "activation", "map", "transform")
        rows = [
            (
                f"{end.term}.{end.pair}",
                end.side,
                f"{end.path} ({end.io})",
                "×".join(map(str, end.shape)),
                str(end.channels),
                end.transform or "–",
            )
            for end in stage.pairs
        ]
        yield from table(heads, rows)
        yield ""
    terms = [(t.name, f"{t.value:.4g}", f"{t.gradient_norm:.4g}") for t in stage.terms]
    yield from table(("loss term", "value", "gradient norm"), terms)
    yield ""
    speed, seconds = stage.times.images_per_second, stage.seconds_per_epoch
    digits = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
    yield f"{digits} images/s at batch size {stage.batch_size}"
    shares = [f"{name} {100 * share:.0f}" for name, share in stage.times.shares().items()]
    yield f"of a step's time, in %: {', '.join(shares)}"
    if stage.operations is not None:
        yield f"{stage.operations / 1e9:,.3g} GFLOP an image in a step, forward and backward"
    yield from stage.hints
    if seconds is None:
        yield f"{duration(1000 / speed)} per 1,000 images; how many there are isn't known here"
    else:
        yield (
            f"{duration(seconds)} per epoch of {stage.images_per_epoch:,} images, "
            f"{duration(seconds * stage.epochs)} in all, without validation"
        )


def duration(seconds: float) -> str:
    """Return a time in words, to two digits or so."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
