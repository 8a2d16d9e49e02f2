"""The commands ``torchdistill`` and ``mixacm``."""

import argparse
import importlib.metadata
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch.backends import cudnn
from torchdistill.common.constant import LOGGING_FORMAT
from torchdistill.common.main_util import is_main_process
from torchdistill.datasets.util import build_data_loader

from . import __version__, checks
from .distributed import choose_device, init_process_group
from .evaluation import (
    ATTACKS,
    Attack,
    evaluate,
    evaluation_dataset,
    load_model,
    markdown_table,
    write_json,
)
from .library import copy_recipe, recipe_names, recipe_title
from .quickstart import quickstart
from .recipe import Recipe, RecipeError, read_recipe
from .threat_model import NORMS, parse_number
from .training import Training, clean_accuracy

logger = logging.getLogger("mixacm")

TRAIN_EPILOG = """\
A recipe is a torchdistill YAML config. Relative paths in it are relative to the working folder.
The last checkpoint goes to the student's dst_ckpt, the best beside it as best_..., and
metrics.jsonl, one line an epoch, too.

examples:
  mixacm recipes copy quickstart/mixacm .
  torchdistill --config mixacm.yaml --seed 0
  torchdistill --config mixacm.yaml --set train.num_epochs=2 --run_log train.log
  torchrun --nproc_per_node 4 -m mixacm_plugin train --config mixacm.yaml
"""


def load_plugins() -> None:
    """Import every installed package under the entry-point group ``torchdistill.plugins``."""
    for plugin in importlib.metadata.entry_points(group="torchdistill.plugins"):
        plugin.load()


def _number(text: str) -> str:
    try:
        parse_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; found {text!r}")
    return int(text)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="RECIPE", help="recipe, a YAML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        dest="overrides",
        help="override a value of the recipe; may be repeated",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: CUDA if there is one)")


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Train the student of a recipe, then test it on unattacked images."
    parser.epilog = TRAIN_EPILOG
    _add_recipe(parser)
    _add_device(parser)
    parser.add_argument(
        "--run_log", metavar="FILE", help="also log to this file, with the host's lines"
    )
    parser.add_argument(
        "--start_epoch", type=int, default=0, metavar="N", help="first epoch's number"
    )
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint of this recipe")
    parser.add_argument(
        "--seed", type=int, help="seed of all random generators; makes a run on a CPU repeatable"
    )
    parser.add_argument("-test_only", action="store_true", help="don't train, only test dst_ckpt")
    parser.add_argument("-student_only", action="store_true", help="don't test the teacher")
    parser.add_argument(
        "-log_config", action="store_true", help="log the recipe with its overrides"
    )
    parser.add_argument("--world_size", type=int, default=1, help="processes (torchrun sets this)")
    parser.add_argument("--dist_url", default="env://", help="how the processes find each other")
    parser.add_argument(
        "-adjust_lr", action="store_true", help="multiply the learning rate by the processes"
    )
    parser.add_argument(
        "-disable_cudnn_benchmark", action="store_true", help="don't let cuDNN time its algorithms"
    )
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> None:
    device = init_process_group(choose_device(args.device), args.world_size, args.dist_url)
    _set_up_log(args.run_log)
    cudnn.benchmark = not args.disable_cudnn_benchmark
    recipe = read_recipe(args.config, args.overrides)
    if args.log_config:
        logger.info("%s\n%s", recipe.path, recipe.text())
    if not args.test_only:
        training = Training(recipe, device, args.seed, args.start_epoch, args.adjust_lr)
        if args.resume:
            training.resume(args.resume)
        training.run()
        logger.info("last checkpoint: %s", training.last_ckpt)
    _test(recipe, device, student_only=args.student_only)
    if dist.is_initialized():
        dist.destroy_process_group()


def _test(recipe: Recipe, device: torch.device, *, student_only: bool) -> None:
    dataset, loader_config = evaluation_dataset(recipe), recipe.build("test", "test_data_loader")
    config = {
        "models": recipe.build("models"),
        "test": {"test_data_loader": loader_config},
        "datasets": {loader_config["dataset_id"]: dataset},
    }
    checks.check_loader(recipe, config, "test.test_data_loader")
    loader = build_data_loader(dataset, loader_config, distributed=False)
    for role, path in checks.model_sections(config).items():
        if role == "teacher" and student_only:
            continue
        model = load_model(recipe, role).to(device)
        accuracy = clean_accuracy(model, loader, device)
        name, n = path.removeprefix("models."), len(loader.dataset)
        logger.info("%s: %.2f %% of %d test images", name, 100 * accuracy, n)


