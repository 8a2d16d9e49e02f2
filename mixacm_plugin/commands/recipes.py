"""``mixacm recipes``."""

import argparse

from ..common.errors import UserError
from ..reading.library import copy_recipe, override_names, recipe_names, recipe_title, study_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = (
        "List the shipped recipes, override files (for --set) and studies (for mixacm study), "
        "or copy one to edit it."
    )
    commands = parser.add_subparsers(dest="what", metavar="{list,copy}")
    commands.add_parser("list", help="list them (the default)")
    copy = commands.add_parser("copy", help="copy one into a folder or to a file")
    copy.add_argument("name", metavar="NAME", help="as mixacm recipes lists it")
    copy.add_argument(
        "to", metavar="TO", help="a folder, made where it is missing, or a file NAME.yaml"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """List or copy."""
    if args.what == "copy":
        try:
            print(copy_recipe(args.name, args.to))
        except OSError as error:
            raise UserError(f"mixacm recipes copy: {error}") from error
        return
    kinds = {
        "Recipes, for torchdistill --config": recipe_names(),
        "Override files, for --set": override_names(),
        "Studies, for mixacm study": study_names(),
    }
    width = max(len(name) for names in kinds.values() for name in names)
    blocks = []
    for kind, names in kinds.items():
        lines = [f"  {name:{width}}  {recipe_title(name)}" for name in names]
        blocks.append("\n".join([f"{kind}:", *lines]))
    print("\n\n".join(blocks))
