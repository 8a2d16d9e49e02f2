"""``mixacm train``, also known as ``torchdistill``."""

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.backends import cudnn
from torchdistill.common.main_util import is_main_process
from tqdm import tqdm

from ..common.distributed import choose_device, init_process_group, leave_process_group
from ..common.errors import reason_of
from ..common.images import count, every_batch
from ..common.signals import noticed
from ..evaluation.logits import UnsuitedModelError, clean_accuracies
from ..loading.datasets import TEST, evaluation_dataset, test_loader
from ..loading.models import checkpoint_of, load_model
from ..reading import sections
from ..reading.checks import check_part, check_yaml
from ..reading.nodes import plain
from ..reading.read import read_recipe
from ..reading.recipe import Recipe
from ..training.folder import AUTO, checkpoint_to_resume, held
from ..training.loop import Training
from ..training.run_files import best_of, check_files, ema_of, run_files
from ..training.tracking import check_tracker
from .common import add_blocks, add_device, add_recipe, add_track, natural, positive, set_up_log

logger = logging.getLogger("mixacm")

EPILOG = """\
A recipe is a torchdistill YAML config. Relative paths in it are relative to the working folder.
The last checkpoint goes to the student's dst_ckpt, the best beside it as best_..., and
metrics.jsonl, one line an epoch, too.

examples:
  mixacm recipes copy quickstart/mixacm .
  torchdistill --config mixacm.yaml --seed 0
  torchdistill --config mixacm.yaml --set train.num_epochs=2 --run_log train.log
  torchdistill --config mixacm.yaml --resume
  torchrun --nproc_per_node 4 -m mixacm_plugin train --config mixacm.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the host's example script, and ours."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Train the student of a recipe, then test it on unattacked images."
    parser.epilog = EPILOG
    add_recipe(parser)
    add_device(parser)
    add_blocks(parser)
    parser.add_argument(
        "--run_log",
        metavar="FILE",
        help="also log to the end of this file, with torchdistill's lines",
    )
    parser.add_argument(
        "--start_epoch",
        type=natural,
        default=0,
        metavar="N",
        help="number of the first epoch, and nothing else",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=AUTO,
        metavar="FILE",
        help="resume an interrupted run from its checkpoint, by default from that in the run's "
        "folder; begin where there is none",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="put the run in the place of an earlier one, which is kept until the first "
        "checkpoint is written",
    )
    parser.add_argument(
        "--save_every",
        type=positive,
        metavar="N",
        help="also write the last checkpoint after every N steps of an epoch",
    )
    add_track(parser)
    _add_hosts_flags(parser)
    parser.set_defaults(run=run)


def _add_hosts_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the host's example script that aren't there yet."""
    parser.add_argument(
        "--seed", type=natural, help="of all random generators; makes a run on a CPU repeatable"
    )
    parser.add_argument("-test_only", action="store_true", help="don't train, only test dst_ckpt")
    parser.add_argument("-student_only", action="store_true", help="don't test the teacher")
    parser.add_argument(
        "-log_config", action="store_true", help="log the recipe with its overrides"
    )
    parser.add_argument("--world_size", type=int, default=1, help="no effect: torchrun sets it")
    parser.add_argument("--dist_url", default="env://", help="how the processes find each other")
    parser.add_argument(
        "-adjust_lr",
        action="store_true",
        help="multiply the learning rate by the number of processes",
    )
    parser.add_argument(
        "-disable_cudnn_benchmark", action="store_true", help="don't let cuDNN time its algorithms"
    )


def run(args: argparse.Namespace) -> None:
    """Train, then test."""
    device = init_process_group(choose_device(args.device), args.dist_url)
    set_up_log(None)
    cudnn.benchmark = not args.disable_cudnn_benchmark
    recipe = read_recipe(args.config, args.overrides)
    if args.test_only:
        set_up_log(args.run_log)
        _log_recipe(recipe, args)
    if args.test_only or _train(recipe, device, args):
        _test(recipe, device, student_only=args.student_only)
    leave_process_group()


def _train(recipe: Recipe, device: torch.device, args: argparse.Namespace) -> bool:
    """Train in a folder that no other training writes into; say whether it has its student."""
    if args.track:
        check_tracker(args.track)
    check_yaml(recipe)
    config = {"models": recipe.build("models"), "train": plain(recipe.root)["train"]}
    check_part(recipe, {"models": config["models"]})
    check_files(recipe, config, run_log=args.run_log, override_files=args.overrides)
    files = run_files(config)
    with held(recipe, files):
        checkpoint = checkpoint_to_resume(
            recipe, files, args.resume, seed=args.seed, overwrite=args.overwrite
        )
        set_up_log(args.run_log)
        _log_recipe(recipe, args)
        training = Training(recipe, device, args.seed, args.start_epoch, args.adjust_lr)
        if checkpoint is not None:
            training.resume(checkpoint)
        if training.distilled and not args.student_only:
            checkpoint_of(recipe, training.config, "teacher")  # or its test would fail at the end
        if training.finished and not _is_in(files.last.parent, checkpoint):
            logger.info(
                f"nothing to train: {checkpoint} is of the last epoch; {files.last} isn't written"
            )
            return False
        with noticed() as asked_to_stop:
            training.run(args.save_every, asked_to_stop, args.track)
    logger.info("last checkpoint: %s", training.last_ckpt)
    return True


def _is_in(folder: Path, file: str | None) -> bool:
    return file is not None and Path(file).expanduser().resolve().parent == folder.resolve()


def _log_recipe(recipe: Recipe, args: argparse.Namespace) -> None:
    if args.log_config:
        logger.info("%s\n%s", recipe.path, recipe.text())


def _test(recipe: Recipe, device: torch.device, *, student_only: bool) -> None:
    dataset = evaluation_dataset(recipe, collated=False)
    loader_config = recipe.build("test", "test_data_loader")
    config = {
        "models": recipe.build("models"),
        "test": {"test_data_loader": loader_config},
        "datasets": {loader_config["dataset_id"]: dataset},
    }
    for role, path in sections.model_sections(config).items():
        if role == "teacher" and student_only:
            continue
        name, n = path.removeprefix("models."), count(dataset)
        for title, checkpoint in _tested(config, role, path):
            model = load_model(recipe, role, checkpoint).to(device)
            loader = test_loader(recipe, config, model)
            try:
                shown = tqdm(
                    every_batch(loader),
                    f"testing {name}",
                    len(loader),
                    leave=False,
                    disable=not (sys.stderr.isatty() and is_main_process()),
                )
                first, *five = clean_accuracies(model, shown, device).values()
            except (UnsuitedModelError, TypeError) as error:
                if role == "teacher":  # of other classes, as in cifar100/mixacm
                    logger.info("%s: not tested: %s", name, error)
                    continue
                raise recipe.error(path, str(error)) from error
            except Exception as error:  # of any kind, by which a dataset refuses
                raise recipe.error(TEST, reason_of(error)) from error
            also = f" (top-5 {100 * five[0]:.2f} %)" if five else ""
            logger.info("%s%s: %.2f %% of %d test images%s", name, title, 100 * first, n, also)


def _tested(config: Mapping[str, Any], role: str, path: str) -> Iterator[tuple[str, str | None]]:
    """Yield which checkpoints of a model to test: of a student all that there are."""
    if role == "teacher":
        yield "", None
        return
    last = Path(sections.get(config, f"{path}.dst_ckpt")).expanduser()
    yield f", last checkpoint {last}", str(last)
    for title, file in (("best checkpoint", best_of(last)), ("moving average", ema_of(last))):
        if file.exists():
            yield f", {title} {file}", str(file)
