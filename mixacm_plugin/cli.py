"""The commands ``torchdistill`` and ``mixacm``."""

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from . import __version__
from .common.errors import UserError
from .common.files import FULL
from .common.memory import keep_freed_memory
from .common.signals import Stopped, interrupt_again
from .reading.read import load_plugins

# A new command goes here, and into a module of its name in commands/.
COMMANDS = {
    "new": "write recipes, a study and a README for your own data and models",
    "train": "train the student of a recipe (the command torchdistill)",
    "check": "try a recipe for a step: what it does, how long it takes, what looks wrong",
    "evaluate": "measure clean, PGD or AutoAttack accuracy",
    "quickstart": "see robustness transfer, in minutes on a CPU",
    "recipes": "list or copy the shipped recipes",
    "teachers": "list published robust teachers",
    "hooks": "find a model's hook points, and the YAML that matches two models'",
    "parts": "list what a recipe can name, or show one part",
    "show": "print a recipe with its overrides",
    "study": "run a study: rows of overrides, cached, to a table and pictures",
    "tune": "choose values of a recipe's keys, by validation images",
    "report": "write a study, or a training run, as one HTML page",
    "plot": "draw channel maps, or the course of training",
}


def _run(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):  # a pipe may not know ε
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    args = parser.parse_args(argv)
    keep_freed_memory()
    try:
        load_plugins()
        interrupt_again()
        code = args.run(args) or 0
        sys.stdout.flush()  # or a full disk would be noticed after the end
        return code
    except Stopped as stopped:
        if str(stopped):
            sys.stderr.write(f"{parser.prog}: {stopped}\n")
        return stopped.code
    except UserError as error:
        # Not print, which the host replaces in all processes but the first.
        for line in error.lines():
            sys.stderr.write(f"{parser.prog}: error: {line}\n")
        return 2
    except BrokenPipeError:
        _drop_output()
    except OSError as error:  # a folder that can't be written, a full disk
        sys.stderr.write(f"{parser.prog}: error: {error}\n")
        if error.errno in FULL:
            _drop_output()
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _drop_output() -> None:
    """Let go what couldn't be written; Python would try it again, and complain, at its end."""
    with contextlib.suppress(io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command(name: str) -> ModuleType:
    return importlib.import_module(f".commands.{name}", __package__)


def torchdistill_parser() -> argparse.ArgumentParser:
    """Build the arguments of the command ``torchdistill``."""
    parser = argparse.ArgumentParser(prog="torchdistill")
    _command("train").add_arguments(parser)
    return parser


def mixacm_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Build the arguments of the command ``mixacm``.

    Args:
        argv: its arguments; only the subcommand that is first among them is imported.
    """
    parser = argparse.ArgumentParser(
        prog="mixacm",
        description="Transfer adversarial robustness by knowledge distillation, on torchdistill.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        subparser = commands.add_parser(name, help=summary)
        if argv and argv[0] == name:
            _command(name).add_arguments(subparser)
    return parser


def torchdistill(argv: Sequence[str] | None = None) -> int:
    """Run the command ``torchdistill``, the same as ``mixacm train``."""
    return _run(torchdistill_parser(), sys.argv[1:] if argv is None else argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``mixacm``."""
    argv = sys.argv[1:] if argv is None else argv
    return _run(mixacm_parser(argv), argv)
