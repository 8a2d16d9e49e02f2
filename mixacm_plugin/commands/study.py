"""``mixacm study``."""

import argparse
import ast
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..common.distributed import choose_device
from ..common.errors import UserError
from ..reporting.markup import write_tables
from ..reporting.plots.study import draw_all, read_plots
from ..studies.costs import relative_costs
from ..studies.launchers import Cluster, Launcher, Processes
from ..studies.progress import shown
from ..studies.results import write_results
from ..studies.runner import collect, run_all
from ..studies.runs import Run, resolve
from ..studies.study import Study, read_study, rows_like
from ..studies.tasks import check_numbers_of_images, is_done
from ..training.tracking import check_tracker
from .common import (
    add_blocks,
    add_device,
    add_overrides,
    add_track,
    check_seeds,
    natural,
    positive,
    set_up_log,
)

logger = logging.getLogger("mixacm")

# Parameters of submitit by which tasks multiply: names of one, its last is also of all clusters.
TASKS = (("nodes",), ("ntasks_per_node", "tasks_per_node"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the study and how to run it."""
    parser.description = (
        "Run every row and seed of a study, measure it, and write tables, pictures and "
        "results.json. What is finished is never repeated: stop and start again as you like."
    )
    parser.add_argument("study", metavar="FILE", help="a YAML file, or the name of a shipped study")
    parser.add_argument("--scale", help="one of the study's scales, e.g. digits")
    parser.add_argument(
        "--seeds",
        type=natural,
        nargs="+",
        metavar="SEED",
        help="training seeds, instead of the study's own",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=["*"],
        metavar="ROW",
        help="run only these, named or by patterns such as 'KD*'; tables keep what is cached of "
        "the others",
    )
    add_overrides(parser, "override a value in all rows that have it; may be repeated")
    add_blocks(parser)
    parser.add_argument("--out", metavar="DIR", help="default: runs/studies/NAME[-SCALE]")
    add_running(parser)
    parser.add_argument(
        "--list", action="store_true", help="print what would run and what is cached"
    )
    add_track(parser)
    parser.set_defaults(run=run)


def add_running(parser: argparse.ArgumentParser) -> None:
    """Add where runs are cached, and how they are run."""
    parser.add_argument(
        "--cache",
        default="runs/studies/cache",
        metavar="DIR",
        help="folder of all runs (default: runs/studies/cache)",
    )
    parser.add_argument(
        "--jobs", type=positive, help="runs at a time (default: 1, of a Slurm cluster all)"
    )
    parser.add_argument(
        "--launcher",
        choices=("processes", "slurm", "submitit-local"),
        default="processes",
        help="processes on this machine (default), or jobs through submitit",
    )
    parser.add_argument(
        "--cluster",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="parameter of submitit's executor, e.g. slurm_partition=gpu; may be repeated",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Run a study, or list its runs; 1 if a run failed."""
    set_up_log(None)
    study = open_study(args.study, args.scale, args.seeds)
    rows = rows_like(study, args.rows)
    runs = resolve(study, Path(args.cache), args.overrides, tasks_of(args))
    wanted = [each for each in runs if each.row in rows]
    check_numbers_of_images(study, wanted)
    if args.list:
        states = ["cached" if is_done(each, study) else "to run" for each in wanted]
        for state, each in zip(states, wanted, strict=True):
            print(f"{state}  {each.key}  {each.label}")
        print(f"{len(wanted)} runs, {states.count('cached')} cached")
        return 0
    out = Path(args.out or f"runs/studies/{'-'.join(filter(None, (study.name, study.scale)))}")
    if args.track:
        check_tracker(args.track)
    launcher = launcher_of(args, out, len(wanted))
    errors = run_study(study, wanted, launcher, args.device, track=args.track)
    costs = {}
    if args.launcher == "processes":  # a cluster's machines may be unlike this one
        costs = relative_costs(study, runs, choose_device(args.device))
    write_study(study, runs, errors, out, costs)
    return 1 if errors else 0


def open_study(path: str, scale: str | None, seeds: Sequence[int] | None) -> Study:
    """Read a study, check what it asks to draw, and give it other seeds where some are given."""
    study = read_study(path, scale)
    read_plots(study.plots, [row.name for row in study.rows], study.path)
    if not seeds:
        return study
    check_seeds(seeds)
    return replace(study, seeds=list(seeds))


def run_study(
    study: Study,
    runs: Sequence[Run],
    launcher: Launcher,
    device: str | None,
    *,
    track: str | None = None,
) -> dict[str, str]:
    """Run what isn't done, and show what they are at; return the failed runs' errors by key."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs are ended too
    with shown(study, launcher.jobs) as show:
        return run_all(
            study, runs, launcher, device=device, track=track, report=logger.info, watch=show
        )


def write_study(
    study: Study,
    runs: Sequence[Run],
    errors: dict[str, str],
    out: Path,
    costs: dict[str, float] | None = None,
) -> None:
    """Write results, tables and pictures into a study's folder, and show the table."""
    results = collect(study, runs, errors, costs)
    out.mkdir(parents=True, exist_ok=True)
    write_results(results, out)
    write_tables(results, out)
    draw_all(results, out)
    logger.info("\n%s\nwritten to %s", (out / "table.md").read_text(encoding="utf-8"), out)


def launcher_of(args: argparse.Namespace, out: Path, runs: int) -> Launcher:
    """Return the launcher that a command asks for.

    Args:
        args: of ``add_running``.
        out: folder for a cluster's files.
        runs: how many there are.
    """
    if args.launcher == "processes":
        return Processes(args.jobs or 1)
    cluster = args.launcher.removeprefix("submitit-")
    jobs = args.jobs or (runs if cluster == "slurm" else 1)
    return Cluster(out / "submitit", cluster, _parameters(args), jobs)


def tasks_of(args: argparse.Namespace) -> int:
    """Return how many tasks share a run, by the parameters of ``--cluster``.

    As submitit reads them: one of the cluster's own wins over that of all clusters, and those of
    other clusters have no effect.
    """
    given = _parameters(args)
    cluster = args.launcher.removeprefix("submitit-")
    found = 1
    for names in TASKS:
        own = [f"{cluster}_{name}" for name in names]
        values = [given[name] for name in (*own, names[-1]) if name in given]
        found *= values[0] if values and isinstance(values[0], int) else 1
    return found


def _parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters of ``--cluster``.

    Raises:
        UserError: if one is no parameter, or there is no cluster for them.
    """
    if args.cluster and args.launcher == "processes":
        reason = "runs would be processes on this machine; add --launcher slurm"
        raise UserError(f"--cluster {args.cluster[0]}: {reason}")
    return dict(map(_parameter, args.cluster))


def _parameter(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise UserError(f"--cluster {text}: expected NAME=VALUE")
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError):  # a text, such as a partition's name
        return name, value
    # Others, such as 1,2 of a list of nodes, are texts, too.
    return name, read if isinstance(read, bool | int | float | list | dict) else value
