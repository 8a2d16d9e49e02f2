"""``mixacm evaluate``."""

import argparse
import json
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from ..common.distributed import choose_device
from ..common.errors import UserError
from ..common.images import drawn
from ..evaluation.accuracy import UnsuitedModelError, evaluate
from ..evaluation.attacks import ATTACKS, attack_of
from ..evaluation.sanity import IMAGES, sanity
from ..loading.datasets import evaluation_dataset
from ..loading.models import load_model
from ..parts.computed import Computed
from ..reading.read import read_recipe
from ..reporting.accuracies import markdown_table, write_accuracies
from .common import add_device, add_recipe, argument_type, natural, positive, precision, set_up_log


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
    parser.add_argument("--attack", choices=tuple(ATTACKS), required=True, help="clean is none")
    for name, (setting, attacks) in _settings().items():
        default = "" if setting.default is None else f", default: {setting.default}"
        parser.add_argument(
            _flag(name),
            type=argument_type(setting.metadata["read"]),
            help=f"{setting.metadata['help']} (of {', '.join(attacks)}{default})",
        )
    parser.add_argument("--n", type=positive, help="number of test images (default: all)")
    parser.add_argument(
        "--batch-size", type=positive, default=250, help="images attacked at once (default: 250)"
    )
    parser.add_argument(
        "--seed", type=natural, default=0, help="of the images' choice and attack (default: 0)"
    )
    parser.add_argument(
        "--sanity",
        action="store_true",
        help=f"also check on {IMAGES} images that attacks do their work on this model",
    )
    parser.add_argument(
        "--precision",
        type=precision,
        default="fp32",
        metavar="{fp32,bf16}",
        help="of the model's passes, attacked ones too (default: fp32, also of recipes with "
        "another for training); a table says bf16",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    parser.set_defaults(run=run)


def _settings() -> dict[str, tuple[Any, list[str]]]:
    """Every setting of an attack, with the attacks that have it."""
    found: dict[str, tuple[Any, list[str]]] = {}
    for name, attack in ATTACKS.items():
        for setting in fields(attack):
            found.setdefault(setting.name, (setting, []))[1].append(name)
    return found


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def run(args: argparse.Namespace) -> None:
    """Evaluate and print the table."""
    set_up_log(None)
    device = choose_device(args.device)
    given = {name: getattr(args, name) for name in _settings() if getattr(args, name) is not None}
    try:
        attack = attack_of({"name": args.attack, **given})
    except ValueError as error:
        raise UserError(f"--attack {args.attack}: {error}") from error
    if args.sanity and attack.threat is None:
        raise UserError(f"--sanity: needs an attack with a threat model; {args.attack} has none")
    _check_json(args.json)
    recipe = read_recipe(args.config, args.overrides)
    model: nn.Module = load_model(recipe, args.model, args.ckpt)
    name = args.model
    if args.precision != "fp32":
        model, name = Computed(model, args.precision), f"{args.model} in {args.precision}"
    dataset = evaluation_dataset(recipe)
    try:
        drawn(dataset, args.n, args.seed)
    except ValueError as error:
        raise UserError(f"--n: {error}") from error
    try:
        accuracy = evaluate(
            model,
            dataset,
            attack,
            n=args.n,
            seed=args.seed,
            batch_size=args.batch_size,
            device=device,
            progress=sys.stderr.isatty(),
        )
    except (UnsuitedModelError, TypeError) as error:
        raise recipe.error(f"--model {args.model}", str(error)) from error
    except (ValueError, RuntimeError) as error:
        raise recipe.error("test", str(error)) from error
    rows = [(name, accuracy)]
    print(markdown_table(rows))
    lines = sanity(model, dataset, attack, seed=args.seed, device=device) if args.sanity else []
    if lines:
        print("", *lines, sep="\n")
    if args.json:
        write_accuracies(args.json, rows, lines)


def _check_json(file: str | None) -> None:
    """Raise ``UserError`` if figures would be written over something else, such as a checkpoint."""
    if file is None or not os.path.exists(file):
        return
    try:
        json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--json: {file} is there and no JSON; name another file") from error
