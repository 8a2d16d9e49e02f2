"""``mixacm evaluate``."""

import argparse
import sys

from ..adversarial.threat_model import NORMS
from ..distributed import choose_device
from ..evaluation import (
    ATTACKS,
    Attack,
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
    parser.add_argument("--model", choices=("student", "teacher"), default="student")
    parser.add_argument("--ckpt", metavar="FILE", help="default: the recipe's dst_ckpt or src_ckpt")
    parser.add_argument("--attack", choices=ATTACKS, required=True)
    parser.add_argument("--norm", choices=NORMS, default="Linf")
    parser.add_argument("--eps", type=number, default="8/255", help="radius in pixels of [0, 1]")
    parser.add_argument("--steps", type=positive, default=20, help="of PGD (default: 20)")
    parser.add_argument("--step-size", type=number, default="2/255", help="of PGD (default: 2/255)")
    parser.add_argument("--restarts", type=positive, default=1, help="of PGD (default: 1)")
    parser.add_argument("--n", type=positive, help="number of test images (default: all)")
    parser.add_argument("--batch-size", type=positive, default=250)
    parser.add_argument("--seed", type=natural, default=0, help="of the images' choice and attack")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate and print the table."""
    set_up_log(None)
    device = choose_device(args.device)
    recipe = read_recipe(args.config, args.overrides)
    model = load_model(recipe, args.model, args.ckpt)
    attack = Attack(args.attack, args.norm, args.eps, args.steps, args.step_size, args.restarts)
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
