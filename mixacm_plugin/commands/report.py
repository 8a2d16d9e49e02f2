"""``mixacm report``."""

import argparse

from ..reporting.report import write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the study and where to write."""
    parser.description = (
        "Write a study's results as one HTML page with its tables, pictures, settings and commands."
    )
    parser.add_argument("study", metavar="STUDY_DIR", help="folder that mixacm study wrote")
    parser.add_argument("--out", metavar="FILE", help="default: report.html in that folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Write the page."""
    print("written:", write_report(args.study, args.out))
