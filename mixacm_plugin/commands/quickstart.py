"""``mixacm quickstart``."""

import argparse
import logging
from pathlib import Path

from ..common.distributed import available_cpus, choose_device
from ..studies.launchers import Processes
from ..studies.runs import resolve
from .common import add_device, natural, set_up_log
from .study import open_study, run_study, write_study

logger = logging.getLogger("mixacm")

STUDY = "studies/quickstart"
NEXT = """\
next:
  mixacm report {out}  (all of this on one page)
  mixacm recipes copy quickstart/mixacm .  (a recipe to edit: mixacm.yaml)
  mixacm check mixacm.yaml  (what it does)
  torchdistill --config mixacm.yaml  (trains it)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where to write and the seeds."""
    parser.description = (
        "Train five students of a robust teacher on scikit-learn's digits, without a single "
        f"adversarial example, and compare their robustness: the shipped study {STUDY}, in one "
        "folder. Takes a few minutes on two CPU cores; what is finished is never repeated."
    )
    add_device(parser)
    parser.add_argument(
        "--out", default="runs/quickstart", metavar="DIR", help="default: runs/quickstart"
    )
    parser.add_argument(
        "--seeds",
        type=natural,
        nargs="+",
        default=[0],
        metavar="SEED",
        help="training seeds (default: 0)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the quickstart; 1 if a run failed."""
    set_up_log(None)
    device, out = choose_device(args.device), Path(args.out)
    study = open_study(STUDY, None, args.seeds)
    runs = resolve(study, out / "runs")
    jobs = min(available_cpus(), len(runs)) if device.type == "cpu" else 1
    errors = run_study(study, runs, Processes(jobs), args.device)
    write_study(study, runs, errors, out)
    logger.info(NEXT.format(out=out))
    return 1 if errors else 0
