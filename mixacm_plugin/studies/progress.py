"""What the runs of a study are at: a line a run on a terminal, and now and then one in a log."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import mean

from tqdm import tqdm

from .runs import Run, epochs_of
from .study import Study

logger = logging.getLogger("mixacm")

COLUMNS = 80  # nothing is wider
MOST = 10  # lines on a terminal
EVERY = 10.0  # seconds between lines in a log

Show = Callable[[Sequence[Run], int, int], None]


def state(run: Run, study: Study) -> str:
    """Say which epoch a run has done, of how many, or how far it is in which attack."""
    result, epochs = run.result, run.epochs
    if not result and run.row.measure != "teacher":
        if not epochs:
            return run.told or "starting"
        of = study.until_epoch or epochs_of(run.recipe)
        left = mean(line["seconds"] for line in epochs) * (of - len(epochs))
        return f"{run.told or f'epoch {len(epochs)}/{of}'}, {left:.0f} s to train"
    done = result.get("accuracies", {})
    if study.sanity and study.sanity.key in done.keys() - result.get("sanity", {}).keys():
        return f"sanity check of {study.sanity.attack.short}"
    names = [m.attack.short for m in study.measurements if m.key not in done]
    return run.told or f"measuring {names[0]}" if names else "ending"


def line(run: Run, study: Study) -> str:
    """Return a run's name and state, no wider than ``COLUMNS``; the name is cut."""
    told = f": {state(run, study)}"
    width = COLUMNS - len(told) - 1
    name = run.label if len(run.label) <= width else f"{run.label[: width - 1]}…"
    return f"{name}{told}"


@contextmanager
def shown(study: Study, jobs: int) -> Iterator[Show]:
    """Show what runs are at, while the block runs.

    Args:
        study: of the runs.
        jobs: how many run at a time.

    Yields:
        What takes the active runs and how many are finished, of how many.
    """
    if not sys.stderr.isatty():
        yield _in_a_log(study)
        return
    with ExitStack() as stack:
        bars = [
            stack.enter_context(tqdm(bar_format="{desc}", leave=False, position=position))
            for position in range(min(jobs, MOST) + 1)
        ]
        yield _on_a_terminal(study, bars)


def _on_a_terminal(study: Study, bars: Sequence[tqdm]) -> Show:
    started = time.monotonic()

    def show(active: Sequence[Run], finished: int, total: int) -> None:
        passed = time.monotonic() - started
        left = ""
        if finished:
            left = f", about {passed / finished * (total - finished) / 60:.0f} min left"
        texts = [f"{finished}/{total} finished, {passed:.0f} s so far{left}"]
        texts += [line(run, study) for run in active]
        texts += [""] * len(bars)
        for bar, text in zip(bars, texts, strict=False):
            bar.set_description_str(text)

    return show


def _in_a_log(study: Study) -> Show:
    last = time.monotonic()

    def show(active: Sequence[Run], finished: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            for run in active[:MOST]:
                logger.info(line(run, study))

    return show
