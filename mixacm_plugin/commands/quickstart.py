"""``mixacm quickstart``."""

import argparse
from pathlib import Path

from ..distributed import choose_device
from ..quickstart import quickstart
from .common import add_device, check_seeds, natural, set_up_log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where to write and the seeds."""
    parser.description = (
        "Train four students of a robust teacher on scikit-learn's digits, without a single "
        "adversarial example, and compare their robustness. Takes a few minutes on two CPU cores."
    )
    add_device(parser)
    parser.add_argument("--out", default="runs/quickstart", metavar="DIR", help="where to write")
    parser.add_argument("--seeds", type=natural, nargs="+", default=[0], metavar="SEED")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the quickstart."""
    set_up_log(None)
    check_seeds(args.seeds)
    quickstart(Path(args.out), seeds=args.seeds, device=choose_device(args.device))
