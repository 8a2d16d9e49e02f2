"""One run of a study: prepared in a folder, then executed there, in a process of its own."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch.utils.data import Dataset
from torchdistill.common.module_util import count_params

from ..attacks import Attack
from ..batches import drawn
from ..checkpoints import CheckpointError, load_checkpoint
from ..distributed import choose_device
from ..evaluation import evaluate, evaluation_dataset, load_model
from ..files import replacing, write_json
from ..metrics import read_lines
from ..modes import eval_mode
from ..plugins import load_plugins
from ..recipe import RecipeError, read_recipe
from ..rng import preserved_rng
from ..training import Training
from .runs import Run
from .study import Study

PACKAGES = ("mixacm-plugin", "torch", "torchvision", "torchdistill", "pyautoattack")


def is_done(run: Run, study: Study) -> bool:
    """Whether a run is trained and has all of the study's measurements."""
    accuracies = run.result.get("accuracies", {})
    return all(measurement.key in accuracies for measurement in study.measurements)


def prepare(run: Run, study: Study, device: str | None) -> Path:
    """Write down in a run's folder what ``execute`` needs; studies may share the folder.

    Returns:
        The task's file.
    """
    with replacing(run.folder / "recipe.yaml") as temporary:
        temporary.write_text(run.recipe.text(), encoding="utf-8")
    task = {
        "seed": run.seed,
        "device": device,
        "measurements": [
            {"attack": m.attack.settings(), "n": m.n, "key": m.key} for m in study.measurements
        ],
    }
    digest = hashlib.sha256(json.dumps(task).encode()).hexdigest()[:8]
    file = run.folder / f"task_{digest}.json"
    write_json(file, task)
    return file


def execute(task: str | os.PathLike[str]) -> None:
    """Do what is missing of a prepared run: train, or go on training, then measure.

    Only one process at a time is at a run: another, of a second study or one that outlived a
    killed study, is waited for, and what it finished isn't repeated.

    Args:
        task: file from ``prepare``; results go into ``result.json`` beside it.

    Raises:
        RecipeError: if the recipe can't be run.
    """
    load_plugins()  # a job of a cluster doesn't begin with a command
    folder = Path(task).parent
    with FileLock(folder / "lock"):
        _execute(folder, json.loads(Path(task).read_text()))


def _execute(folder: Path, task: Mapping[str, Any]) -> None:
    recipe = read_recipe(folder / "recipe.yaml")
    device = choose_device(task["device"])
    result_file = folder / "result.json"
    dataset = evaluation_dataset(recipe)
    for spec in task["measurements"]:  # before hours of training
        try:
            drawn(dataset, spec["n"], 0)
        except ValueError as error:
            raise recipe.error("test", f"{spec['attack']['name']}: {error}") from error
    if not result_file.exists():
        training = Training(recipe, device, task["seed"])
        _check_classes(training, dataset, task)
        if _can_resume(training.last_ckpt):
            training.resume(str(training.last_ckpt))
        training.run()
        write_json(result_file, _with_versions(_training_result(training)))
    result = json.loads(result_file.read_text())
    model = load_model(recipe)
    for spec in task["measurements"]:
        if spec["key"] not in result["accuracies"]:
            attack = Attack(**spec["attack"])
            accuracy = evaluate(model, dataset, attack, n=spec["n"], device=device)
            result["accuracies"][spec["key"]] = accuracy.to_json()
            write_json(result_file, _with_versions(result))


def _check_classes(training: Training, dataset: Dataset, task: Mapping[str, Any]) -> None:
    model = training.models["student"]
    with preserved_rng(), eval_mode(model):
        image = dataset[0][0].unsqueeze(0).to(training.device)
        for spec in task["measurements"]:
            try:
                Attack(**spec["attack"]).check_classes(model, image)
            except ValueError as error:
                raise training.recipe.error("test", str(error)) from error


def _with_versions(result: dict[str, Any]) -> dict[str, Any]:
    """Note the installed packages beside those of earlier training and measurements."""
    earlier = result.get("packages", {})
    packages = {n: sorted({*earlier.get(n, ()), version(n)}) for n in PACKAGES}
    return {**result, "packages": packages}


def _can_resume(checkpoint: Path) -> bool:
    try:
        return "epoch" in load_checkpoint(checkpoint)
    except CheckpointError:
        return False


def _training_result(training: Training) -> dict[str, Any]:
    lines = read_lines(training.metrics_file)
    teacher = training.models.get("teacher")
    return {
        "parameters": count_params(training.models["student"]),
        "teacher_parameters": None if teacher is None else count_params(teacher),
        "train_seconds": sum(line["seconds"] for line in lines),
        "accuracies": {},
    }


def main(task: str) -> int:
    """Execute a run in a process of its own; the last line printed says what went wrong."""
    try:
        execute(task)
    except RecipeError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
