"""One run of a study, executed in its folder: trained, then measured."""

import hashlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor
from torch.backends import cudnn
from torchdistill.common.main_util import get_world_size, is_main_process
from torchdistill.common.module_util import count_params

from ..common.checkpoints import CheckpointError, load_checkpoint
from ..common.distributed import (
    choose_device,
    decided_by_first,
    init_process_group,
    leave_process_group,
)
from ..common.errors import UserError
from ..common.files import read_json, read_json_lines, write_json
from ..common.images import drawn, images_digest
from ..common.memory import keep_freed_memory
from ..common.packages import installed_versions
from ..common.signals import Stopped, end_with_parent, noticed
from ..common.state import eval_mode, preserved_rng
from ..evaluation.accuracy import evaluate
from ..evaluation.attacks import Attack, attack_of
from ..evaluation.sanity import sanity
from ..loading.datasets import evaluation_dataset
from ..loading.models import load_model
from ..reading.read import load_plugins, make_importable, read_recipe
from ..reading.recipe import Recipe
from ..training.loop import Training
from ..training.run_files import ema_of
from .runs import TOLD, is_measured

TOLD_EVERY = 1.0  # seconds


def execute(
    task: str | os.PathLike[str], parent: int | None = None, *, shared: bool = False
) -> None:
    """Do what is missing of a prepared run: train, or go on training, then measure.

    Only one process at a time is at a run: another, of a second study or one that outlived a
    killed study, is waited for, and what it finished isn't repeated.

    Args:
        task: file from ``prepare``; results go into ``result.json`` beside it.
        parent: number of the process with which this one ends, if it is to end with one.
        shared: the processes of the group that the environment tells of share the training, and
            the images that are attacked.

    Raises:
        RecipeError: if the recipe can't be run.
    """
    if parent is not None:
        end_with_parent(parent)
    load_plugins()  # a job of a cluster doesn't begin with a command
    keep_freed_memory()
    cudnn.benchmark = True  # as in the command that trains
    folder, settings = Path(task).parent, json.loads(Path(task).read_text())
    device = choose_device(settings["device"])
    if shared:
        device = init_process_group(device, "env://")
    lock = FileLock(folder / "lock")
    decided_by_first(lambda: bool(lock.acquire()))  # the others wait for the first
    try:
        _execute(folder, settings, device)
    finally:
        lock.release()
        if shared:
            leave_process_group()


def _execute(folder: Path, task: Mapping[str, Any], device: torch.device) -> None:
    make_importable(Path(task["imports"]))
    recipe = read_recipe(folder / "recipe.yaml")
    result_file = folder / "result.json"
    dataset = evaluation_dataset(recipe)
    attacks = [attack_of(spec["attack"]) for spec in task["measurements"]]
    for attack, spec in zip(attacks, task["measurements"], strict=True):  # before hours of training
        try:
            drawn(dataset, spec["n"], 0)
        except ValueError as error:
            raise recipe.error("test", f"{attack.name}: {error}") from error
    result = decided_by_first(lambda: read_json(result_file))
    images = decided_by_first(lambda: images_digest(dataset))
    if result is None:
        with _telling(folder / TOLD) as tell:
            trained = _trained(recipe, device, task, attacks, dataset[0][0], tell)
        if trained is None:
            return
        result = _write(result_file, {**trained, "test_images": images})
    elif result.get("test_images") != images and not is_measured(
        result, [spec["key"] for spec in task["measurements"]], task["sanity"]
    ):
        result = _without_figures(folder, result, images)
    role = "teacher" if task["measure"] == "teacher" else "student"
    average = str(ema_of(folder / "student.pt")) if task["measure"] == "ema" else None
    model = load_model(recipe, role, average)
    for attack, spec in zip(attacks, task["measurements"], strict=True):
        if spec["key"] not in result["accuracies"]:
            name = hashlib.sha256(spec["key"].encode()).hexdigest()[:8]
            state = folder / f"{name}-{get_world_size()}.state"
            with _telling(folder / TOLD) as tell:
                accuracy = evaluate(
                    model,
                    dataset,
                    attack,
                    n=spec["n"],
                    device=device,
                    progress=tell,
                    state=state,
                    distributed=get_world_size() > 1,
                )
            result["accuracies"][spec["key"]] = accuracy.to_json()
            result = _write(result_file, result)
            for file in folder.glob(f"{state.name}*"):
                file.unlink(missing_ok=True)
        if spec["key"] == task["sanity"] and spec["key"] not in result.setdefault("sanity", {}):
            lines = sanity(model, dataset, attack, device=device)
            result["sanity"][spec["key"]] = [line.to_json() for line in lines]
            result = _write(result_file, result)


