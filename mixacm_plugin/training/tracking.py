"""A run's epochs, told to a tracker such as TensorBoard while it trains."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torchdistill.common.main_util import is_main_process

from ..common.errors import UserError
from ..common.files import not_written
from ..reading.recipe import Recipe
from .metrics import lines_before
from .run_files import RunFiles

Record = Mapping[str, Any]  # a line of metrics.jsonl


class Tracker(Protocol):
    """What a tracker has to do. It is made with a run's folder and the first step to come.

    In that folder it goes on with the log that is there, whose steps from that one on don't count.
    """

    def __init__(self, folder: Path, first_step: int) -> None: ...

    @property
    def is_new(self) -> bool:
        """Whether there was no log yet."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers by name."""

    def text(self, name: str, content: str) -> None:
        """Log a text."""

    def close(self) -> None:
        """Write what isn't written yet."""


class TensorBoard:
    """Event files in the folder ``tensorboard`` of a run's folder."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # only here, since it takes a while

        own = folder / "tensorboard"
        self.is_new = not any(own.glob("events.out.tfevents.*"))
        self._writer = SummaryWriter(str(own), purge_step=None if self.is_new else first_step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers by name, to be seen at once."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def text(self, name: str, content: str) -> None:
        """Log a text, as it is."""
        self._writer.add_text(name, f"```yaml\n{content}\n```", 0)

    def close(self) -> None:
        """End the file."""
        self._writer.close()


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard}
NEEDED = {"tensorboard": "torch.utils.tensorboard"}  # modules of optional packages


def check_tracker(name: str) -> None:
    """Raise ``UserError`` if there is no such tracker, or its package isn't installed."""
    if name not in TRACKERS:
        raise UserError(f"track: expected {', '.join(TRACKERS)}; found {name!r}")
    try:
        __import__(NEEDED[name])
    except ImportError as error:
        hint = f"pip install 'mixacm-plugin[{name}]'"
        raise UserError(f"--track {name}: it isn't installed ({error}); {hint}") from error


@contextmanager
def tracked(
    name: str | None, recipe: Recipe, files: RunFiles, start_epoch: int
) -> Iterator[Callable[[Record], None]]:
    """Yield a function that tells a tracker of an epoch; it does nothing where there is none.

    The tracker's log begins with the first epoch that is done. It has the recipe and, where the
    run was not tracked before, its earlier epochs.

    Args:
        name: of the tracker, if there is to be one.
        recipe: of the run.
        files: of the run.
        start_epoch: with which the run begins or goes on.

    Raises:
        UserError: if there is no such tracker, or it can't be written.
    """
    if name is None:
        yield lambda _: None
        return
    check_tracker(name)
    kind = TRACKERS[name]
    tracker: Tracker | None = None

    def begin() -> Tracker:
        begun = kind(files.last.parent, start_epoch + 1 if start_epoch else 0)
        if begun.is_new or not start_epoch:
            begun.text("recipe", recipe.text())
        for record in lines_before(files.metrics, start_epoch) if begun.is_new else ():
            begun.scalars(record["epoch"] + 1, scalars_of(record))
        return begun

    def tell(record: Record) -> None:
        nonlocal tracker
        if not is_main_process():
            return
        try:
            tracker = tracker or begin()
            tracker.scalars(record["epoch"] + 1, scalars_of(record))
        except OSError as error:
            raise UserError(not_written(files.last.parent, error)) from error

    try:
        yield tell
    finally:
        if tracker is not None:
            tracker.close()


def scalars_of(record: Record) -> dict[str, float]:
    """Return the numbers of an epoch by names, of which those of loss terms have a slash."""
    numbers = {name: v for name, v in record.items() if name not in ("epoch", "terms")}
    return {**numbers, **{f"loss_terms/{term}": v for term, v in record["terms"].items()}}
