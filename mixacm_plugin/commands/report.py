"""``mixacm report``."""

import argparse

from ..reporting.report import write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the study or the run, and where to write."""
    parser.description = (
        "Write a study, or a training run, as one HTML page that needs nothing else: figures, "
        "pictures, courses of training, recipes, and commands that give the figures again."
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="what mixacm study or quickstart wrote, or the folder of a student's dst_ckpt",
    )
    parser.add_argument("--out", metavar="FILE", help="default: report.html in that folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Write the page."""
    print("written:", write_report(args.folder, args.out))
