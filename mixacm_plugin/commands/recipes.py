"""``mixacm recipes``."""

import argparse

from ..library import copy_recipe, override_names, recipe_names, recipe_title, study_names
from ..recipe import RecipeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = (
        "List the shipped recipes, override files (for --set) and studies (for mixacm study), "
        "or copy one to edit it."
    )
    commands = parser.add_subparsers(dest="what", metavar="")
    commands.add_parser("list", help="list them (the default)")
    copy = commands.add_parser("copy", help="copy one into a folder")
    copy.add_argument("name", metavar="NAME")
    copy.add_argument("folder", metavar="DIR")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """List or copy."""
    if args.what == "copy":
        try:
            print(copy_recipe(args.name, args.folder))
        except OSError as error:
            raise RecipeError("", "mixacm recipes copy", str(error)) from error
        return
    names = [*recipe_names(), *override_names(), *study_names()]
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {recipe_title(name)}")