def _set_up_log(run_log: str | None) -> None:
    """Our lines on the terminal; in the log file the host's as well."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.handlers.clear()
    terminal = logging.StreamHandler(sys.stdout)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    terminal.addFilter(lambda r: r.name == "mixacm" or r.levelno >= logging.WARNING)
    root.addHandler(terminal)
    if run_log is not None and is_main_process():
        path = Path(run_log).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, mode="w")
        file.setFormatter(logging.Formatter(LOGGING_FORMAT))
        root.addHandler(file)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.description = "Measure a model's clean or robust accuracy on a recipe's test images."
    _add_recipe(parser)
    _add_device(parser)
    parser.add_argument("--model", choices=("student", "teacher"), default="student")
    parser.add_argument("--ckpt", metavar="FILE", help="default: the recipe's dst_ckpt or src_ckpt")
    parser.add_argument("--attack", choices=ATTACKS, required=True)
    parser.add_argument("--norm", choices=NORMS, default="Linf")
    parser.add_argument("--eps", type=_number, default="8/255", help="radius in pixels of [0, 1]")
    parser.add_argument("--steps", type=_positive, default=20, help="of PGD (default: 20)")
    parser.add_argument(
        "--step-size", type=_number, default="2/255", help="of PGD (default: 2/255)"
    )
    parser.add_argument("--restarts", type=_positive, default=1, help="of PGD (default: 1)")
    parser.add_argument("--n", type=_positive, help="number of test images (default: all)")
    parser.add_argument("--batch-size", type=_positive, default=250)
    parser.add_argument("--seed", type=int, default=0, help="of the images' choice and the attack")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    parser.set_defaults(run=_evaluate)


def _evaluate(args: argparse.Namespace) -> None:
    _set_up_log(None)
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
    except ValueError as error:
        raise recipe.error("test", str(error)) from error
    rows = [(args.model, accuracy)]
    print(markdown_table(rows))
    if args.json:
        write_json(args.json, rows)


def _add_recipes(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the shipped recipes, or copy one to edit it."
    commands = parser.add_subparsers(dest="what", metavar="")
    commands.add_parser("list", help="list them (the default)")
    copy = commands.add_parser("copy", help="copy one into a folder")
    copy.add_argument("name", metavar="NAME")
    copy.add_argument("folder", metavar="DIR")
    parser.set_defaults(run=_recipes)


def _recipes(args: argparse.Namespace) -> None:
    if args.what == "copy":
        try:
            print(copy_recipe(args.name, args.folder))
        except OSError as error:
            raise RecipeError("", "mixacm recipes copy", str(error)) from error
        return
    names = recipe_names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {recipe_title(name)}")


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print a recipe with its overrides; the output is itself a recipe."
    _add_recipe(parser)
    parser.set_defaults(
        run=lambda args: print(read_recipe(args.config, args.overrides).text(), end="")
    )


def _add_quickstart(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train four students of a robust teacher on scikit-learn's digits, without a single "
        "adversarial example, and compare their robustness. Takes a few minutes on two CPU cores."
    )
    _add_device(parser)
    parser.add_argument("--out", default="runs/quickstart", metavar="DIR", help="where to write")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="SEED")
    parser.set_defaults(run=_quickstart)


def _quickstart(args: argparse.Namespace) -> None:
    _set_up_log(None)
    quickstart(Path(args.out), seeds=args.seeds, device=choose_device(args.device))


COMMANDS = {
    "train": (_add_train, "train the student of a recipe (the command torchdistill)"),
    "evaluate": (_add_evaluate, "measure clean, PGD or AutoAttack accuracy"),
    "quickstart": (_add_quickstart, "see robustness transfer, in minutes on a CPU"),
    "recipes": (_add_recipes, "list or copy the shipped recipes"),
    "show": (_add_show, "print a recipe with its overrides"),
}


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    args = parser.parse_args(argv)
    try:
        load_plugins()
        args.run(args)
    except RecipeError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


def torchdistill(argv: Sequence[str] | None = None) -> int:
    """Run the command ``torchdistill``, the same as ``mixacm train``."""
    parser = argparse.ArgumentParser(prog="torchdistill")
    _add_train(parser)
    return _run(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``mixacm``."""
    parser = argparse.ArgumentParser(
        prog="mixacm",
        description="Transfer adversarial robustness by knowledge distillation, on torchdistill.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (add, summary) in COMMANDS.items():
        add(commands.add_parser(name, help=summary))
    return _run(parser, argv)
