"""``mixacm evaluate``."""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import yaml
from torch import nn
from torch.utils.data import Dataset
from torchdistill.common.main_util import is_main_process

from ..common.checkpoints import file_of
from ..common.distributed import choose_device, init_process_group, leave_process_group
from ..common.errors import UserError
from ..common.files import RECIPES, not_written, sha256_of, try_writing, write_json
from ..common.images import drawn
from ..common.packages import installed_versions
from ..evaluation.accuracy import evaluate
from ..evaluation.attacks import ATTACKS, PGD, Attack, attack_of
from ..evaluation.disagreement import disagreement
from ..evaluation.logits import UnsuitedModelError
from ..evaluation.sanity import IMAGES, sanity
from ..loading.datasets import evaluation_dataset
from ..loading.models import checkpoint_of, load_model
from ..parts.computed import Computed
from ..reading.nodes import walk
from ..reading.read import read_recipe
from ..reading.recipe import Recipe
from ..reading.sections import get, model_sections
from ..reporting.accuracies import disagreement_table, markdown_table, write_accuracies
from .common import add_device, add_recipe, argument_type, natural, positive, precision, set_up_log

DISAGREEMENT = "disagreement"  # between student and teacher, sought by PGD


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
    _add_attack(parser)
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
        "--state",
        metavar="FILE",
        help="keep what is found in this file, and go on from it where it is there",
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


def _add_attack(parser: argparse.ArgumentParser) -> None:
    """Add the attack, and a flag for each setting that one of them has."""
    parser.add_argument(
        "--attack",
        choices=(*ATTACKS, DISAGREEMENT),
        required=True,
        help="clean is none; disagreement takes the settings of pgd, and measures how far the "
        "student's answers can be driven from the teacher's",
    )
    for name, (setting, attacks) in _settings().items():
        default = "" if setting.default is None else f", default: {setting.default}"
        parser.add_argument(
            _flag(name),
            type=argument_type(setting.metadata["read"]),
            help=f"{setting.metadata['help']} (of {', '.join(attacks)}{default})",
        )


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
    """Evaluate and print the table; under torchrun processes share the images."""
    device = init_process_group(choose_device(args.device), "env://")
    set_up_log(None)
    attack = _attack(args)
    if args.sanity and attack.threat is None:
        raise UserError(f"--sanity: needs an attack with a threat model; {args.attack} has none")
    recipe = read_recipe(args.config, args.overrides)
    model = _model(recipe, args, args.model, args.ckpt)
    _check_outputs(recipe, args)
    dataset = evaluation_dataset(recipe)
    try:
        drawn(dataset, args.n, args.seed)
    except ValueError as error:
        raise UserError(f"--n: {error}") from error
    if args.attack == DISAGREEMENT and isinstance(attack, PGD):
        _disagreement(args, recipe, model, dataset, attack, device)
    else:
        _accuracy(args, recipe, model, dataset, attack, device)
    leave_process_group()


def _attack(args: argparse.Namespace) -> Attack:
    given = {name: getattr(args, name) for name in _settings() if getattr(args, name) is not None}
    name = PGD.name if args.attack == DISAGREEMENT else args.attack
    if args.attack == DISAGREEMENT:
        if args.model == "teacher":
            raise UserError(f"--model: {DISAGREEMENT} is between student and teacher")
        if args.state or args.sanity or dist.is_initialized():
            raise UserError(
                f"--attack {DISAGREEMENT}: has no --state and no --sanity, and runs in one process"
            )
    try:
        return attack_of({"name": name, **given})
    except ValueError as error:
        raise UserError(f"--attack {args.attack}: {error}") from error


def _model(
    recipe: Recipe, args: argparse.Namespace, role: str, checkpoint: str | None = None
) -> nn.Module:
    model = load_model(recipe, role, checkpoint, "--ckpt")
    return model if args.precision == "fp32" else Computed(model, args.precision)


def _measured(recipe: Recipe, args: argparse.Namespace, *roles: str) -> dict[str, Any]:
    """Return what a reader of the figures needs to know of what they are of."""
    found = {"recipe": args.config, "overrides": args.overrides, "precision": args.precision}
    config = {"models": recipe.build("models")}
    for role in roles:
        given = args.ckpt if role == args.model else None
        source = given or checkpoint_of(recipe, config, role)[1]
        prefix = "" if role == args.model else f"{role}_"
        found[f"{prefix}checkpoint"] = source and _without_place(source)
        found[f"{prefix}checkpoint_sha256"] = source and sha256_of(file_of(source))
    return {**found, "packages": installed_versions()}


