"""``mixacm tune``."""

import argparse
import functools
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import yaml

from ..common.distributed import choose_device
from ..common.errors import UserError
from ..common.files import replacing, write_json
from ..reading import sections
from ..reading.nodes import plain
from ..reading.read import read_recipe
from ..studies.changes import recipe_arguments
from ..studies.runs import resolve
from ..studies.study import Study
from ..studies.tuning import (
    CLEAN,
    Candidate,
    accuracy_at,
    check_candidates,
    judged_by,
    read_candidates,
    rung_epochs,
    short_names,
    tune,
    values_over,
)
from .common import (
    RECIPE,
    add_blocks,
    add_overrides,
    check_seeds,
    natural,
    positive,
    set_up_log,
    table,
)
from .study import add_running, launcher_of, run_study, tasks_of

logger = logging.getLogger("mixacm")

EPILOG = """\
examples:
  mixacm tune quickstart/mixacm --over train.optimizer.kwargs.lr=0.1,0.2
  mixacm tune mixacm.yaml --over train.criterion.kwargs.sub_terms.acm.weight=20,50,200,500 \\
                          --over train.optimizer.kwargs.lr=0.05,0.1 --seeds 0 1 --jobs 2
  torchdistill --config mixacm.yaml --set runs/tune/mixacm/tuned.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the recipe, what to try, and how to run it."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Choose values of a recipe's keys by its validation images: all combinations are trained\n"
        "for some epochs of their schedule, the better ones further, the best to the end. Test\n"
        "images aren't looked at. What is trained is never repeated: stop and start as you like."
    )
    parser.epilog = EPILOG
    parser.add_argument("recipe", metavar="RECIPE", help=RECIPE)
    parser.add_argument(
        "--over",
        action="append",
        required=True,
        metavar="KEY.PATH=VALUE,...",
        help="values to try of a key; may be repeated for all combinations",
    )
    add_overrides(parser, "override a value of all candidates; may be repeated")
    add_blocks(parser)
    parser.add_argument(
        "--seeds",
        type=natural,
        nargs="+",
        default=[0],
        metavar="SEED",
        help="training seeds; their mean counts (default: 0)",
    )
    parser.add_argument(
        "--factor",
        type=positive,
        default=3,
        metavar="N",
        help="one in so many goes on from a rung, rounded up (default: 3)",
    )
    parser.add_argument(
        "--rungs",
        type=positive,
        nargs="+",
        metavar="EPOCH",
        help="after how many epochs to compare, besides the end (default: by --factor)",
    )
    parser.add_argument(
        "--by",
        choices=("last", "best"),
        default="last",
        help="the validation accuracy that counts: of the last epoch (default) or the best so far",
    )
    parser.add_argument("--out", metavar="DIR", help="default: runs/tune/RECIPE")
    add_running(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tune; 1 if all candidates failed."""
    set_up_log(None)
    check_seeds(args.seeds)
    over: dict[str, list] = {}
    for path, values in map(values_over, args.over):
        if path in over:
            raise UserError(f"--over: {path} is given twice")
        over[path] = values
    candidates = read_candidates(args.recipe, args.overrides, over)
    recipe = read_recipe(args.recipe, args.overrides)
    judge, every = judged_by(recipe)
    rungs = _rungs(args, sections.stage_epochs(plain(recipe.root)), len(candidates), every)
    if judge == CLEAN:
        logger.warning(
            "judged by clean validation accuracy, which alone doesn't show robustness; "
            "for robust validation accuracy give --validate, or the recipe a block validate"
        )
    name = Path(args.recipe).stem
    study = Study(args.recipe, name, name, None, args.seeds, [], [c.row for c in candidates])
    runs = resolve(study, Path(args.cache), tasks=tasks_of(args))
    out = Path(args.out or f"runs/tune/{name}")
    launcher = launcher_of(args, out, len(runs))
    check_candidates(candidates, runs, choose_device(args.device))
    accuracy = functools.partial(accuracy_at, key=judge, best=args.by == "best")
    order = tune(
        study,
        candidates,
        runs,
        rungs,
        lambda at, wanted: run_study(at, wanted, launcher, args.device),
        factor=args.factor,
        accuracy=accuracy,
    )
    write_json(out / "tune.json", _results(args, judge, rungs, order))
    print("\n".join(["", *_table(judge, list(over), rungs, order)]))
    if order[0].error is not None:
        return 1
    _write_choice(args, judge, rungs, order[0], out / "tuned.yaml")
    return 0


