"""``mixacm plot``."""

import argparse
from pathlib import Path

from ..common.distributed import choose_device
from ..evaluation.channel_map_comparison import compare, parse_source
from ..reading.read import read_recipe
from ..reporting.courses import read_courses
from ..reporting.plots.channel_maps import draw, markdown
from ..reporting.plots.style import save
from ..reporting.plots.training import draw_training, write_events
from .common import add_device, add_recipe, natural, positive

CHANNEL_MAPS = """\
A model is one of
  teacher, student         the recipe's own, with the checkpoint that the recipe names
  NAME=CHECKPOINT          weights for the recipe's student; for its teacher, if that is the name
  NAME=RECIPE              the student of another recipe (.yaml, or the name of a shipped one),
                           with that recipe's checkpoint
  NAME=RECIPE:ROLE[:CKPT]  its teacher or student, also with other weights

example:
  mixacm plot channel-maps --config mixacm.yaml --models scratch=scratch.yaml teacher student
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a subcommand for each kind of picture."""
    parser.description = "Draw channel maps of models, or the course of training runs."
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    _add_channel_maps(commands.add_parser("channel-maps", help="compare models' channel maps"))
    _add_training(commands.add_parser("training", help="losses, lr, accuracy of training runs"))


def _add_channel_maps(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Draw models' sorted mean channel maps (the paper's figure 4) and print how far each is "
        "from the teacher's.\nWrites channel_maps.png, .svg and .md."
    )
    parser.epilog = CHANNEL_MAPS
    add_recipe(parser)
    add_device(parser)
    parser.add_argument("--models", nargs="+", required=True, metavar="MODEL", help="see below")
    parser.add_argument(
        "--blocks",
        nargs="+",
        default=[],
        metavar="PATH:IO",
        help="hook points, such as relu:output (default: those of the recipe's ACMLoss)",
    )
    parser.add_argument("--n", type=positive, help="test images (default: 500, or all if fewer)")
    parser.add_argument("--seed", type=natural, default=0, help="of the images' choice")
    parser.add_argument("--out", default=".", metavar="DIR", help="where to write (default: here)")
    parser.set_defaults(run=run_channel_maps)


def run_channel_maps(args: argparse.Namespace) -> None:
    """Compare, print the distances and draw."""
    recipe = read_recipe(args.config, args.overrides)
    sources = {}
    for text in args.models:
        name, source = parse_source(text, recipe)
        if name in sources:
            raise recipe.error(f"--models {text}", f"{name} is given twice")
        sources[name] = source
    device = choose_device(args.device)
    comparison = compare(
        recipe, sources, blocks=args.blocks, n=args.n, seed=args.seed, device=device
    )
    table = markdown(comparison)
    print(table)
    files = save(draw(comparison, title=comparison.caption), Path(args.out) / "channel_maps")
    files.append(files[0].with_suffix(".md"))
    files[-1].write_text(table, encoding="utf-8")
    _say(files)


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Draw loss terms, learning rate and validation accuracies, also robust ones, of runs, a "
        "line each; those of a study's row alike. Writes training.png and training.svg."
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[NAME=]RUN",
        help="folder of a student's dst_ckpt, or metrics.jsonl; of a study, all of its runs",
    )
    parser.add_argument("--out", default=".", metavar="DIR", help="where to write (default: here)")
    parser.add_argument(
        "--tensorboard", metavar="DIR", help="also write TensorBoard event files to this folder"
    )
    parser.set_defaults(run=run_training)


def run_training(args: argparse.Namespace) -> None:
    """Read the runs and draw them."""
    courses = read_courses(args.runs)
    if args.tensorboard:
        write_events(courses, args.tensorboard)
    _say(save(draw_training(courses), Path(args.out) / "training"))


def _say(files: list[Path]) -> None:
    print("written:", ", ".join(map(str, files)))
