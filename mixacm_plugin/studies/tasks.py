"""What one run of a study has to do: checked, and written down in its folder."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from ..common.errors import RecipeError
from ..common.files import replacing, write_json
from ..common.images import drawn
from ..loading.datasets import evaluation_dataset
from ..reading.nodes import children_of, plain, walk
from ..reading.read import folder_of
from .runs import Run, is_measured
from .study import Study


def is_done(run: Run, study: Study) -> bool:
    """Whether a run is trained, as far as the study asks, and has all of its measurements."""
    result = run.result
    if not result:
        return study.until_epoch is not None and len(run.epochs) >= study.until_epoch
    sanity = study.sanity.key if study.sanity is not None else None
    return is_measured(result, [m.key for m in study.measurements], sanity)


def check_numbers_of_images(study: Study, runs: Sequence[Run]) -> None:
    """Compare each ``n`` with the test images, where nothing is downloaded for that.

    Raises:
        RecipeError: if there are fewer.
    """
    known: set[str] = set()
    for run in runs:
        parts = children_of(run.recipe.root)
        data = {name: parts[name] for name in ("datasets", "test") if name in parts}
        text = "".join(map(yaml.serialize, data.values()))
        nodes = [each for part in data.values() for each in walk(part)]
        if text in known or any(p.endswith(".download") and plain(n) for p, n in nodes):
            continue
        known.add(text)
        try:
            dataset = evaluation_dataset(run.recipe)
        except RecipeError:  # data that isn't here; the run itself will tell
            continue
        for index, measurement in enumerate(study.measurements):
            try:
                drawn(dataset, measurement.n, 0)
            except ValueError as error:
                message = f"row {run.row.name!r}: {error}"
                raise study.error(f"evaluate.{index}", message) from error


def prepare(run: Run, study: Study, device: str | None, track: str | None = None) -> Path:
    """Write down in a run's folder what ``execute`` needs; studies may share the folder.

    Args:
        run: of the study.
        study: says what to measure.
        device: name of the device, by default CUDA where there is one.
        track: name of a tracker.

    Returns:
        The task's file.
    """
    with replacing(run.folder / "recipe.yaml") as temporary:
        temporary.write_text(run.recipe.text(), encoding="utf-8")
    task = {
        "seed": run.seed,
        "measure": run.row.measure,
        "device": device,
        "track": track,
        "measurements": [
            {"attack": m.attack.settings(), "n": m.n, "key": m.key} for m in study.measurements
        ],
        "sanity": study.sanity and study.sanity.key,
        "until_epoch": study.until_epoch,
        "imports": str(folder_of(run.row.base)),
    }
    digest = hashlib.sha256(json.dumps(task).encode()).hexdigest()[:8]
    file = run.folder / f"task_{digest}.json"
    write_json(file, task)
    return file
