"""``mixacm evaluate``."""

import argparse
import sys

from ..adversarial.threat_model import NORMS
from ..attacks import SETTINGS, Attack
from ..distributed import choose_device
from ..evaluation import (
    evaluate,
    evaluation_dataset,
    load_model,
    markdown_table,
    write_accuracies,
)
from ..recipe import RecipeError, read_recipe
from .common import add_device, add_recipe, natural, number, positive, set_up_log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the attack and its threat model."""
    parser.description = "Measure a model's clean or robust accuracy on a recipe's test images."
    add_recipe(parser)
    add_device(parser)
    parser.add_argument(
        "--model",
        choices=("student", "teacher"),
        default="student",
        help="which of the recipe's (default: student)",
    )
    parser.add_argument("--ckpt", metavar="FILE", help="default: the recipe's dst_ckpt or src_ckpt")
    parser.add_argument("--attack", choices=tuple(SETTINGS), required=True)
    parser.add_argument("--norm", choices=NORMS, default="Linf", help="default: Linf")
    parser.add_argument(
        "--eps", type=number, default="8/255", help="radius in pixels of [0, 1] (default: 8/255)"
    )
    parser.add_argument("--steps", type=positive, default=20, help="of PGD (default: 20)")
    parser.add_argument("--step-size", type=number, help="of PGD (default: a quarter of ε)")
    parser.add_argument("--restarts", type=positive, default=1, help="of PGD (default: 1)")
    parser.add_argument("--n", type=positive, help="number of test images (default: all)")
    parser.add_argument(
        "--batch-size", type=positive, default=250, help="images attacked at once (default: 250)"
    )
    parser.add_argument(
        "--seed", type=natural, default=0, help="of the images' choice and attack (default: 0)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate and print the table."""
    set_up_log(None)
    device = choose_device(args.device)
    recipe = read_recipe(args.config, args.overrides)
    model = load_model(recipe, args.model, args.ckpt)
    try:
        attack = Attack(args.attack, args.norm, args.eps, args.steps, args.step_size, args.restarts)
    except ValueError as error:
        raise RecipeError("", "--eps", str(error)) from error
    try:
        accuracy = evaluate(
            model,
            evaluation_dataset(recipe),
            attack,
            n=args.n,
            seed=args.seed,
            batch_size=args.batch_size,
            device=device,
            progress=sys.stderr.isatty(),
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise recipe.error("--n" if "n must" in str(error) else "test", str(error)) from error
    rows = [(args.model, accuracy)]
    print(markdown_table(rows))
    if args.json:
        try:
            write_accuracies(args.json, rows)
        except OSError as error:
            raise RecipeError("", "--json", str(error)) from error
