"""What a training step of a row costs, relative to the first row's."""

import logging
import time
from collections.abc import Callable, Sequence
from statistics import median
from types import MethodType

import torch
from filelock import FileLock

from ..common.files import read_json, write_json
from ..common.images import unpack
from ..reading import sections
from ..training.boxes import skip_stage
from ..training.loop import Training
from .runs import Run
from .study import Study

logger = logging.getLogger("mixacm")

STEPS = 5  # timed together
SECONDS = 6.0  # for a pair of rows, after at least three rounds


def relative_costs(study: Study, runs: Sequence[Run], device: torch.device) -> dict[str, float]:
    """Time the rows' training steps against the first row's.

    Machines are noisy and runs disturb each other, so times of different runs can't be compared;
    here both recipes take turns in one process. Measured ratios are cached with the run.

    Args:
        study: whose rows are compared; those without a result are left out.
        runs: from ``resolve``.
        device: where to train.

    Returns:
        Row name to seconds per step, as a multiple of the first row's.
    """
    first, *others = (next(run for run in runs if run.row == row) for row in study.rows)
    if first.row.measure == "teacher" or not first.result:
        return {}
    costs = {first.row.name: 1.0}
    for run in others:
        if run.row.measure == "teacher" or not run.result:
            continue
        key, file = f"{first.key} on {device.type}", run.folder / "costs.json"
        known = read_json(file) or {}
        if key not in known:
            try:
                ratio = _ratio(run, first, device)
            except Exception as error:  # the row's accuracies are there all the same
                logger.warning(f"the cost of {run.row.name!r} can't be measured: {error}")
                continue
            with FileLock(run.folder / "costs.lock"):  # another study may add its own
                known = {**(read_json(file) or {}), key: ratio}
                write_json(file, known)
        costs[run.row.name] = known[key]
    return costs


def _ratio(run: Run, first: Run, device: torch.device) -> float:
    if run.key == first.key:
        return 1.0
    steps, first_steps = stage_steps(run, device), stage_steps(first, device)
    ratios: list[float] = []
    started = time.perf_counter()
    while len(ratios) < 4 or time.perf_counter() - started < SECONDS:
        ratios.append(seconds_of(steps, device) / seconds_of(first_steps, device))
    return median(ratios[1:])  # the first warms up


def stage_steps(run: Run, device: torch.device) -> list[tuple[float, Callable[[], None]]]:
    """Return a training step of each stage of a run, with the stage's share of the epochs.

    Args:
        run: whose recipe has the stages.
        device: where to train.
    """
    config = {"train": run.recipe.build("train")}
    epochs = sections.stage_epochs(config)
    return [(n / sum(epochs), _stepper(run, device, stage)) for stage, n in enumerate(epochs)]


def _stepper(run: Run, device: torch.device, stages_before: int) -> Callable[[], None]:
    box = Training(run.recipe, device, run.seed).box
    for _ in range(stages_before):
        skip_stage(box)
    # The host keeps a recipe's processes on the box's class, where the next box replaces them.
    box.post_forward_process = MethodType(type(box).post_forward_process, box)
    box.pre_epoch_process(epoch=0)
    batch = unpack(next(iter(box.train_data_loader)), device)

    def step() -> None:
        box.post_forward_process(loss=box.forward_process(*batch))

    return step


def seconds_of(steps: list[tuple[float, Callable[[], None]]], device: torch.device) -> float:
    """Time ``STEPS`` steps of each stage; return their mean, weighted by the stages' shares.

    Args:
        steps: from ``stage_steps``.
        device: where they train.
    """
    seconds = 0.0
    for share, step in steps:
        started = time.perf_counter()
        for _ in range(STEPS):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds += share * (time.perf_counter() - started)
    return seconds