def _without_figures(folder: Path, result: dict[str, Any], images: str) -> dict[str, Any]:
    """Leave out what was measured on other test images, beside which no new figure may stand."""
    for state in folder.glob("*.state*"):  # of an attack that was interrupted
        state.unlink(missing_ok=True)
    return {**result, "test_images": images, "accuracies": {}, "sanity": {}}


def _write(file: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Write a result by the first process, and return it.

    The installed packages are noted beside those of earlier training and measurements.
    """
    earlier = result.get("packages", {})
    packages = {n: sorted({*earlier.get(n, ()), v}) for n, v in installed_versions().items()}
    result = {**result, "packages": packages}
    decided_by_first(lambda: write_json(file, result))
    return result


@contextmanager
def _telling(file: Path) -> Iterator[Callable[[str], None]]:
    """Yield what writes a text into a file, for the study that looks; the file is removed."""
    last = -math.inf

    def tell(text: str) -> None:
        nonlocal last
        if not is_main_process() or time.monotonic() - last < TOLD_EVERY:
            return
        last = time.monotonic()
        with suppress(OSError):  # a full disk is no reason to end an attack
            file.write_text(text, encoding="utf-8")

    try:
        yield tell
    finally:
        with suppress(OSError):  # Windows keeps a file that is just being read
            file.unlink(missing_ok=True)


def _trained(
    recipe: Recipe,
    device: torch.device,
    task: Mapping[str, Any],
    attacks: Sequence[Attack],
    image: Tensor,
    tell: Callable[[str], None],
) -> dict[str, Any] | None:
    """Train, or take the teacher as it is; return the result without figures.

    It is nothing if the run is paused before its end, where the task says so.
    """
    if task["measure"] == "teacher":
        parameters = count_params(load_model(recipe, "teacher"))
        return {"parameters": parameters, "teacher_parameters": parameters, "accuracies": {}}
    training = Training(recipe, device, task["seed"])
    student, images = training.models["student"], image.unsqueeze(0).to(device)
    try:
        with preserved_rng(), eval_mode(student):
            for attack in attacks:
                attack.check_model(student, images)
    except ValueError as error:
        raise recipe.error("test", str(error)) from error
    if decided_by_first(lambda: _can_resume(training.last_ckpt)):
        training.resume(str(training.last_ckpt))
    if not _train_until(training, task["until_epoch"], task["track"], tell):
        return None
    teacher = training.models.get("teacher")
    return {
        "parameters": count_params(student),
        "teacher_parameters": None if teacher is None else count_params(teacher),
        "train_seconds": sum(line["seconds"] for line in read_json_lines(training.metrics_file)),
        "accuracies": {},
    }


def _train_until(
    training: Training, epoch: int | None, track: str | None, tell: Callable[[str], None]
) -> bool:
    """Train to the end or until an epoch's checkpoint is written; return whether to the end."""

    def at_its_end() -> bool:
        saved = training.writer.last_saved  # counted from 0
        return epoch is not None and saved is not None and saved + 1 >= epoch

    with noticed() as asked_to_stop:
        if at_its_end():
            return False
        try:
            # Stopped as by a signal, and resumed likewise: bit for bit.
            training.run(
                asked_to_stop=lambda: asked_to_stop() or at_its_end() * signal.SIGTERM,
                track=track,
                say=tell,
            )
        except Stopped:
            if asked_to_stop():
                raise
            return False
    return True


def _can_resume(checkpoint: Path) -> bool:
    try:
        return "epoch" in load_checkpoint(checkpoint)
    except CheckpointError:
        return False


def execute_logged(task: Path, log: Path, environment: Mapping[str, str]) -> None:
    """Execute a run in a process of its own; the last line logged says what went wrong.

    It ends with the process that started it, which is also the one that Ctrl-C is for.

    Args:
        task: file from ``prepare``.
        log: file to which is added what the process prints.
        environment: variables for this process, which may come from one that began earlier.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    with log.open("ab") as file:
        for printed in (1, 2):
            os.dup2(file.fileno(), printed)
    os.environ.clear()
    os.environ.update(environment)
    with suppress(ValueError, RuntimeError):  # of what OpenMP doesn't take for a number either
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"].split(",")[0]))
    try:
        execute(task)
    except UserError as error:
        print("; ".join(error.lines()))
        sys.exit(2)
    except Stopped as stopped:
        print(stopped)
        sys.exit(stopped.code)
