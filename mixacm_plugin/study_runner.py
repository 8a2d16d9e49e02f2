"""Run a study: each row and seed in a process of its own, cached, resumable."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoints import CheckpointError, load_checkpoint
from .distributed import choose_device
from .evaluation import Attack, evaluate, evaluation_dataset, load_model
from .recipe import RecipeError, read_recipe
from .study import Measurement, Run, Study
from .training import Training

PACKAGES = ("mixacm-plugin", "torch", "torchvision", "torchdistill", "pyautoattack")


def is_done(run: Run, study: Study) -> bool:
    """Whether a run is trained and has all of the study's measurements."""
    accuracies = run.result.get("accuracies", {})
    return all(measurement.key in accuracies for measurement in study.measurements)


def prepare(run: Run, study: Study, device: str | None) -> None:
    """Write down in a run's folder what ``execute`` needs."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "recipe.yaml").write_text(run.recipe.text(), encoding="utf-8")
    task = {
        "seed": run.seed,
        "device": device,
        "measurements": [
            {"attack": asdict(m.attack), "n": m.n, "key": m.key} for m in study.measurements
        ],
    }
    _write(run.folder / "task.json", task)


def execute(folder: str | os.PathLike[str]) -> None:
    """Do what is missing of a prepared run: train, or go on training, then measure.

    Args:
        folder: the run's, from ``prepare``; results go into its ``result.json``.

    Raises:
        RecipeError: if the recipe can't be run.
    """
    folder = Path(folder)
    task = json.loads((folder / "task.json").read_text())
    recipe = read_recipe(folder / "recipe.yaml")
    device = choose_device(task["device"])
    result_file = folder / "result.json"
    if not result_file.exists():
        training = Training(recipe, device, task["seed"])
        if _can_resume(training.last_ckpt):
            training.resume(str(training.last_ckpt))
        training.run()
        _write(result_file, _training_result(training))
    result = json.loads(result_file.read_text())
    model, dataset = load_model(recipe), evaluation_dataset(recipe)
    for spec in task["measurements"]:
        if spec["key"] not in result["accuracies"]:
            attack = Attack(**spec["attack"])
            accuracy = evaluate(model, dataset, attack, n=spec["n"], device=device)
            result["accuracies"][spec["key"]] = accuracy.to_json()
            _write(result_file, result)


def _can_resume(checkpoint: Path) -> bool:
    try:
        return "epoch" in load_checkpoint(checkpoint)
    except CheckpointError:
        return False


def _training_result(training: Training) -> dict[str, Any]:
    lines = [json.loads(line) for line in training.metrics_file.read_text().splitlines()]
    images = sum(line["images_per_second"] for line in lines) / len(lines)
    teacher = training.models.get("teacher")
    return {
        "parameters": _parameters(training.models["student"]),
        "teacher_parameters": None if teacher is None else _parameters(teacher),
        "train_seconds": sum(line["seconds"] for line in lines),
        "seconds_per_step": training.box.train_data_loader.batch_size / images,
        "accuracies": {},
    }


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _write(file: Path, content: Any) -> None:
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, file)


class Processes:
    """Launcher that runs a process for each run on this machine.

    Args:
        jobs: how many at a time; on a CPU they share its cores.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self.running: dict[Path, subprocess.Popen[bytes]] = {}

    def submit(self, run: Run) -> None:
        """Start a run."""
        threads = str(max(1, (os.cpu_count() or 1) // self.jobs))
        code = (
            "import sys; from mixacm_plugin.study_runner import main; sys.exit(main(sys.argv[1]))"
        )
        with (run.folder / "log.txt").open("wb") as log:
            self.running[run.folder] = subprocess.Popen(
                [sys.executable, "-c", code, str(run.folder)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"OMP_NUM_THREADS": threads, **os.environ},
            )

    def finished(self, run: Run) -> bool:
        """Whether a submitted run has ended, well or not."""
        return self.running[run.folder].poll() is not None

    def error(self, run: Run) -> str:
        """Last line that a failed run printed."""
        log = (run.folder / "log.txt").read_text(errors="replace").strip().splitlines()
        return log[-1] if log else f"exit code {self.running[run.folder].returncode}"

    def stop(self) -> None:
        """End what is still running."""
        for process in self.running.values():
            process.terminate()


class Cluster:
    """Launcher that submits each run as a job through submitit.

    Args:
        folder: for submitit's files.
        cluster: ``slurm``, or ``local`` for submitit's own processes on this machine.
        parameters: of submitit's executor, such as ``slurm_partition``.

    Raises:
        RecipeError: if submitit isn't installed.
    """

    def __init__(self, folder: Path, cluster: str, parameters: dict[str, Any]) -> None:
        try:
            import submitit
        except ImportError:
            message = "needs submitit; pip install 'mixacm-plugin[cluster]'"
            raise RecipeError("", "--launcher", message) from None
        self.jobs = 10**6  # the cluster queues
        self.executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        self.executor.update_parameters(**{"timeout_min": 24 * 60, **parameters})
        self.running: dict[Path, Any] = {}

    def submit(self, run: Run) -> None:
        """Queue a run."""
        self.running[run.folder] = self.executor.submit(execute, str(run.folder))

    def finished(self, run: Run) -> bool:
        """Whether a submitted run has ended, well or not."""
        return self.running[run.folder].done()

    def error(self, run: Run) -> str:
        """Last line of a failed run's exception."""
        return (str(self.running[run.folder].exception()).strip().splitlines() or ["failed"])[-1]

    def stop(self) -> None:
        """Cancel what is still queued or running."""
        for job in self.running.values():
            job.cancel()


Launcher = Processes | Cluster


def run_all(
    study: Study,
    runs: Sequence[Run],
    launcher: Launcher,
    *,
    device: str | None = None,
    report: Callable[[str], None] = print,
    watch: Callable[[list[Run], int, int], None] | None = None,
    poll_seconds: float = 0.5,
) -> dict[str, str]:
    """Run what isn't done; failures are reported and don't stop the others.

    Args:
        study: says what to measure.
        runs: from ``resolve``; equal ones run once.
        launcher: where to run.
        device: name of the device, by default CUDA where there is one.
        report: called with a line when a run starts or ends.
        watch: called now and then with the active runs and how many are finished, of how many.
        poll_seconds: how often to look.

    Returns:
        Error messages of the failed runs, by key.
    """
    waiting = list({run.key: run for run in runs if not is_done(run, study)}.values())
    total, active, errors = len(waiting), [], {}
    try:
        while waiting or active:
            while waiting and len(active) < launcher.jobs:
                run = waiting.pop(0)
                prepare(run, study, device)
                launcher.submit(run)
                active.append(run)
                report(f"started {run.row.name}, seed {run.seed}")
            for run in [run for run in active if launcher.finished(run)]:
                active.remove(run)
                if is_done(run, study):
                    report(f"finished {run.row.name}, seed {run.seed}")
                else:
                    errors[run.key] = launcher.error(run)
                    report(f"failed {run.row.name}, seed {run.seed}: {errors[run.key]}")
            if watch is not None:
                watch(active, total - len(waiting) - len(active), total)
            if active:
                time.sleep(poll_seconds)
    finally:
        launcher.stop()
    return errors


def epochs_done(run: Run) -> int:
    """Epochs that a run has trained so far."""
    file = run.folder / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def collect(study: Study, runs: Sequence[Run], errors: dict[str, str]) -> dict[str, Any]:
    """Gather every figure with its setting: the content of a study's ``results.json``."""
    rows = []
    # Rows without a teacher, such as adversarial training, are compared with the others' teacher.
    teachers = [run.result.get("teacher_parameters") for run in runs]
    a_teacher = next(filter(None, teachers), None)
    for row in study.rows:
        own = [run for run in runs if run.row == row]
        results = [run.result for run in own]
        first = next((result for result in results if result), {})
        parameters, teacher = first.get("parameters"), first.get("teacher_parameters") or a_teacher
        rows.append(
            {
                "name": row.name,
                "overrides": row.overrides,
                "reference": row.reference,
                "parameters": parameters,
                "size_ratio": parameters / teacher if parameters and teacher else None,
                "runs": [
                    _collect_run(run, result, study.measurements, errors.get(run.key))
                    for run, result in zip(own, results, strict=True)
                ],
            }
        )
    return {
        "study": study.name,
        "title": study.title,
        "scale": study.scale,
        "packages": {name: version(name) for name in PACKAGES},
        "reference": study.reference,
        "plots": study.plots,
        "rows": rows,
    }


def _collect_run(
    run: Run, result: dict[str, Any], measurements: Sequence[Measurement], error: str | None
) -> dict[str, Any]:
    accuracies = result.get("accuracies", {})
    done = all(measurement.key in accuracies for measurement in measurements)
    return {
        "seed": run.seed,
        "status": "done" if done else "failed",
        "error": None if done else error or "not run",
        "train_seconds": result.get("train_seconds"),
        "seconds_per_step": result.get("seconds_per_step"),
        "recipe_hash": run.key,
        "command": run.command,
        "accuracies": [accuracies[m.key] for m in measurements if m.key in accuracies],
    }


def main(folder: str) -> int:
    """Execute a run in a process of its own; the last line printed says what went wrong."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        execute(folder)
    except RecipeError as error:
        print(error)
        return 2
    return 0
