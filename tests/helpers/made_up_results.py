"""A study's results.json with round figures, to compare tables and pictures with."""

import json
from pathlib import Path
from typing import Any

from mixacm_plugin.studies.results import Results

WEIGHT = "train.criterion.kwargs.sub_terms.acm.weight"
SIZE = "models.student_model.kwargs"
LABEL = "paper, WRN-34-10 (attack not stated)"


def accuracy(name: str, correct: int, clean: int, n: int, **attack: Any) -> dict[str, Any]:
    ball = {} if name == "clean" else {"norm": "Linf", "eps": "0.15"}
    pgd = {"steps": 20, "step_size": "0.02", "restarts": 1} if name == "pgd" else {}
    return {
        "attack": {"name": name, **ball, **pgd, **attack},
        "correct": correct,
        "clean_correct": clean,
        "n": n,
        "seed": 0,
        "accuracy": correct / n,
        "clean_accuracy": clean / n,
        "interval_95": [0.0, 1.0],
    }


def done(seed: int, clean: int, pgd: int, **more: Any) -> dict:
    """A run with so many of 500 images right."""
    return {
        "seed": seed,
        "status": "done",
        "error": None,
        "train_seconds": 30.4,
        "recipe_hash": "0123456789abcdef",
        "accuracies": [accuracy("clean", clean, clean, 500), accuracy("pgd", pgd, clean, 500)],
        **more,
    }


def failed(seed: int, error: str = "recipe.yaml: train: the loss became nan") -> dict[str, Any]:
    run = done(seed, 0, 0)
    empty = {"train_seconds": None, "accuracies": []}
    return {**run, **empty, "status": "failed", "error": error}


def not_run(seed: int) -> dict[str, Any]:
    return {**failed(seed), "status": "not run", "error": None}


def row(
    name: str, runs: list[dict], overrides: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "base": "recipe.yaml",
        "changes": [overrides] if overrides else [],
        "reference": None,
        "parameters": 77_000,
        "size_ratio": 1.0,
        "relative_cost": 1.0 if runs and runs[0]["status"] == "done" else None,
        **more,
        "runs": runs,
    }


def results(rows: list[dict] | None = None, **more: Any) -> dict[str, Any]:
    """A study of three finished rows and a failed one, three seeds each, or of other rows."""
    if rows is None:
        full = [done(0, 490, 335), done(1, 488, 340), done(2, 491, 330)]
        no_kd = [done(0, 495, 300), done(1, 490, 310), failed(2)]
        rows = [
            row("full", full, overrides={WEIGHT: 200}, reference=[90.76, 56.65]),
            row("no KD", no_kd, overrides={WEIGHT: 20}, reference=[92.5, 52.29], size_ratio=0.25),
            row(
                "no ACM",
                [done(seed, 485, 200) for seed in range(3)],
                overrides={WEIGHT: 0},
                relative_cost=0.8,
                size_ratio=0.05,
            ),
            row("diverged", [failed(s) for s in range(3)], overrides={WEIGHT: 2e5}),
        ]
    return {
        "format": 2,
        "study": "components",
        "title": "Components on digits",
        "scale": None,
        "packages": {"mixacm-plugin": "0.1.0", "torch": "2.12.0"},
        "reference": {"label": LABEL, "columns": ["clean", "robust"]},
        "plots": [{"kind": "bars"}],
        "rows": rows,
        **more,
    }


def sizes() -> dict[str, Any]:
    """A study of depth by width, a seed each."""
    rows = [
        row(
            f"{depth}-{width}",
            [done(0, 300 + depth + width, 100 + depth + width)],
            # A whole mapping overridden, as a study may have it.
            overrides={SIZE: {"depth": depth, "width": width, "num_classes": 10}},
            size_ratio=depth * width / 280,
        )
        for depth in (10, 16, 28)
        for width in (1, 10)
    ]
    depth_width = {"kind": "depth_width", "depth": f"{SIZE}.depth", "width": f"{SIZE}.width"}
    return results(rows, reference=None, plots=[depth_width, {"kind": "size_ratio"}])


def made(content: dict[str, Any]) -> Results:
    """The same as it is read from a file."""
    return Results.model_validate(content)


def write(content: dict[str, Any], folder: str = "study") -> Path:
    """Write results to a study's folder."""
    path = Path(folder)
    path.mkdir(exist_ok=True)
    (path / "results.json").write_text(json.dumps(content), encoding="utf-8")
    return path


def epoch(number: int, more: dict[str, Any] | None = None, **terms: float) -> str:
    """A line of metrics.jsonl."""
    loss = sum(terms.values())
    metrics = {"epoch": number, "loss": loss, "terms": terms, "lr": 0.1, "val_accuracy": 0.5}
    return json.dumps({**metrics, "best_val_accuracy": 0.5, "seconds": 1.0, **(more or {})}) + "\n"


def metrics(folder: str, text: str) -> str:
    """Write a run's metrics."""
    Path(folder).mkdir(parents=True)
    Path(folder, "metrics.jsonl").write_text(text)
    return folder
