"""A study of two rows that takes seconds, and its runs made in this process."""

from collections.abc import Sequence
from pathlib import Path

import yaml

import recipes
from mixacm_plugin.common.files import recipe_file
from mixacm_plugin.reading.library import study_names
from mixacm_plugin.studies.execute import execute
from mixacm_plugin.studies.runs import Run
from mixacm_plugin.studies.study import Study, read_study
from mixacm_plugin.studies.tasks import prepare

LR = "train.optimizer.kwargs.lr"
WEIGHT = "train.criterion.kwargs.sub_terms.acm.weight"
REFERENCE = {"label": "paper", "columns": ["clean", "robust"]}


def studies() -> list[tuple[str, str | None]]:
    """Every shipped study at every scale."""
    files = {name: Path(recipe_file(name)).read_text(encoding="utf-8") for name in study_names()}
    scales = {name: yaml.safe_load(text).get("scales") or () for name, text in files.items()}
    return [(name, scale) for name in files for scale in (None, *scales[name])]


def write_study(**changes: object) -> Study:
    """A study of a clean and a PGD accuracy, with other values for some keys."""
    recipes.write()
    study = {
        "title": "A study",
        "base": "recipe.yaml",
        "seeds": [0],
        "evaluate": [{"attack": "clean"}, {"attack": "pgd", "eps": 0.1, "steps": 2, "n": 20}],
        "rows": [{"name": "one"}, {"name": "two", "set": {WEIGHT: 1.0e-5}}],
        **changes,
    }
    Path("study.yaml").write_text(yaml.safe_dump(study))
    return read_study("study.yaml")


def done_here(study: Study, runs: Sequence[Run]) -> None:
    """Make the runs without a process of their own."""
    for run in runs:
        execute(prepare(run, study, "cpu"))
