"""The commands ``torchdistill`` and ``mixacm``."""

import argparse
import io
import os
import sys
from collections.abc import Sequence

from . import __version__
from .commands import (
    check,
    evaluate,
    plot,
    quickstart,
    recipes,
    report,
    show,
    study,
    teachers,
    train,
)
from .plugins import load_plugins
from .recipe import RecipeError

COMMANDS = {
    "train": (train, "train the student of a recipe (the command torchdistill)"),
    "check": (check, "try a recipe for a step: what it does, how long it takes, what looks wrong"),
    "evaluate": (evaluate, "measure clean, PGD or AutoAttack accuracy"),
    "quickstart": (quickstart, "see robustness transfer, in minutes on a CPU"),
    "recipes": (recipes, "list or copy the shipped recipes"),
    "teachers": (teachers, "list published robust teachers"),
    "show": (show, "print a recipe with its overrides"),
    "study": (study, "run a study: rows of overrides, cached, to a table and pictures"),
    "report": (report, "write a study as one HTML page"),
    "plot": (plot, "draw channel maps, or the course of training"),
}


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):  # a pipe may not know ε
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    args = parser.parse_args(argv)
    try:
        load_plugins()
        return args.run(args) or 0
    except RecipeError as error:
        # Not print, which the host replaces in all processes but the first.
        sys.stderr.write(f"{parser.prog}: error: {error}\n")
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a folder that can't be written, a full disk
        sys.stderr.write(f"{parser.prog}: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def torchdistill_parser() -> argparse.ArgumentParser:
    """Build the arguments of the command ``torchdistill``."""
    parser = argparse.ArgumentParser(prog="torchdistill")
    train.add_arguments(parser)
    return parser


def mixacm_parser() -> argparse.ArgumentParser:
    """Build the arguments of the command ``mixacm``."""
    parser = argparse.ArgumentParser(
        prog="mixacm",
        description="Transfer adversarial robustness by knowledge distillation, on torchdistill.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (command, summary) in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=summary))
    return parser


def torchdistill(argv: Sequence[str] | None = None) -> int:
    """Run the command ``torchdistill``, the same as ``mixacm train``."""
    return _run(torchdistill_parser(), argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``mixacm``."""
    return _run(mixacm_parser(), argv)
