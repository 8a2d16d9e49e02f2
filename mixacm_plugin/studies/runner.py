"""Run a study's rows and seeds, cached and resumable, and gather the results."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..common.packages import PACKAGES
from ..training.run_files import ema_of
from .launchers import Launcher
from .results import Results, RowResult, RunResult
from .runs import Run
from .study import Study
from .tasks import is_done, prepare


def run_all(
    study: Study,
    runs: Sequence[Run],
    launcher: Launcher,
    *,
    device: str | None = None,
    track: str | None = None,
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
        track: name of a tracker that is told of each run's epochs.
        report: called with a line when a run starts or ends.
        watch: called now and then with the active runs and how many are finished, of how many.
        poll_seconds: how often to look.

    Returns:
        Error messages of the failed runs, by key.
    """
    waiting = list({run.key: run for run in runs if not is_done(run, study)}.values())
    total = len(waiting)
    active: list[Run] = []
    errors: dict[str, str] = {}
    try:
        while waiting or active:
            begun = waiting[: launcher.jobs - len(active)]
            if begun:
                with launcher.together():
                    for run in begun:
                        launcher.submit(run, prepare(run, study, device, track))
                active, waiting = active + begun, waiting[len(begun) :]
                for run in begun:
                    report(f"started {run.label}")
            for run in [run for run in active if launcher.finished(run)]:
                active.remove(run)
                if is_done(run, study):
                    report(f"finished {run.label}: {_figures(run, study)}")
                else:
                    errors[run.key] = launcher.error(run)
                    report(f"failed {run.label}: {errors[run.key]}")
            if watch is not None:
                watch(active, total - len(waiting) - len(active), total)
            if active:
                time.sleep(poll_seconds)
    finally:
        launcher.stop()
    return errors


def collect(
    study: Study,
    runs: Sequence[Run],
    errors: Mapping[str, str],
    costs: Mapping[str, float] | None = None,
) -> Results:
    """Gather every figure with its setting, for a study's ``results.json``.

    Args:
        study: from ``read_study``.
        runs: from ``resolve``.
        errors: from ``run_all``.
        costs: from ``relative_costs``.
    """
    rows = []
    results = [run.result for run in runs]
    # Rows without a teacher, such as adversarial training, are compared with the others' teacher.
    teachers = (result.get("teacher_parameters") for result in results)
    a_teacher = next(filter(None, teachers), None)
    for row in study.rows:
        own = [(run, result) for run, result in zip(runs, results, strict=True) if run.row == row]
        first = next((result for _, result in own if result), {})
        parameters, teacher = first.get("parameters"), first.get("teacher_parameters") or a_teacher
        rows.append(
            RowResult(
                name=row.name,
                base=row.base,
                changes=own[0][0].changes,
                measure=row.measure,
                reference=row.reference,
                parameters=parameters,
                relative_cost=(costs or {}).get(row.name),
                size_ratio=parameters / teacher if parameters and teacher else None,
                runs=[_collect_run(run, result, study, errors.get(run.key)) for run, result in own],
            )
        )
    return Results(
        study=study.name,
        title=study.title,
        scale=study.scale,
        packages=_versions(results),
        reference=study.reference,
        plots=study.plots,
        rows=rows,
    )


def _versions(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the versions of packages that trained and measured, not those of now."""
    used = [result.get("packages", {}) for result in results]
    return {
        name: ", ".join(sorted({v for packages in used for v in packages.get(name, ())}))
        for name in PACKAGES
    }


def _collect_run(run: Run, result: Mapping[str, Any], study: Study, error: str | None) -> RunResult:
    accuracies = result.get("accuracies", {})
    done = is_done(run, study)
    key = study.sanity and study.sanity.key
    student = run.folder / "student.pt"
    measured = ema_of(student) if run.row.measure == "ema" else student
    return RunResult(
        seed=run.seed,
        status="done" if done else "failed" if error else "not run",
        error=None if done else error,
        train_seconds=result.get("train_seconds"),
        recipe_hash=run.key,
        checkpoint=None if run.seed is None else measured.as_posix(),
        test_images=result.get("test_images"),
        accuracies=[accuracies[m.key] for m in study.measurements if m.key in accuracies],
        sanity=result.get("sanity", {}).get(key, []),
    )


def _figures(run: Run, study: Study) -> str:
    if not study.measurements:
        last = run.epochs[-1]
        names = {"val_accuracy": "validation", "robust_val_accuracy": "robust"}
        figures = [f"{names[key]} {100 * last[key]:.1f} %" for key in names if key in last]
        return ", ".join([f"{last['epoch'] + 1} epochs", *figures])
    found = run.result["accuracies"]
    return ", ".join(
        f"{m.attack.short} {100 * found[m.key]['accuracy']:.1f} %" for m in study.measurements
    )