def _without_place(name: str) -> str:
    """Name a shipped file by what it is called in a recipe, not by where it is installed."""
    path = Path(name)
    return path.relative_to(RECIPES).as_posix() if path.is_relative_to(RECIPES) else name


def _named(args: argparse.Namespace) -> str:
    return args.model if args.precision == "fp32" else f"{args.model} in {args.precision}"


def _accuracy(
    args: argparse.Namespace,
    recipe: Recipe,
    model: nn.Module,
    dataset: Dataset[Any],
    attack: Attack,
    device: torch.device,
) -> None:
    written = args.json and is_main_process()
    measured = _measured(recipe, args, args.model) if written else {}
    with _errors(recipe, args):
        accuracy = evaluate(
            model,
            dataset,
            attack,
            n=args.n,
            seed=args.seed,
            batch_size=args.batch_size,
            device=device,
            progress=is_main_process(),
            state=args.state,
            distributed=True,
        )
    rows = [(_named(args), accuracy)]
    print(markdown_table(rows))
    lines = sanity(model, dataset, attack, seed=args.seed, device=device) if args.sanity else []
    if lines:
        print("", *lines, sep="\n")
    if written:
        write_accuracies(args.json, rows, lines, measured)


def _disagreement(
    args: argparse.Namespace,
    recipe: Recipe,
    model: nn.Module,
    dataset: Dataset[Any],
    attack: PGD,
    device: torch.device,
) -> None:
    teacher = _model(recipe, args, "teacher")
    measured = _measured(recipe, args, "student", "teacher") if args.json else {}
    with _errors(recipe, args):
        found = disagreement(
            model,
            teacher,
            dataset,
            attack,
            n=args.n,
            seed=args.seed,
            batch_size=args.batch_size,
            device=device,
            progress=True,
        )
    print(disagreement_table(_named(args), found))
    for line in found.warnings:
        print(f"\nwarning: {line}")
    if args.json:
        told = {"model": _named(args), **measured, **found.to_json()}
        write_json(args.json, [told])


@contextmanager
def _errors(recipe: Recipe, args: argparse.Namespace) -> Iterator[None]:
    try:
        yield
    except (UnsuitedModelError, TypeError) as error:
        raise recipe.error(f"--model {args.model}", str(error)) from error
    except (ValueError, RuntimeError) as error:
        raise recipe.error("test", str(error)) from error


def _check_outputs(recipe: Recipe, args: argparse.Namespace) -> None:
    """Raise ``UserError`` if a file can't be written, or would be written over another one."""
    read = {"--config": recipe.path, "--ckpt": args.ckpt}
    read |= {f"--set {file}": file for file in args.overrides if "=" not in file}
    read |= {where: n.value for where, n in walk(recipe.root) if isinstance(n, yaml.ScalarNode)}
    built = {"models": recipe.build("models")}
    sources = [f"{path}.src_ckpt" for path in model_sections(built).values()]
    read |= {where: get(built, where) for where in sources}  # also of a shipped file, by a tag
    read["--json"] = args.json
    for flag, name in (("--state", args.state), ("--json", args.json)):
        if name is None:
            continue
        path = Path(name).expanduser()
        others = {where: str(file) for where, file in read.items() if file and where != flag}
        try:
            if path.exists() and not path.is_file():
                raise UserError(f"{flag}: {name} is no plain file; name a file")
            reader = next((where for where, file in others.items() if _same(path, file)), None)
            if reader is not None:
                raise UserError(f"{flag}: {name} is what {reader} names; name another file")
            if flag == "--json" and path.exists():
                _check_figures(json.loads(path.read_text(encoding="utf-8")))
            try_writing(path)
        except ValueError as error:
            message = f"{name} is there and holds no figures of this command; name another file"
            raise UserError(f"{flag}: {message}") from error
        except OSError as error:
            raise UserError(f"{flag}: {not_written(name, error)}") from error


def _check_figures(found: Any) -> None:
    """Raise ``ValueError`` unless what a JSON file holds may be replaced."""
    if not (isinstance(found, list) and all(isinstance(a, dict) and "attack" in a for a in found)):
        raise ValueError


def _same(path: Path, name: str) -> bool:
    """Whether a text names the file at a path, also by a link."""
    return "\0" not in name and os.path.realpath(os.path.expanduser(name)) == os.path.realpath(path)