def _rungs(
    args: argparse.Namespace, stages: Sequence[int], candidates: int, every: int
) -> list[int]:
    """Return epochs to compare after, which are put off to the next that is judged.

    Those that aren't given lie in the last stage: what differs may come with it alone, and stages
    before it often train no classifier.
    """
    epochs = sum(stages)
    if args.factor < 2:
        raise UserError(f"--factor: expected a whole number of at least 2; found {args.factor}")
    if args.rungs is None:
        before = epochs - stages[-1]
        rungs = [before + rung for rung in rung_epochs(stages[-1], candidates, args.factor)]
        return sorted({min(epochs, -(-rung // every) * every) for rung in rungs})
    late = [rung for rung in args.rungs if rung > epochs]
    if late:
        raise UserError(f"--rungs: {late[0]} is after the last of the recipe's {epochs} epochs")
    unjudged = [rung for rung in args.rungs if rung % every and rung < epochs]
    if unjudged:
        reason = f"has no robust validation: validate.every is {every}"
        raise UserError(f"--rungs: epoch {unjudged[0]} {reason}")
    return sorted({*args.rungs, epochs})


def _results(
    args: argparse.Namespace, judge: str, rungs: Sequence[int], order: Sequence[Candidate]
) -> dict:
    rows = [{"values": c.values, "accuracies": c.accuracies, "error": c.error} for c in order]
    given = {"recipe": args.recipe, "set": args.overrides, "seeds": args.seeds}
    return {**given, "judged_by": judge, "epoch": args.by, "rungs": rungs, "candidates": rows}


def _table(
    judge: str, over: Sequence[str], rungs: Sequence[int], order: Sequence[Candidate]
) -> list[str]:
    names = short_names(over)
    heads = [*names.values(), *(f"epoch {epoch}" for epoch in rungs)]
    rows = []
    for candidate in order:
        cells = [_percent(figures) for figures in candidate.accuracies]
        end = ["failed"] if candidate.error else []
        rows.append([*map(str, candidate.values.values()), *cells, *end])
    rows = [row + ["–"] * (len(heads) - len(row)) for row in rows]
    legend = [f"{name}: {path}" for path, name in names.items()]
    return [f"{judge} in %", *legend, "", *table(heads, rows)]


def _percent(figures: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(figures):.1f}" if len(figures) > 1 else ""
    return f"{100 * mean(figures):.1f}{spread}"


def _write_choice(
    args: argparse.Namespace,
    judge: str,
    rungs: Sequence[int],
    chosen: Candidate,
    file: Path,
) -> None:
    told = f"{chosen.row.name}: {judge} {_percent(chosen.accuracies[-1])} %"
    told += f" after {rungs[len(chosen.accuracies) - 1]} epochs"
    seeds = ", ".join(map(str, args.seeds))
    with replacing(file) as temporary:
        values = yaml.safe_dump(chosen.values, sort_keys=False)
        head = f"# Chosen by mixacm tune {args.recipe}, training seeds {seeds}: {told}\n"
        temporary.write_text(head + values, encoding="utf-8")
    print(f"\nchosen: {told}\nwritten to {file}; to train with it:")
    arguments = recipe_arguments(args.recipe, [*args.overrides, str(file)])
    print(shlex.join(["torchdistill", *arguments]))
