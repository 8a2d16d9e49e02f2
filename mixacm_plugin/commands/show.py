"""``mixacm show``."""

import argparse

from ..reading.read import parse_recipe
from .common import add_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the recipe."""
    parser.description = (
        "Print a recipe with its overrides; the output is itself a recipe. Nothing is imported."
    )
    add_recipe(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the recipe."""
    print(parse_recipe(args.config, args.overrides).text(), end="")
